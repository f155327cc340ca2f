package org.qlora4j.bindings;

import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.generated.bitsandbytes_cuda.bitsandbytes_h;

/**
 * libbitsandbytes' GPU functions on device addresses. It ends the process over any CUDA error, so every call is checked
 * before it is made: a GPU is there, no error is pending, addresses are not 0 and aligned, sizes fit. Address ranges
 * and lifetimes are the caller's; the device's context must be current on the calling thread.
 *
 * <p>Functions that take a stream run there. Quantizing, optimizer steps and {@link #prefetch} run on the legacy
 * stream, which orders against every stream that is not {@link CudaDriver#NON_BLOCKING}.
 */
@SuppressWarnings("restricted")
public final class CudaBitsAndBytes {
    /** The codebooks, by the number {@code cgemm_4bit} gives them. */
    public enum FourBit {
        FP4(1),
        NF4(2);

        private final int code;

        FourBit(int code) {
            this.code = code;
        }
    }

    /** Optimizers with 32-bit and 8-bit state. */
    public enum Rule {
        ADAM,
        ADEMAMIX,
        LION,
        MOMENTUM,
        RMSPROP,
        ADAGRAD;

        /** Whether there is a second state. */
        public boolean hasState2() {
            return this == ADAM || this == ADEMAMIX;
        }
    }

    /**
     * The numbers of a step.
     *
     * @param beta3 AdEMAMix's
     * @param alpha AdEMAMix's
     * @param step from 1
     * @param gradientScale factor on the gradient
     */
    public record Step(
            float beta1,
            float beta2,
            float beta3,
            float alpha,
            float epsilon,
            float weightDecay,
            int step,
            float learningRate,
            float gradientScale) {}

    /** Elements that share a scale in 8-bit state. */
    public static final int STATE_BLOCK = 256;

    private CudaBitsAndBytes() {}

    /**
     * Quantizes fp32 values in 4-bit blocks, on the legacy stream.
     *
     * @param x fp32 [n]
     * @param absmax fp32 [ceil(n / blockSize)], result
     * @param packed [(n + 1) / 2] bytes, result
     * @param blockSize a power of two from 32 to 4096
     */
    public static void quantize4Bit(FourBit type, long x, long absmax, long packed, int blockSize, long n) {
        String function = "quantize4Bit";
        block(function, blockSize, 32);
        int count = count(function, n);
        ready(function, x, absmax, packed, 1);
        MemorySegment none = MemorySegment.NULL;
        if (type == FourBit.NF4) {
            bitsandbytes_h.cquantize_blockwise_fp32_nf4(none, at(x), at(absmax), at(packed), blockSize, count);
        } else {
            bitsandbytes_h.cquantize_blockwise_fp32_fp4(none, at(x), at(absmax), at(packed), blockSize, count);
        }
        done(function);
    }

    /**
     * Quantizes fp32 values in 8-bit blocks, on the legacy stream.
     *
     * @param map fp32 [256], ascending
     * @param codes [n] bytes, result
     * @param blockSize a power of two from 64 to 4096
     */
    public static void quantize8Bit(long map, long x, long absmax, long codes, int blockSize, long n) {
        String function = "quantize8Bit";
        block(function, blockSize, 64);
        int count = count(function, n);
        ready(function, x, absmax, codes, map);
        bitsandbytes_h.cquantize_blockwise_fp32(at(map), at(x), at(absmax), at(codes), blockSize, count);
        done(function);
    }

    /**
     * Decodes 4-bit blocks to bf16.
     *
     * @param absmax fp32; its memory must reach to the end of the last 1024 elements' scales, which the kernel reads
     * @param out bf16 [n]
     */
    public static void dequantize4BitToBf16(
            FourBit type, long packed, long absmax, long out, int blockSize, long n, long stream) {
        String function = "dequantize4BitToBf16";
        block(function, blockSize, 32);
        int count = count(function, n);
        ready(function, packed, absmax, out, 1);
        MemorySegment none = MemorySegment.NULL;
        if (type == FourBit.NF4) {
            bitsandbytes_h.cdequantize_blockwise_bf16_nf4(
                    none, at(packed), at(absmax), at(out), blockSize, count, at(stream));
        } else {
            bitsandbytes_h.cdequantize_blockwise_bf16_fp4(
                    none, at(packed), at(absmax), at(out), blockSize, count, at(stream));
        }
        done(function);
    }

