package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * All trained matrices in one flat buffer, their gradients in a second one. So the global norm is one reduction, the
 * optimizer one call, and paging and 8-bit states work at small ranks too.
 */
public final class TrainableParameters implements AutoCloseable {
    /** Every matrix starts at a multiple of this: one block of the 8-bit optimizers, 1 KiB in fp32. */
    private static final int ALIGNMENT = 256;

    private final Device device;
    private final Scope scope;
    private final Tensor values;
    private final Tensor gradients;
    private final List<Parameter> parameters;

    /**
     * A matrix to be trained.
     *
     * @param name its name in adapter_model.safetensors
     */
    record Spec(String name, int rows, int cols) {}

    @SuppressWarnings("MustBeClosedChecker") // the scope is a field, closed with this
    TrainableParameters(Device device, List<Spec> specs) {
        this.device = device;
        long padded = 0;
        for (Spec spec : specs) {
            padded = Math.addExact(padded, padded(spec));
        }
        if (padded > Integer.MAX_VALUE) {
            throw new IllegalArgumentException("too many trained parameters: " + padded + " with padding, at most "
                    + Integer.MAX_VALUE + "; lower the rank");
        }
        scope = device.newScope();
        try {
            values = scope.newPrecise(1, (int) padded);
            gradients = scope.newPrecise(1, (int) padded);
            device.ops().fill(values, 0);
            device.ops().fill(gradients, 0);
            List<Parameter> list = new ArrayList<>();
            int at = 0;
            for (Spec spec : specs) {
                list.add(new Parameter(spec.name, view(values, at, spec), view(gradients, at, spec)));
                at += (int) padded(spec);
            }
            parameters = List.copyOf(list);
        } catch (RuntimeException | Error e) {
            scope.close();
            throw e;
        }
    }

    private static long padded(Spec spec) {
        long numel = (long) spec.rows * spec.cols;
        return (numel + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }

    private static Tensor view(Tensor flat, int at, Spec spec) {
        return flat.cols(at, Math.multiplyExact(spec.rows, spec.cols)).reshape(spec.rows, spec.cols);
    }

    /** All values [1, padded count]; the padding is and stays 0. */
    public Tensor values() {
        return values;
    }

    /** All gradients [1, padded count]. */
    public Tensor gradients() {
        return gradients;
    }

    /**
     * The single matrices as they lie in memory: module by module in the order of a forward pass, all A of one first.
     */
    public List<Parameter> parameters() {
        return parameters;
    }

    /** A parameter's values on the host, in row order. */
    public float[] download(Parameter parameter) {
        float[] host = new float[Math.toIntExact(parameter.value().numel())];
        device.download(parameter.value(), host, 0);
        return host;
    }

    /** Number of trained values, without padding. */
    public long count() {
        return parameters.stream().mapToLong(p -> p.value().numel()).sum();
    }

    /** Sets all gradients to 0. */
    public void zeroGradients() {
        device.ops().fill(gradients, 0);
    }

    @Override
    public void close() {
        scope.close();
    }
}
