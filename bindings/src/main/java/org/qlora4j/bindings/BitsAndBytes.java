package org.qlora4j.bindings;

import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.generated.bitsandbytes.bitsandbytes_h;

/**
 * libbitsandbytes' CPU functions on raw addresses. They check next to nothing and some end the process on a wrong
 * argument, so sizes are checked here; addresses and lifetimes are the caller's. Thread-safe. They run on the OpenMP
 * team of the calling thread.
 *
 * @see <a href="https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/csrc/cpu_ops.cpp">their source</a>
 */
public final class BitsAndBytes {
    /** Whether the library is open: a generated class that is touched before stays broken for ever. */
    private static volatile boolean open;

    private BitsAndBytes() {}

    /** The 4-bit data types. */
    public enum FourBit {
        /** 16 quantiles of the normal distribution, in [-1, 1]. */
        NF4,
        /** Sign, 2 bits of exponent, 1 bit of mantissa, scaled to [-1, 1]. */
        FP4
    }

    /** Held apart, since it can only be asked once the library is open. */
    private static final class Cpu {
        static final boolean AVX512_BF16 = bitsandbytes_h.has_avx512bf16_cpu();
    }

    /**
     * Opens the library unless it is open.
     *
     * @throws NativeException if it cannot be opened; a later call tries again
     */
    public static void require() {
        if (!open) {
            Natives.bitsandbytes();
            open = true;
        }
    }

    /** Whether the library runs its AVX-512 code on this machine. */
    public static boolean hasAvx512() {
        require();
        return bitsandbytes_h.has_avx512f_cpu();
    }

    /** Whether this machine has AVX-512 bf16 instructions, which {@link #gemvNf4Bf16} needs. */
    public static boolean hasAvx512Bf16() {
        require();
        return Cpu.AVX512_BF16;
    }

    /**
     * 4-bit codes to fp32: {@code out[i] = code[nibble i] · absmax[i / blockSize]}.
     *
     * @param packed address of n/2 bytes, the first element in the high nibble
     * @param absmax address of n/blockSize floats
     * @param out address of n floats
     * @param blockSize a power of two from 32 to 4096
     * @param n elements, a multiple of the block size: on AVX-512 machines the library indexes absmax by rows of
     *     n/blocksize, so it is called with one block per row, and a short last block is the caller's. Rows are counted
     *     in C int, hence at most 2^31-1 blocks
     * @throws IllegalArgumentException if a size does not hold or an address is 0
     */
    public static void dequantize4Bit(FourBit type, long packed, long absmax, long out, int blockSize, long n) {
        check4Bit(packed, absmax, out, blockSize, n);
        require();
        MemorySegment p = MemorySegment.ofAddress(packed);
        MemorySegment a = MemorySegment.ofAddress(absmax);
        MemorySegment o = MemorySegment.ofAddress(out);
        long blocks = n / blockSize;
        switch (type) {
            case NF4 -> bitsandbytes_h.cdequantize_blockwise_cpu_nf4_fp32(p, a, o, blockSize, blocks, blockSize);
            case FP4 -> bitsandbytes_h.cdequantize_blockwise_cpu_fp4_fp32(p, a, o, blockSize, blocks, blockSize);
        }
    }

    /**
     * As {@link #dequantize4Bit}, rounded to bf16.
     *
     * @param out address of n bf16 values
     */
    public static void dequantize4BitToBf16(FourBit type, long packed, long absmax, long out, int blockSize, long n) {
        check4Bit(packed, absmax, out, blockSize, n);
        require();
        MemorySegment p = MemorySegment.ofAddress(packed);
        MemorySegment a = MemorySegment.ofAddress(absmax);
        MemorySegment o = MemorySegment.ofAddress(out);
        long blocks = n / blockSize;
        switch (type) {
            case NF4 -> bitsandbytes_h.cdequantize_blockwise_cpu_nf4_bf16(p, a, o, blockSize, blocks, blockSize);
            case FP4 -> bitsandbytes_h.cdequantize_blockwise_cpu_fp4_bf16(p, a, o, blockSize, blocks, blockSize);
        }
    }

    /**
     * 8-bit blockwise quantization with a table of 65,536 bins: {@code absmax = max|x|} and {@code out = nearest code
     * of x / absmax}, to within one bin. A block of zeros gives absmax 0 and codes 0.
     *
     * @param code address of 256 ascending floats in [-1, 1]. The library keeps the tables of the last four addresses
     *     and knows a table again by its address and four of its values: keep one address per codebook, unchanged, for
     *     the life of the process, and use no more than four codebooks from several threads at once
     * @param x address of n floats
     * @param absmax result: ceil(n/blockSize) floats
     * @param out result: n bytes
     * @param blockSize a power of two from 32 to 4096
     * @throws IllegalArgumentException if a size does not hold or an address is 0
     */
    public static void quantize8Bit(long code, long x, long absmax, long out, int blockSize, long n) {
        check(code, x, absmax, out, blockSize, n);
        require();
        bitsandbytes_h.cquantize_blockwise_cpu_fp32(
                MemorySegment.ofAddress(code),
                MemorySegment.ofAddress(x),
                MemorySegment.ofAddress(absmax),
                MemorySegment.ofAddress(out),
                blockSize,
                n);
    }