    /**
     * Decodes 8-bit blocks to fp32.
     *
     * @param absmax fp32; its memory must reach to the end of the last 512 elements' scales, which the kernel reads
     */
    public static void dequantize8Bit(long map, long codes, long absmax, long out, int blockSize, long n, long stream) {
        String function = "dequantize8Bit";
        block(function, blockSize, 64);
        int count = count(function, n);
        ready(function, codes, absmax, out, map);
        bitsandbytes_h.cdequantize_blockwise_fp32(
                at(map), at(codes), at(absmax), at(out), blockSize, count, at(stream));
        done(function);
    }

    /** Scales of a 4-bit weight for {@link #gemm4Bit}: fp32 values, or nested ones in blocks of 256. */
    public sealed interface Scales {
        /** @param absmax fp32 [n·k / blockSize] */
        record Plain(long absmax) implements Scales {}

        /**
         * @param codes [n·k / blockSize] bytes
         * @param absmax fp32 [ceil(blocks / 256)]
         * @param map fp32 [256]
         * @param offset fp32 [1], on the device too
         */
        record Nested(long codes, long absmax, long map, long offset) implements Scales {}
    }

    /**
     * {@code out = x · Wᵀ} in bf16, for few rows: W is read in 4 bits.
     *
     * @param x bf16 [m, k], contiguous, 16 bytes aligned
     * @param packed W [n, k] in 4 bits, 16 bytes aligned
     * @param out bf16 [m, n], contiguous
     * @param blockSize k must be a multiple of it
     */
    public static void gemm4Bit(
            FourBit type,
            long x,
            long packed,
            Scales scales,
            long out,
            int m,
            int n,
            int k,
            int blockSize,
            long stream) {
        String function = "gemm4Bit";
        block(function, blockSize, 32);
        if (m < 1 || n < 1 || k < 1 || k % blockSize != 0) {
            throw new IllegalArgumentException(
                    function + ": sizes must be at least 1 and k a multiple of the block size " + blockSize + ", got m "
                            + m + ", n " + n + ", k " + k);
        }
        if (x % 16 != 0 || packed % 16 != 0) {
            throw new IllegalArgumentException(
                    "%s: x and the weight must be 16 bytes aligned, got %#x and %#x".formatted(function, x, packed));
        }
        MemorySegment none = MemorySegment.NULL;
        switch (scales) {
            case Scales.Plain plain -> {
                ready(function, x, packed, out, plain.absmax);
                bitsandbytes_h.cgemm_4bit_bf16(
                        at(x),
                        at(packed),
                        at(plain.absmax),
                        none,
                        none,
                        none,
                        at(out),
                        none,
                        m,
                        n,
                        k,
                        blockSize,
                        type.code,
                        at(stream));
            }
            case Scales.Nested nested -> {
                ready(function, x, packed, out, nested.codes);
                ready(function, nested.absmax, nested.map, nested.offset, 1);
                bitsandbytes_h.cgemm_4bit_bf16(
                        at(x),
                        at(packed),
                        at(nested.absmax),
                        at(nested.codes),
                        at(nested.map),
                        at(nested.offset),
                        at(out),
                        none,
                        m,
                        n,
                        k,
                        blockSize,
                        type.code,
                        at(stream));
            }
        }
        // it does not look for errors itself: the next call would end the process
        done(function);
    }

