package org.qlora4j.nf4.device.cuda;

import org.qlora4j.bindings.CudaBitsAndBytes;
import org.qlora4j.bindings.CudaBitsAndBytes.Rule;
import org.qlora4j.bindings.CudaBitsAndBytes.State8;
import org.qlora4j.bindings.CudaBitsAndBytes.Step;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.device.ShapeException;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.DynamicMap;

/**
 * Optimizer steps by libbitsandbytes. It decays after the step; a rule that decays first has its parameters scaled
 * before, and none left for it to do. Paged state is brought to the GPU first.
 */
final class CudaOptimizers implements AutoCloseable {
    /** Of the signed map. */
    private static final int CODE_OF_ZERO = 127;

    private final CudaContext context;
    private final PooledScopes scopes;
    private final CudaElements elements;
    private final long stream;
    private final int ordinal;
    private final Scope mapScope;
    private final Tensor signedMap;
    private final Tensor unsignedMap;

    @SuppressWarnings("MustBeClosedChecker") // closed with this
    CudaOptimizers(CudaDevice device, CudaContext context, PooledScopes scopes, CudaElements elements) {
        this.context = context;
        this.scopes = scopes;
        this.elements = elements;
        this.stream = device.stream();
        this.ordinal = device.ordinal();
        mapScope = scopes.newScope();
        signedMap = mapScope.newTensor(DType.F32, 1, DynamicMap.SIZE);
        unsignedMap = mapScope.newTensor(DType.F32, 1, DynamicMap.SIZE);
        device.upload(signedMap, DynamicMap.signed(), 0);
        device.upload(unsignedMap, DynamicMap.unsigned(), 0);
    }

    void step(Tensor p, Tensor g, OptimizerState state, OptimizerStep s) {
        if (p.numel() == 0) {
            return;
        }
        context.enter();
        OptimizerRule rule = s.rule();
        if (rule instanceof OptimizerRule.Sgd sgd && sgd.momentum() == 0) {
            add(p, p, -s.learningRate() * sgd.weightDecay());
            add(p, g, -s.learningRate() * s.gradientScale());
            return;
        }
        boolean decayFirst = rule instanceof OptimizerRule.AdamW a && a.decayFirst()
                || rule instanceof OptimizerRule.AdEmaMix m && m.decayFirst();
        if (decayFirst) {
            add(p, p, -s.learningRate() * rule.weightDecay());
        }
        Step numbers = numbers(s, decayFirst ? 0 : rule.weightDecay());
        switch (state) {
            case OptimizerState.Full full -> full(p, g, full, kernel(rule), numbers);
            case OptimizerState.EightBit eightBit -> eightBit(p, g, eightBit, kernel(rule), numbers);
        }
    }

    private static Rule kernel(OptimizerRule rule) {
        return switch (rule) {
            case OptimizerRule.AdamW _ -> Rule.ADAM;
            case OptimizerRule.AdEmaMix _ -> Rule.ADEMAMIX;
            case OptimizerRule.Lion _ -> Rule.LION;
            case OptimizerRule.Sgd _ -> Rule.MOMENTUM;
            case OptimizerRule.RmsProp _ -> Rule.RMSPROP;
            case OptimizerRule.Adagrad _ -> Rule.ADAGRAD;
        };
    }

    private static Step numbers(OptimizerStep s, double decay) {
        double beta1 = 0;
        double beta2 = 0;
        double beta3 = 0;
        double alpha = 0;
        double epsilon = 0;
        switch (s.rule()) {
            case OptimizerRule.AdamW r -> {
                beta1 = r.beta1();
                beta2 = r.beta2();
                epsilon = r.epsilon();
            }
            case OptimizerRule.AdEmaMix r -> {
                beta1 = r.beta1();
                beta2 = r.beta2();
                beta3 = r.beta3At(s.step());
                alpha = r.alphaAt(s.step());
                epsilon = r.epsilon();
            }
            case OptimizerRule.Lion r -> {
                beta1 = r.beta1();
                beta2 = r.beta2();
            }
            case OptimizerRule.Sgd r -> beta1 = r.momentum();
            case OptimizerRule.RmsProp r -> {
                beta1 = r.alpha();
                epsilon = r.epsilon();
            }
            case OptimizerRule.Adagrad r -> epsilon = r.epsilon();
        }
        return new Step(
                (float) beta1,
                (float) beta2,
                (float) beta3,
                (float) alpha,
                (float) epsilon,
                (float) decay,
                Math.toIntExact(s.step()),
                (float) s.learningRate(),
                (float) s.gradientScale());
    }

    private void full(Tensor p, Tensor g, OptimizerState.Full state, Rule rule, Step numbers) {
        prefetch(state.state1());
        prefetch(state.state2());
        try (Scope scratch = scopes.newScope()) {
            Tensor state1 = together(state.state1(), scratch);
            context.enter();
            CudaBitsAndBytes.step32(
                    rule,
                    p.address(),
                    g.address(),
                    state1.address(),
                    rule.hasState2() ? state.state2().address() : 0,
                    numbers,
                    p.cols());
            putBack(state.state1(), state1);
        }
    }