    /**
     * 8-bit codes to fp32: {@code out[i] = code[q[i]] · absmax[i / blockSize]}; the last block may be short.
     *
     * @param code address of 256 floats
     * @param q address of n bytes
     * @param absmax address of ceil(n/blockSize) floats
     * @param out address of n floats
     * @param blockSize a power of two from 32 to 4096
     * @throws IllegalArgumentException if a size does not hold or an address is 0
     */
    public static void dequantize8Bit(long code, long q, long absmax, long out, int blockSize, long n) {
        check(code, q, absmax, out, blockSize, n);
        require();
        bitsandbytes_h.cdequantize_blockwise_cpu_fp32(
                MemorySegment.ofAddress(code),
                MemorySegment.ofAddress(q),
                MemorySegment.ofAddress(absmax),
                MemorySegment.ofAddress(out),
                blockSize,
                n);
    }

    /**
     * {@code out = x · Wᵀ} in bf16 from NF4 weights in libbitsandbytes' CPU layout, for few rows.
     *
     * @param m rows of x and out
     * @param n rows of W, a multiple of 32 (the library aborts the process otherwise)
     * @param k columns of W, a multiple of the block size
     * @param x address of bf16 [m, k]
     * @param w address of n·k/2 bytes [n/32, k/2, 32]: byte (b, p, j) holds in its low nibble the code of row 32b +
     *     j/2, column 2p + j%2, and in its high nibble that of the row 16 further on
     * @param absmax address of bf16 [k/blockSize, n]
     * @param out address of bf16 [m, n]
     * @param blockSize a power of two from 32 to 4096
     * @param xStride elements from row to row of x; even, since the library reads pairs
     * @param outStride elements from row to row of out
     * @throws IllegalArgumentException if a size does not hold or an address is 0
     * @throws IllegalStateException if {@link #hasAvx512Bf16} is false
     */
    public static void gemvNf4Bf16(
            long m,
            long n,
            long k,
            long x,
            long w,
            long absmax,
            long out,
            int blockSize,
            long xStride,
            long outStride) {
        check(x, w, absmax, out, blockSize, m);
        if (n < 1 || n % 32 != 0 || k < 1 || k % blockSize != 0) {
            throw new IllegalArgumentException("gemvNf4Bf16: n must be a multiple of 32 and k one of the block size "
                    + blockSize + ", got n " + n + ", k " + k);
        }
        if (xStride < k || xStride % 2 != 0 || outStride < n) {
            throw new IllegalArgumentException("gemvNf4Bf16: xStride must be even and at least " + k
                    + ", outStride at least " + n + ", got " + xStride + ", " + outStride);
        }
        if (!hasAvx512Bf16()) {
            throw new IllegalStateException("gemvNf4Bf16 needs a CPU with AVX-512 bf16; ask hasAvx512Bf16() first");
        }
        bitsandbytes_h.gemv_4bit_inference_cpu_nf4_bf16(
                m,
                n,
                k,
                MemorySegment.ofAddress(x),
                MemorySegment.ofAddress(w),
                MemorySegment.ofAddress(absmax),
                MemorySegment.ofAddress(out),
                blockSize,
                xStride,
                outStride);
    }

    private static void check4Bit(long packed, long absmax, long out, int blockSize, long n) {
        check(packed, packed, absmax, out, blockSize, n);
        if (n % blockSize != 0) {
            throw new IllegalArgumentException("bitsandbytes: " + n + " elements are no whole number of blocks of "
                    + blockSize + "; the last, short block is the caller's");
        }
        if (n / blockSize > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(
                    "bitsandbytes: counts blocks in 32 bits, got " + n / blockSize + "; call it in parts");
        }
    }

    private static void check(long first, long second, long third, long fourth, int blockSize, long n) {
        if (first == 0 || second == 0 || third == 0 || fourth == 0) {
            throw new IllegalArgumentException("bitsandbytes: an address is 0");
        }
        if (blockSize < 32 || blockSize > 4096 || Integer.bitCount(blockSize) != 1) {
            throw new IllegalArgumentException(
                    "bitsandbytes: the block size must be a power of two from 32 to 4096, got " + blockSize);
        }
        if (n < 1) {
            throw new IllegalArgumentException("bitsandbytes: expected at least one element or row, got " + n);
        }
    }
}