    /**
     * One step with fp32 state, on the legacy stream; weight decay comes after the step.
     *
     * @param p fp32 [n], changed
     * @param g fp32 [n]
     * @param state1 fp32 [n], [2n] for AdEMAMix, changed
     * @param state2 fp32 [n]; 0 for rules without it
     */
    public static void step32(Rule rule, long p, long g, long state1, long state2, Step s, long n) {
        String function = "step32 " + rule;
        int count = count(function, n);
        ready(function, p, g, state1, rule.hasState2() ? state2 : 1);
        step(function, s);
        MemorySegment none = MemorySegment.NULL;
        switch (rule) {
            case ADAM ->
                bitsandbytes_h.cadam32bit_grad_fp32(
                        at(g),
                        at(p),
                        at(state1),
                        at(state2),
                        none,
                        0,
                        0,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.weightDecay,
                        s.step,
                        s.learningRate,
                        s.gradientScale,
                        false,
                        count);
            case ADEMAMIX ->
                bitsandbytes_h.cademamix32bit_grad_fp32(
                        at(g),
                        at(p),
                        at(state1),
                        at(state2),
                        none,
                        0,
                        0,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.weightDecay,
                        s.step,
                        s.learningRate,
                        s.gradientScale,
                        false,
                        count);
            case LION ->
                bitsandbytes_h.clion32bit_grad_fp32(
                        at(g),
                        at(p),
                        at(state1),
                        none,
                        none,
                        0,
                        0,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.weightDecay,
                        s.step,
                        s.learningRate,
                        s.gradientScale,
                        false,
                        count);
            case MOMENTUM ->
                bitsandbytes_h.cmomentum32bit_grad_32(
                        at(g),
                        at(p),
                        at(state1),
                        none,
                        none,
                        0,
                        0,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.weightDecay,
                        s.step,
                        s.learningRate,
                        s.gradientScale,
                        false,
                        count);
            case RMSPROP ->
                bitsandbytes_h.crmsprop32bit_grad_32(
                        at(g),
                        at(p),
                        at(state1),
                        none,
                        none,
                        0,
                        0,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.weightDecay,
                        s.step,
                        s.learningRate,
                        s.gradientScale,
                        false,
                        count);
            case ADAGRAD ->
                bitsandbytes_h.cadagrad32bit_grad_32(
                        at(g),
                        at(p),
                        at(state1),
                        none,
                        none,
                        0,
                        0,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.weightDecay,
                        s.step,
                        s.learningRate,
                        s.gradientScale,
                        false,
                        count);
        }
        done(function);
    }

    /**
     * 8-bit state in blocks of {@link #STATE_BLOCK}.
     *
     * @param state1 [n] bytes, [2n] for AdEMAMix
     * @param absmax1 fp32 [blocks], [2 · blocks] for AdEMAMix
     * @param map1 fp32 [256], the signed dynamic map
     * @param state2 [n] bytes; 0 for rules without it, likewise absmax2 and map2, the unsigned map
     */
    public record State8(long state1, long absmax1, long map1, long state2, long absmax2, long map2) {}