    private void eightBit(Tensor p, Tensor g, OptimizerState.EightBit state, Rule rule, Step numbers) {
        if (state.rounding() != Blockwise8.Rule.NEAREST) {
            throw new ShapeException("optimizerStep: a GPU rounds 8-bit state to the nearest code; the rule "
                    + state.rounding() + " is the CPU library's");
        }
        int inBlocks = p.cols() - p.cols() % OptimizerState.BLOCK_SIZE;
        if (rule == Rule.ADEMAMIX && inBlocks < p.cols()) {
            // libbitsandbytes would begin the slow average's scales at n / 256, among those of the other average
            if (inBlocks > 0) {
                eightBit(p.cols(0, inBlocks), g.cols(0, inBlocks), state.range(0, inBlocks), rule, numbers);
            }
            int rest = p.cols() - inBlocks;
            lastBlock(p.cols(inBlocks, rest), g.cols(inBlocks, rest), state.range(inBlocks, rest), numbers);
            return;
        }
        prefetch(state.state1());
        prefetch(state.state2());
        try (Scope scratch = scopes.newScope()) {
            Tensor gradient = g;
            Step step = numbers;
            if (numbers.gradientScale() != 1 && (rule == Rule.RMSPROP || rule == Rule.ADAGRAD)) {
                // these two take the scale into the state, but not into the update
                gradient = scaled(g, numbers.gradientScale(), scratch);
                step = new Step(
                        numbers.beta1(),
                        numbers.beta2(),
                        numbers.beta3(),
                        numbers.alpha(),
                        numbers.epsilon(),
                        numbers.weightDecay(),
                        numbers.step(),
                        numbers.learningRate(),
                        1);
            }
            Tensor state1 = together(state.state1(), scratch);
            Tensor absmax1 = together(state.absmax1(), scratch);
            boolean two = rule.hasState2();
            context.enter();
            CudaBitsAndBytes.step8(
                    rule,
                    p.address(),
                    gradient.address(),
                    new State8(
                            state1.address(),
                            absmax1.address(),
                            signedMap.address(),
                            two ? state.state2().address() : 0,
                            two ? state.absmax2().address() : 0,
                            two ? unsignedMap.address() : 0),
                    step,
                    p.cols());
            putBack(state.state1(), state1);
            putBack(state.absmax1(), absmax1);
        }
    }

    /** AdEMAMix's step of fewer than 256 parameters, in a whole block. */
    private void lastBlock(Tensor p, Tensor g, OptimizerState.EightBit state, Step numbers) {
        int n = p.cols();
        int whole = OptimizerState.BLOCK_SIZE;
        try (Scope scratch = scopes.newScope()) {
            Tensor parameters = scratch.newTensor(DType.F32, 1, whole);
            Tensor gradients = scratch.newTensor(DType.F32, 1, whole);
            Tensor state1 = scratch.newTensor(DType.U8, 2, whole);
            Tensor state2 = scratch.newTensor(DType.U8, 1, whole);
            Tensor absmax1 = scratch.newTensor(DType.F32, 2, 1);
            Tensor absmax2 = scratch.newTensor(DType.F32, 1, 1);
            context.enter();
            CudaDriver.fillBytes(parameters.address(), 0, parameters.spanBytes(), stream);
            CudaDriver.fillBytes(gradients.address(), 0, gradients.spanBytes(), stream);
            CudaDriver.fillBytes(state1.address(), CODE_OF_ZERO, state1.spanBytes(), stream);
            CudaDriver.fillBytes(state2.address(), 0, state2.spanBytes(), stream);
            copyRows(parameters.cols(0, n), p);
            copyRows(gradients.cols(0, n), g);
            copyRows(state1.cols(0, n), state.state1());
            copyRows(state2.cols(0, n), state.state2());
            copyRows(absmax1, state.absmax1());
            copyRows(absmax2, state.absmax2());
            OptimizerState.EightBit block =
                    new OptimizerState.EightBit(state1, absmax1, state2, absmax2, state.rounding());
            eightBit(parameters, gradients, block, Rule.ADEMAMIX, numbers);
            copyRows(p, parameters.cols(0, n));
            copyRows(state.state1(), state1.cols(0, n));
            copyRows(state.state2(), state2.cols(0, n));
            copyRows(state.absmax1(), absmax1);
            copyRows(state.absmax2(), absmax2);
        }
    }

    private Tensor scaled(Tensor g, double scale, Scope scratch) {
        Tensor scaled = scratch.newTensor(DType.F32, 1, g.cols());
        context.enter();
        CudaDriver.fillBytes(scaled.address(), 0, scaled.spanBytes(), stream);
        add(scaled, g, scale);
        return scaled;
    }

    /** The two rows of AdEMAMix's state behind each other, as libbitsandbytes wants them. */
    private Tensor together(Tensor state, Scope scratch) {
        if (state.isContiguous()) {
            return state;
        }
        Tensor whole = scratch.newTensor(state.dtype(), state.rows(), state.cols());
        copyRows(whole, state);
        return whole;
    }

    private void putBack(Tensor state, Tensor used) {
        if (used != state) {
            copyRows(state, used);
        }
    }

    private void copyRows(Tensor to, Tensor from) {
        context.enter();
        for (int row = 0; row < to.rows(); row++) {
            CudaDriver.copyOnDevice(
                    to.rowAddress(row),
                    from.rowAddress(row),
                    (long) to.cols() * to.dtype().bytes(),
                    stream);
        }
    }

    private void prefetch(Tensor state) {
        if (state.memory().isPaged() && state.numel() > 0) {
            CudaBitsAndBytes.prefetch(state.address(), state.spanBytes(), ordinal);
        }
    }

    /** {@code y += alpha · x}. */
    private void add(Tensor y, Tensor x, double alpha) {
        if (alpha != 0) {
            elements.add(y, x, alpha);
        }
    }

    @Override
    public void close() {
        mapScope.close();
    }
}
