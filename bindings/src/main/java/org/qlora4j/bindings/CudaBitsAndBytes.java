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

    /** Bytes that addresses are multiples of: of fp32, of bf16, and where pieces of 16 bytes are read. */
    private static final int FP32 = 4;

    private static final int BF16 = 2;
    private static final int VECTOR = 16;

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
        int count = count(function, n, Integer.MAX_VALUE);
        address(function, "x", x, FP32);
        address(function, "absmax", absmax, FP32);
        address(function, "packed", packed, 1);
        ready(function);
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
        int count = count(function, n, Integer.MAX_VALUE);
        address(function, "map", map, FP32);
        address(function, "x", x, FP32);
        address(function, "absmax", absmax, FP32);
        address(function, "codes", codes, 1);
        ready(function);
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
        int count = count(function, n, Integer.MAX_VALUE);
        address(function, "packed", packed, 1);
        address(function, "absmax", absmax, FP32);
        address(function, "out", out, BF16);
        ready(function);
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
     * @param n at most 2^30
     * @param absmax fp32; its memory must reach to the end of the last 512 elements' scales, which the kernel reads
     */
    public static void dequantize8Bit(long map, long codes, long absmax, long out, int blockSize, long n, long stream) {
        String function = "dequantize8Bit";
        block(function, blockSize, 64);
        // the kernel adds the whole length to a 32-bit position once more
        int count = count(function, n, 1 << 30);
        address(function, "map", map, FP32);
        address(function, "codes", codes, 1);
        address(function, "absmax", absmax, FP32);
        address(function, "out", out, FP32);
        ready(function);
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
     * @param m at most 524280; m·k, m·n and the bytes of W fit a C int
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
        // positions are C ints there, and a grid has at most 65535 rows of at least 8
        if ((long) m * k > Integer.MAX_VALUE
                || (long) m * n > Integer.MAX_VALUE
                || (long) n * (k / 2) > Integer.MAX_VALUE
                || m > 8 * 65_535) {
            throw new IllegalArgumentException(
                    function + ": too large, at most 524280 rows and 2147483647 elements of x"
                            + " and out, and bytes of the weight; got m " + m + ", n " + n + ", k " + k);
        }
        address(function, "x", x, VECTOR);
        address(function, "packed", packed, VECTOR);
        address(function, "out", out, BF16);
        MemorySegment none = MemorySegment.NULL;
        switch (scales) {
            case Scales.Plain plain -> {
                address(function, "absmax", plain.absmax, FP32);
                ready(function);
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
                address(function, "codes", nested.codes, 1);
                address(function, "absmax", nested.absmax, FP32);
                address(function, "map", nested.map, FP32);
                address(function, "offset", nested.offset, FP32);
                ready(function);
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

    /** The parameters all rules have with fp32 state. */
    private interface Kernel32 {
        void step(
                MemorySegment g,
                MemorySegment p,
                MemorySegment state1,
                MemorySegment state2,
                MemorySegment unorm,
                float maxUnorm,
                float paramNorm,
                float beta1,
                float beta2,
                float beta3,
                float alpha,
                float eps,
                float weightDecay,
                int step,
                float lr,
                float gnormScale,
                boolean skipZeros,
                int n);
    }

    /** The parameters all rules have with 8-bit state: p first, then g. */
    private interface Kernel8 {
        void step(
                MemorySegment p,
                MemorySegment g,
                MemorySegment state1,
                MemorySegment state2,
                float beta1,
                float beta2,
                float beta3,
                float alpha,
                float eps,
                int step,
                float lr,
                MemorySegment map1,
                MemorySegment map2,
                MemorySegment absmax1,
                MemorySegment absmax2,
                float weightDecay,
                float gnormScale,
                boolean skipZeros,
                int n);
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
        int count = count(function, n, Integer.MAX_VALUE);
        address(function, "p", p, FP32);
        address(function, "g", g, FP32);
        address(function, "state1", state1, FP32);
        if (rule.hasState2()) {
            address(function, "state2", state2, FP32);
        }
        step(function, s);
        ready(function);
        Kernel32 kernel = switch (rule) {
            case ADAM -> bitsandbytes_h::cadam32bit_grad_fp32;
            case ADEMAMIX -> bitsandbytes_h::cademamix32bit_grad_fp32;
            case LION -> bitsandbytes_h::clion32bit_grad_fp32;
            case MOMENTUM -> bitsandbytes_h::cmomentum32bit_grad_32;
            case RMSPROP -> bitsandbytes_h::crmsprop32bit_grad_32;
            case ADAGRAD -> bitsandbytes_h::cadagrad32bit_grad_32;
        };
        kernel.step(
                at(g),
                at(p),
                at(state1),
                at(rule.hasState2() ? state2 : 0),
                MemorySegment.NULL,
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

    /**
     * One step with 8-bit state, on the legacy stream.
     *
     * @param p fp32 [n], changed
     * @param g fp32 [n]
     * @param n for AdEMAMix a multiple of {@link #STATE_BLOCK}
     */
    public static void step8(Rule rule, long p, long g, State8 state, Step s, long n) {
        String function = "step8 " + rule;
        int count = count(function, n, Integer.MAX_VALUE);
        // it looks for the scales of the second half of state1 at (n + i) / 256
        if (rule == Rule.ADEMAMIX && n % STATE_BLOCK != 0) {
            throw new IllegalArgumentException(function + ": n must be a multiple of " + STATE_BLOCK + ", got " + n);
        }
        boolean two = rule.hasState2();
        address(function, "p", p, FP32);
        address(function, "g", g, FP32);
        address(function, "state1", state.state1, 1);
        address(function, "absmax1", state.absmax1, FP32);
        address(function, "map1", state.map1, FP32);
        if (two) {
            address(function, "state2", state.state2, 1);
            address(function, "absmax2", state.absmax2, FP32);
            address(function, "map2", state.map2, FP32);
        }
        step(function, s);
        ready(function);
        Kernel8 kernel = switch (rule) {
            case ADAM -> bitsandbytes_h::cadam_8bit_blockwise_grad_fp32;
            case ADEMAMIX -> bitsandbytes_h::cademamix_8bit_blockwise_grad_fp32;
            case LION -> bitsandbytes_h::clion_8bit_blockwise_grad_fp32;
            case MOMENTUM -> bitsandbytes_h::cmomentum_8bit_blockwise_grad_fp32;
            case RMSPROP -> bitsandbytes_h::crmsprop_8bit_blockwise_grad_fp32;
            case ADAGRAD -> bitsandbytes_h::cadagrad_8bit_blockwise_grad_fp32;
        };
        kernel.step(
                at(p),
                at(g),
                at(state.state1),
                at(two ? state.state2 : 0),
                s.beta1,
                s.beta2,
                s.beta3,
                s.alpha,
                s.epsilon,
                s.step,
                s.learningRate,
                at(state.map1),
                at(two ? state.map2 : 0),
                at(state.absmax1),
                at(two ? state.absmax2 : 0),
                s.weightDecay,
                s.gradientScale,
                false,
                count);
        done(function);
    }

    /**
     * Managed memory for optimizer state; {@link CudaDriver#free} frees it.
     *
     * @throws OutOfMemoryError if there is no room
     */
    public static long allocateManaged(long bytes) {
        String function = "allocateManaged";
        if (bytes < 1) {
            throw new IllegalArgumentException(function + ": expected at least one byte, got " + bytes);
        }
        ready(function);
        // it ends the process if there is no room; the driver says so, and gives no page before one is touched
        CudaDriver.free(CudaDriver.allocateManaged(bytes));
        long address = bitsandbytes_h.cget_managed_ptr(bytes).address();
        done(function);
        return address;
    }

    /** Brings managed memory to a GPU, on the legacy stream. @param device ordinal */
    public static void prefetch(long address, long bytes, int device) {
        String function = "prefetch";
        address(function, "the memory", address, 1);
        // "to the host", device -1, would end the process
        if (bytes < 1 || device < 0) {
            throw new IllegalArgumentException(function + ": expected at least one byte and a GPU from 0 on, got "
                    + bytes + " bytes and GPU " + device);
        }
        ready(function);
        if (device >= CudaDriver.deviceCount()) {
            throw new IllegalArgumentException(
                    function + ": there is no GPU " + device + " among " + CudaDriver.deviceCount());
        }
        bitsandbytes_h.cprefetch(at(address), bytes, device);
        done(function);
    }

    private static void step(String function, Step s) {
        boolean finite = Float.isFinite(s.beta1)
                && Float.isFinite(s.beta2)
                && Float.isFinite(s.beta3)
                && Float.isFinite(s.alpha)
                && Float.isFinite(s.epsilon)
                && Float.isFinite(s.weightDecay)
                && Float.isFinite(s.learningRate)
                && Float.isFinite(s.gradientScale);
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
    private static int count(String function, long n, int most) {
        if (n < 1 || n > most) {
            throw new IllegalArgumentException(
                    function + ": expected 1 to " + most + " elements, got " + n + "; call it in parts");
        }
        return (int) n;
    }

    /** @param alignment in bytes; a kernel that finds another one ends with an error that loses the device */
    private static void address(String function, String what, long address, int alignment) {
        if (address == 0 || address % alignment != 0) {
            throw new IllegalArgumentException("%s: the address of %s must be a multiple of %d and not 0, got %#x"
                    .formatted(function, what, alignment, address));
        }
    }

    /** The last check before a call: libraries and GPU are there, no error is pending. */
    private static void ready(String function) {
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
