package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.BitsAndBytes;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Rows of a frozen weight as fp32, decoded panel by panel into a buffer that stays in the cache. */
final class WeightRows {
    private static final MemorySegment ALL = HostMemory.ALL;

    /** Elements rounded to bf16 at a time: their fp32 values stay in the level-1 cache. */
    static final int PIECE = 4096;

    private final Kernels kernels;
    private final Weight weight;
    private final long table;
    private final boolean byLibrary;

    /**
     * @param tables addresses of the NF4 and the FP4 table of 16 floats
     * @param byLibrary whether libbitsandbytes decodes whole 4-bit blocks
     */
    WeightRows(Kernels kernels, Weight weight, long[] tables, boolean byLibrary) {
        this.kernels = kernels;
        this.weight = weight;
        this.byLibrary = byLibrary;
        this.table = weight instanceof Weight.Quantized q ? tables[q.type().ordinal()] : 0;
    }

    /** True if the rows can be used where they lie: dense fp32. */
    boolean inPlace() {
        return weight instanceof Weight.Dense d && d.values().dtype() == DType.F32;
    }

    /** Floats of scratch that {@link #decode} needs beside the result, for a piece of {@code n} elements. */
    int scratchFloats(int n) {
        return weight instanceof Weight.Quantized q ? n / q.blockSize() + 2 : 0;
    }

    /** Element (row, col) onwards, {@code n} elements of the flattened matrix, to y. */
    void decode(long y, int row, int col, int n, long scratch) {
        long first = (long) row * weight.cols() + col;
        switch (weight) {
            case Weight.Dense d -> decodeDense(y, d.values(), row, col, n);
            case Weight.Quantized q -> decode4(y, q, first, n, scratch);
            case Weight.Int8 w8 -> decode8(y, w8, row, col, n);
        }
    }

    /** Floats of scratch for {@link #decodeBf16}. */
    int scratchFloatsBf16() {
        return PIECE + scratchFloats(PIECE) + 16;
    }

    /** {@code n} elements from the start of a row on, rounded to bf16. */
    void decodeBf16(long y, int row, int n, long scratch) {
        int cols = weight.cols();
        for (int done = 0; done < n; done += PIECE) {
            int count = Math.min(PIECE, n - done);
            decode(scratch, row + done / cols, done % cols, count, scratch + 4L * PIECE);
            kernels.narrowBf16(y + 2L * done, scratch, count);
        }
    }

    private void decodeDense(long y, Tensor values, int row, int col, int n) {
        int done = 0;
        while (done < n) {
            int count = Math.min(n - done, values.cols() - col);
            long from = values.rowAddress(row) + (long) col * values.dtype().bytes();
            long to = y + 4L * done;
            switch (values.dtype()) {
                case F32 -> MemorySegment.copy(ALL, from, ALL, to, 4L * count);
                case BF16 -> kernels.widenBf16(to, from, count);
                case F16 -> {
                    for (int i = 0; i < count; i++) {
                        set(to + 4L * i, Float.float16ToFloat(ALL.get(JAVA_SHORT_UNALIGNED, from + 2L * i)));
                    }
                }
                default ->
                    throw new IllegalArgumentException("the cpu device reads F32, BF16 and F16 weights, not " + values);
            }
            done += count;
            row++;
            col = 0;
        }
    }

    private void decode8(long y, Weight.Int8 w, int row, int col, int n) {
        int done = 0;
        while (done < n) {
            int count = Math.min(n - done, w.cols() - col);
            kernels.decode8(
                    y + 4L * done,
                    w.codes().rowAddress(row) + col,
                    get(w.absmax().address() + 4L * row),
                    count);
            done += count;
            row++;
            col = 0;
        }
    }

    /** Whole blocks by the kernel, the ends element by element; even elements only start a byte. */
    private void decode4(long y, Weight.Quantized q, long first, int n, long scratch) {
        int block = q.blockSize();
        long firstBlock = first / block;
        int blocks = (int) ((first + n - 1) / block - firstBlock + 1);
        long absmax = absmax(q, firstBlock, blocks, scratch);
        long packed = q.packed().address();
        int head = (int) Math.min(n, (block - first % block) % block);
        int whole = (n - head) / block * block;
        decodeSingly(y, packed, absmax, first, head, block, firstBlock);
        long at = first + head;
        if (whole > 0) {
            long to = y + 4L * head;
            long codes = packed + (at >> 1);
            long scales = absmax + 4 * (at / block - firstBlock);
            if (byLibrary) {
                BitsAndBytes.FourBit type =
                        q.type() == QuantType.NF4 ? BitsAndBytes.FourBit.NF4 : BitsAndBytes.FourBit.FP4;
                BitsAndBytes.dequantize4Bit(type, codes, scales, to, block, whole);
            } else {
                kernels.decode4(to, table, codes, scales, block, whole);
            }
        }
        decodeSingly(y + 4L * (head + whole), packed, absmax, at + whole, n - head - whole, block, firstBlock);
    }

