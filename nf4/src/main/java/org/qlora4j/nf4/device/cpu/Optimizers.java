package org.qlora4j.nf4.device.cpu;

import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerState.EightBit;
import org.qlora4j.nf4.device.OptimizerState.Full;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Blockwise8;

/**
 * Optimizer steps on the workers. 8-bit state goes block by block through a small buffer: decoded, stepped as fp32,
 * coded again, so that state is read and written once.
 */
final class Optimizers {
    private static final int BLOCK = OptimizerState.BLOCK_SIZE;

    /** Elements below which one thread does it alone. */
    private static final int ALONE = 1 << 13;

    private final Workers workers;
    private final OptimizerKernels kernels;
    private final Kernels loops;
    private final PooledScopes scopes;

    Optimizers(Workers workers, Kernels loops, PooledScopes scopes) {
        this.workers = workers;
        this.loops = loops;
        this.kernels = loops.optimizers();
        this.scopes = scopes;
    }

    void step(Tensor p, Tensor g, OptimizerState state, OptimizerStep step) {
        switch (state) {
            case Full full -> full(p, g, full, step);
            case EightBit eightBit -> eightBit(p, g, eightBit, step);
        }
    }

    private void split(int n, Workers.Task task) {
        if (n < ALONE) {
            task.run(0, 1);
        } else {
            workers.run(task);
        }
    }

    private void full(Tensor p, Tensor g, Full state, OptimizerStep step) {
        OptimizerFactors f = OptimizerFactors.of(step, true);
        int n = p.cols();
        long second = 4L * state.state1().stride();
        split(n, (w, count) -> {
            int from = Workers.from(n, BLOCK, w, count);
            long at = 4L * from;
            update(
                    step.rule(),
                    p.address() + at,
                    g.address() + at,
                    state.state1().address() + at,
                    state.state1().address() + second + at,
                    state.state2().address() + at,
                    f,
                    Workers.from(n, BLOCK, w + 1, count) - from);
        });
    }

    /** @param s1 first row of state1 @param slow second row of state1, if the rule has one @param s2 state2 */
    private void update(OptimizerRule rule, long p, long g, long s1, long slow, long s2, OptimizerFactors f, int n) {
        switch (rule) {
            case OptimizerRule.AdamW _ -> kernels.adamW(p, g, s1, s2, f, n);
            case OptimizerRule.AdEmaMix _ -> kernels.adEmaMix(p, g, s1, slow, s2, f, n);
            case OptimizerRule.Lion _ -> kernels.lion(p, g, s1, f, n);
            case OptimizerRule.Sgd sgd -> {
                if (sgd.momentum() == 0) {
                    loops.axpby(p, -f.stepSize() * f.gradientScale(), g, f.decayBefore(), n);
                } else {
                    kernels.momentum(p, g, s1, f, n);
                }
            }
            case OptimizerRule.RmsProp _ -> kernels.rootMeanSquare(p, g, s1, f, n);
            case OptimizerRule.Adagrad _ -> kernels.rootMeanSquare(p, g, s1, f, n);
        }
    }

    private void eightBit(Tensor p, Tensor g, EightBit state, OptimizerStep step) {
        OptimizerFactors f = OptimizerFactors.of(step, state.rounding() == Blockwise8.Rule.TABLE);
        int n = p.cols();
        int rows = step.rule().state1Rows();
        int all = rows + step.rule().state2Rows();
        try (Scope scope = scopes.newScope()) {
            Tensor buffers = scope.newTensor(DType.F32, workers.count(), Math.max(1, all) * BLOCK);
            split(n, (w, count) -> {
                long buffer = buffers.rowAddress(w);
                int[] scratch = new int[BLOCK];
                int to = Workers.from(n, BLOCK, w + 1, count);
                for (int i = Workers.from(n, BLOCK, w, count); i < to; i += BLOCK) {
                    int size = Math.min(BLOCK, to - i);
                    for (int row = 0; row < all; row++) {
                        decode(buffer + 4L * BLOCK * row, state, row, i, scratch, size);
                    }
                    update(
                            step.rule(),
                            p.address() + 4L * i,
                            g.address() + 4L * i,
                            buffer,
                            buffer + 4L * BLOCK,
                            buffer + 4L * BLOCK * rows,
                            f,
                            size);
                    for (int row = 0; row < all; row++) {
                        encode(buffer + 4L * BLOCK * row, state, row, i, scratch, size);
                    }
                }
            });
        }
    }

    /** Rows of state1, then those of state2. */
    private void decode(long buffer, EightBit state, int row, int first, int[] scratch, int size) {
        boolean signed = row < state.state1().rows();
        kernels.decode8(
                buffer,
                codes(state, row, first),
                ScalarKernels.get(absmax(state, row, first)),
                DynamicCodes.of(state.rounding(), signed),
                scratch,
                size);
    }

    private void encode(long buffer, EightBit state, int row, int first, int[] scratch, int size) {
        boolean signed = row < state.state1().rows();
        float absmax = kernels.encode8(
                codes(state, row, first), buffer, DynamicCodes.of(state.rounding(), signed), scratch, size);
        ScalarKernels.set(absmax(state, row, first), absmax);
    }

    private static long codes(EightBit state, int row, int first) {
        int rows = state.state1().rows();
        return row < rows
                ? state.state1().rowAddress(row) + first
                : state.state2().rowAddress(row - rows) + first;
    }

    private static long absmax(EightBit state, int row, int first) {
        int rows = state.state1().rows();
        long at = 4L * (first / BLOCK);
        return row < rows
                ? state.absmax1().rowAddress(row) + at
                : state.absmax2().rowAddress(row - rows) + at;
    }
}
