package org.qlora4j.nf4.device;

import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Blockwise8;

/**
 * What an optimizer remembers of n parameters: {@code state1} [rule.state1Rows, n] and {@code state2} [rule.state2Rows,
 * n], in bitsandbytes' order. Starts as zeros. Its memory may be paged ({@link Device#newPagedScope}).
 */
public sealed interface OptimizerState {
    /** Elements that share a scale in 8-bit state. */
    int BLOCK_SIZE = 256;

    /** Averages. */
    Tensor state1();

    /** Averages of squares. */
    Tensor state2();

    /** The state of parameters {@code first} to {@code first + count - 1}: the same bytes. */
    OptimizerState range(int first, int count);

    /** In the device's precise type. */
    record Full(Tensor state1, Tensor state2) implements OptimizerState {
        /** New tensors, content undefined. */
        public static Full allocate(Scope scope, OptimizerRule rule, int n) {
            return new Full(scope.newPrecise(rule.state1Rows(), n), scope.newPrecise(rule.state2Rows(), n));
        }

        @Override
        public Full range(int first, int count) {
            return new Full(state1.cols(first, count), state2.cols(first, count));
        }
    }

    /**
     * One byte an element and one fp32 scale per {@link #BLOCK_SIZE} elements: {@code map[code] · absmax}, state1 by
     * the signed dynamic map, state2 by the unsigned one.
     *
     * @param state1 U8 codes
     * @param absmax1 F32 [state1's rows, blocks]
     * @param state2 U8 codes
     * @param absmax2 F32 [state2's rows, blocks]
     * @param rounding NEAREST as bitsandbytes' GPU kernels, which also keep state1's signs; TABLE as its CPU library
     */
    record EightBit(Tensor state1, Tensor absmax1, Tensor state2, Tensor absmax2, Blockwise8.Rule rounding)
            implements OptimizerState {
        /** New tensors, content undefined. */
        public static EightBit allocate(Scope scope, OptimizerRule rule, int n, Blockwise8.Rule rounding) {
            int blocks = blocks(n);
            return new EightBit(
                    scope.newTensor(DType.U8, rule.state1Rows(), n),
                    scope.newTensor(DType.F32, rule.state1Rows(), blocks),
                    scope.newTensor(DType.U8, rule.state2Rows(), n),
                    scope.newTensor(DType.F32, rule.state2Rows(), blocks),
                    rounding);
        }

        /** Blocks of n elements. */
        public static int blocks(int n) {
            return (int) ((n + BLOCK_SIZE - 1L) / BLOCK_SIZE);
        }

        @Override
        public EightBit range(int first, int count) {
            if (first % BLOCK_SIZE != 0) {
                throw new IllegalArgumentException(
                        "8-bit state can be split at multiples of " + BLOCK_SIZE + " only, got " + first);
            }
            int block = first / BLOCK_SIZE;
            int blocks = blocks(count);
            return new EightBit(
                    state1.cols(first, count),
                    absmax1.cols(block, blocks),
                    state2.cols(first, count),
                    absmax2.cols(block, blocks),
                    rounding);
        }
    }
}
