package org.qlora4j.optim;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.TrainableParameters;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerState.EightBit;
import org.qlora4j.nf4.device.OptimizerState.Full;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Steps all trained parameters and owns the state that takes. The parameters lie in one flat buffer, so bitsandbytes'
 * rules of size count for all of them together: an adapter of 4,096 values or more has 8-bit state in all its matrices,
 * also in those that are smaller. No block crosses from one matrix to the next.
 */
public final class Optimizer implements AutoCloseable {
    /** Smaller state is never 8-bit, as in bitsandbytes. */
    public static final int MIN_8BIT_SIZE = 4096;

    /** Smaller state is never paged, as in bitsandbytes. */
    public static final int MIN_PAGED_SIZE = 100_000;

    private final Device device;
    private final TrainableParameters parameters;
    private final OptimizerConfig config;
    private final List<ParameterGroups.Group> groups;
    private final Scope scope;
    private final OptimizerState state;
    private long steps;

    /**
     * An optimizer with state in plain memory.
     *
     * @throws IllegalArgumentException if the configuration is paged
     */
    public Optimizer(Device device, TrainableParameters parameters, OptimizerConfig config) {
        this(device, parameters, config, null);
    }

    /** @param pageFolder where paged state may go to disk; only needed for a paged one */
    // the state's scope is a field, closed with the optimizer
    @SuppressWarnings("MustBeClosedChecker")
    public Optimizer(Device device, TrainableParameters parameters, OptimizerConfig config, @Nullable Path pageFolder) {
        this.device = device;
        this.parameters = parameters;
        this.config = config;
        groups = ParameterGroups.of(parameters, config.loraPlusLrRatio());
        int n = parameters.values().cols();
        OptimizerConfig.Layout layout = config.layout();
        if (layout.paged() && pageFolder == null) {
            throw new IllegalArgumentException("a paged optimizer needs a folder for its pages");
        }
        scope = pageFolder != null && layout.paged() && n >= MIN_PAGED_SIZE
                ? device.newPagedScope(pageFolder)
                : device.newScope();
        try {
            state = layout.eightBit() && n >= MIN_8BIT_SIZE
                    ? EightBit.allocate(scope, config.rule(), n, layout.rounding())
                    : Full.allocate(scope, config.rule(), n);
            if (!scope.isPaged()) {
                parts().values().forEach(this::zero);
            }
        } catch (RuntimeException | Error e) {
            scope.close();
            throw e;
        }
    }

    private void zero(Tensor t) {
        for (Tensor piece : StateFile.pieces(t)) {
            device.upload(piece, StateFile.bytes(piece), 0);
        }
    }

    /** The state's tensors by name: state1 and state2, with 8 bits also absmax1 and absmax2. */
    Map<String, Tensor> parts() {
        Map<String, Tensor> parts = new LinkedHashMap<>();
        parts.put("state1", state.state1());
        parts.put("state2", state.state2());
        if (state instanceof EightBit eightBit) {
            parts.put("absmax1", eightBit.absmax1());
            parts.put("absmax2", eightBit.absmax2());
        }
        return parts;
    }

    /** The gradients' joint norm, before clipping. */
    public double gradientNorm() {
        return Math.sqrt(device.ops().sumOfSquares(parameters.gradients()));
    }

    /**
     * One step; the gradients stay as they are.
     *
     * @return the gradients' joint norm before clipping
     * @throws ArithmeticException if the norm is not finite; nothing has changed then
     */
    public double step(double learningRate) {
        double norm = gradientNorm();
        step(learningRate, norm);
        return norm;
    }

    /** As {@link #step(double)}, for a caller that has asked for the norm. */
    public void step(double learningRate, double gradientNorm) {
        if (!Double.isFinite(gradientNorm)) {
            throw new ArithmeticException("the gradients' norm is " + gradientNorm);
        }
        double clip = config.maxGradNorm() == 0 ? 1 : Math.min(1, config.maxGradNorm() / (gradientNorm + 1e-6));
        steps++;
        for (ParameterGroups.Group group : groups) {
            device.ops()
                    .optimizerStep(
                            parameters.values().cols(group.first(), group.count()),
                            parameters.gradients().cols(group.first(), group.count()),
                            state.range(group.first(), group.count()),
                            new OptimizerStep(config.rule(), steps, learningRate * group.rateFactor(), clip));
        }
    }

    /** Steps taken. */
    public long steps() {
        return steps;
    }

    /** Bytes of state. */
    public long stateBytes() {
        return parts().values().stream()
                .mapToLong(t -> t.numel() * t.dtype().bytes())
                .sum();
    }

    /** Writes steps and state as safetensors. */
    public void save(Path file) {
        StateFile.write(device, file, description(), order(), steps, parts());
    }

    /**
     * Takes up steps and state of a saved optimizer of the same rule, layout and size.
     *
     * @throws org.qlora4j.nf4.file.ModelFormatException if the file is damaged or of another optimizer
     */
    public void load(Path file) {
        steps = StateFile.read(device, file, description(), order(), parts());
    }

    /** What must be equal for state to fit: the kind of rule and the rounding, not its constants. */
    private String description() {
        String rule = config.rule().getClass().getSimpleName();
        return state instanceof EightBit eightBit
                ? rule + " 8-bit " + eightBit.rounding()
                : rule + " " + device.preciseType();
    }

    /** Stands for the names of the parameters as they lie in memory, which is how their state does. */
    String order() {
        CRC32C sum = new CRC32C();
        parameters.parameters().forEach(p -> sum.update((p.name() + "\n").getBytes(StandardCharsets.UTF_8)));
        return Long.toHexString(sum.getValue());
    }

    @Override
    public void close() {
        scope.close();
    }
}