    private void decodeSingly(long y, long packed, long absmax, long first, int n, int block, long firstBlock) {
        for (int i = 0; i < n; i++) {
            long e = first + i;
            set(
                    y + 4L * i,
                    get(table + 4L * ScalarKernels.nibble(packed, e)) * get(absmax + 4 * (e / block - firstBlock)));
        }
    }

    /**
     * Address of the fp32 scales of some blocks; nested ones are restored into scratch with bitsandbytes' two
     * roundings.
     */
    static long absmax(Weight.Quantized q, long firstBlock, int blocks, long scratch) {
        return switch (q.absmax()) {
            case Weight.AbsMax.Plain p -> p.values().address() + 4 * firstBlock;
            case Weight.AbsMax.Nested n -> {
                long map = n.map().address();
                long codes = n.codes().address() + firstBlock;
                int done = 0;
                // runs under one second-level scale, so that the loop has no division
                while (done < blocks) {
                    long group = (firstBlock + done) / n.blockSize();
                    int end = (int) Math.min(blocks, (group + 1) * n.blockSize() - firstBlock);
                    float scale = ALL.get(JAVA_FLOAT_UNALIGNED, n.absmax2().address() + 4 * group);
                    for (; done < end; done++) {
                        int code = ALL.get(JAVA_BYTE, codes + done) & 255;
                        set(scratch + 4L * done, get(map + 4L * code) * scale + n.offset());
                    }
                }
                yield scratch;
            }
        };
    }

    /** True if a row can be multiplied straight from its codes: rows start on blocks, in chunks of 64. */
    boolean hasDirectDot() {
        return switch (weight) {
            case Weight.Dense d -> d.values().dtype() != DType.F16;
            case Weight.Int8 w8 -> true;
            case Weight.Quantized q -> q.cols() % 64 == 0 && q.blockSize() >= 64 && q.cols() % q.blockSize() == 0;
        };
    }

    /** True if {@link #dot} wants x as {@link #permute} leaves it. */
    boolean hasOwnOrder() {
        return !(weight instanceof Weight.Dense d) || d.values().dtype() == DType.BF16;
    }

    /** A row of x in the order of the weight's elements. @param y room for {@link Kernels#permutedFloats} */
    void permute(long y, long x) {
        switch (weight) {
            case Weight.Quantized q -> kernels.permute4(y, x, q.cols());
            case Weight.Int8 w8 -> kernels.permuteInt8(y, x, w8.cols());
            case Weight.Dense d -> kernels.permuteBf16(y, x, d.cols());
        }
    }

    /**
     * {@code y[r] = Σ W[first + r]·x}.
     *
     * @param x as it is, or as {@link #permute} leaves it if {@link #hasOwnOrder()}
     * @param absmax scales of the rows' blocks, for quantized weights
     */
    void dot(long y, int first, int rows, long x, long absmax) {
        int cols = weight.cols();
        switch (weight) {
            case Weight.Dense d -> {
                Tensor values = d.values();
                if (values.dtype() == DType.BF16) {
                    kernels.dotsBf16(y, values.rowAddress(first), values.stride(), rows, x, cols);
                } else {
                    kernels.dots(y, x, values.rowAddress(first), values.stride(), rows, cols);
                }
            }
            case Weight.Int8 w8 -> {
                Tensor codes = w8.codes();
                kernels.dotsInt8(y, codes.rowAddress(first), codes.stride(), rows, x, cols);
                for (int r = 0; r < rows; r++) {
                    float absmax8 = get(w8.absmax().address() + 4L * (first + r));
                    set(y + 4L * r, get(y + 4L * r) * absmax8 * Weight.Int8.INVERSE_127);
                }
            }
            case Weight.Quantized q ->
                kernels.dot4(
                        y,
                        rows,
                        table,
                        q.packed().address() + ((long) first * cols >> 1),
                        absmax,
                        q.blockSize(),
                        x,
                        cols);
        }
    }
}