    /** One step with 8-bit state, on the legacy stream. @param p fp32 [n], changed @param g fp32 [n] */
    public static void step8(Rule rule, long p, long g, State8 state, Step s, long n) {
        String function = "step8 " + rule;
        int count = count(function, n);
        ready(function, p, g, state.state1, state.absmax1);
        boolean two = rule.hasState2();
        ready(function, state.map1, two ? state.state2 : 1, two ? state.absmax2 : 1, two ? state.map2 : 1);
        step(function, s);
        MemorySegment state2 = two ? at(state.state2) : MemorySegment.NULL;
        MemorySegment absmax2 = two ? at(state.absmax2) : MemorySegment.NULL;
        MemorySegment map2 = two ? at(state.map2) : MemorySegment.NULL;
        switch (rule) {
            case ADAM ->
                bitsandbytes_h.cadam_8bit_blockwise_grad_fp32(
                        at(p),
                        at(g),
                        at(state.state1),
                        state2,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.step,
                        s.learningRate,
                        at(state.map1),
                        map2,
                        at(state.absmax1),
                        absmax2,
                        s.weightDecay,
                        s.gradientScale,
                        false,
                        count);
            case ADEMAMIX ->
                bitsandbytes_h.cademamix_8bit_blockwise_grad_fp32(
                        at(p),
                        at(g),
                        at(state.state1),
                        state2,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.step,
                        s.learningRate,
                        at(state.map1),
                        map2,
                        at(state.absmax1),
                        absmax2,
                        s.weightDecay,
                        s.gradientScale,
                        false,
                        count);
            case LION ->
                bitsandbytes_h.clion_8bit_blockwise_grad_fp32(
                        at(p),
                        at(g),
                        at(state.state1),
                        state2,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.step,
                        s.learningRate,
                        at(state.map1),
                        map2,
                        at(state.absmax1),
                        absmax2,
                        s.weightDecay,
                        s.gradientScale,
                        false,
                        count);
            case MOMENTUM ->
                bitsandbytes_h.cmomentum_8bit_blockwise_grad_fp32(
                        at(p),
                        at(g),
                        at(state.state1),
                        state2,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.step,
                        s.learningRate,
                        at(state.map1),
                        map2,
                        at(state.absmax1),
                        absmax2,
                        s.weightDecay,
                        s.gradientScale,
                        false,
                        count);
            case RMSPROP ->
                bitsandbytes_h.crmsprop_8bit_blockwise_grad_fp32(
                        at(p),
                        at(g),
                        at(state.state1),
                        state2,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.step,
                        s.learningRate,
                        at(state.map1),
                        map2,
                        at(state.absmax1),
                        absmax2,
                        s.weightDecay,
                        s.gradientScale,
                        false,
                        count);
            case ADAGRAD ->
                bitsandbytes_h.cadagrad_8bit_blockwise_grad_fp32(
                        at(p),
                        at(g),
                        at(state.state1),
                        state2,
                        s.beta1,
                        s.beta2,
                        s.beta3,
                        s.alpha,
                        s.epsilon,
                        s.step,
                        s.learningRate,
                        at(state.map1),
                        map2,
                        at(state.absmax1),
                        absmax2,
                        s.weightDecay,
                        s.gradientScale,
                        false,
                        count);
        }
        done(function);
    }

    /** Managed memory for optimizer state; {@link CudaDriver#free} frees it. */
    public static long allocateManaged(long bytes) {
        String function = "allocateManaged";
        if (bytes < 1) {
            throw new IllegalArgumentException(function + ": expected at least one byte, got " + bytes);
        }
        ready(function, 1, 1, 1, 1);
        long address = bitsandbytes_h.cget_managed_ptr(bytes).address();
        done(function);
        return address;
    }

    /** Brings managed memory to a GPU, on the legacy stream. @param device ordinal */
    public static void prefetch(long address, long bytes, int device) {
        String function = "prefetch";
        ready(function, address, 1, 1, 1);
        // "to the host", device -1, would end the process
        if (bytes < 1 || device < 0 || device >= CudaDriver.deviceCount()) {
            throw new IllegalArgumentException(function + ": expected at least one byte and a GPU from 0 to "
                    + (CudaDriver.deviceCount() - 1) + ", got " + bytes + " bytes and GPU " + device);
        }
        bitsandbytes_h.cprefetch(at(address), bytes, device);
        done(function);
    }

    private static void step(String function, Step s) {
        boolean finite = Float.isFinite(s.learningRate)
                && Float.isFinite(s.gradientScale)
                && Float.isFinite(s.weightDecay)
                && Float.isFinite(s.epsilon);
        if (s.step < 1 || !finite) {
            throw new IllegalArgumentException(function + ": steps count from 1 and numbers are finite, got " + s);
        }
    }

    private static void block(String function, int blockSize, int least) {
        if (blockSize < least || blockSize > 4096 || Integer.bitCount(blockSize) != 1) {
            throw new IllegalArgumentException(
                    function + ": the block size must be a power of two from " + least + " to 4096, got " + blockSize);
        }
    }

    /** Sizes are C ints there. */
    private static int count(String function, long n) {
        if (n < 1 || n > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(
                    function + ": expected 1 to 2147483647 elements, got " + n + "; call it in parts");
        }
        return (int) n;
    }

    private static void ready(String function, long first, long second, long third, long fourth) {
        if (first == 0 || second == 0 || third == 0 || fourth == 0) {
            throw new IllegalArgumentException(function + ": an address is 0");
        }
        CudaNatives.require();
        CudaRuntime.checkPending(function);
    }

    private static void done(String function) {
        CudaRuntime.checkPending("the end of " + function);
    }

    private static MemorySegment at(long address) {
        return MemorySegment.ofAddress(address);
    }
}
