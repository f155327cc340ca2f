package org.qlora4j.nf4.device;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.MemorySegment;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * {@link Device#upload} and {@link Device#download} for tensors in host memory. Each method throws
 * {@link ShapeException} for a wrong type, {@link IndexOutOfBoundsException} if the array is too short and
 * {@link IllegalStateException} if the tensor's memory is closed.
 */
public final class HostTransfers {
    private HostTransfers() {}

    /** To a floating point tensor. */
    public static void upload(Tensor dst, float[] values, int offset) {
        check("upload", dst, dst.dtype().isFloat(), "a floating point tensor", dst.numel(), values.length, offset);
        for (int r = 0; r < dst.rows(); r++) {
            int from = offset + r * dst.cols();
            if (dst.dtype() == DType.F32) {
                MemorySegment.copy(values, from, HostMemory.ALL, JAVA_FLOAT, dst.rowAddress(r), dst.cols());
            } else {
                for (int c = 0; c < dst.cols(); c++) {
                    HostElements.set(dst, r, c, values[from + c]);
                }
            }
        }
    }

    /** To a floating point tensor. */
    public static void upload(Tensor dst, double[] values, int offset) {
        check("upload", dst, dst.dtype().isFloat(), "a floating point tensor", dst.numel(), values.length, offset);
        for (int r = 0; r < dst.rows(); r++) {
            int from = offset + r * dst.cols();
            if (dst.dtype() == DType.F64) {
                MemorySegment.copy(values, from, HostMemory.ALL, JAVA_DOUBLE, dst.rowAddress(r), dst.cols());
            } else {
                for (int c = 0; c < dst.cols(); c++) {
                    HostElements.set(dst, r, c, values[from + c]);
                }
            }
        }
    }

    /** To an I32 tensor. */
    public static void upload(Tensor dst, int[] values, int offset) {
        check("upload", dst, dst.dtype() == DType.I32, "an I32 tensor", dst.numel(), values.length, offset);
        for (int r = 0; r < dst.rows(); r++) {
            MemorySegment.copy(
                    values, offset + r * dst.cols(), HostMemory.ALL, JAVA_INT, dst.rowAddress(r), dst.cols());
        }
    }

    /** To any tensor, as the bytes lie in memory. */
    public static void upload(Tensor dst, byte[] values, int offset) {
        check("upload", dst, true, "any tensor", dst.numel() * dst.dtype().bytes(), values.length, offset);
        int rowBytes = Math.multiplyExact(dst.cols(), dst.dtype().bytes());
        for (int r = 0; r < dst.rows(); r++) {
            MemorySegment.copy(values, offset + r * rowBytes, HostMemory.ALL, JAVA_BYTE, dst.rowAddress(r), rowBytes);
        }
    }

    /** From a floating point tensor. */
    public static void download(Tensor src, float[] values, int offset) {
        check("download", src, src.dtype().isFloat(), "a floating point tensor", src.numel(), values.length, offset);
        for (int r = 0; r < src.rows(); r++) {
            int to = offset + r * src.cols();
            if (src.dtype() == DType.F32) {
                MemorySegment.copy(HostMemory.ALL, JAVA_FLOAT, src.rowAddress(r), values, to, src.cols());
            } else {
                for (int c = 0; c < src.cols(); c++) {
                    values[to + c] = (float) HostElements.get(src, r, c);
                }
            }
        }
    }

    /** From a floating point tensor. */
    public static void download(Tensor src, double[] values, int offset) {
        check("download", src, src.dtype().isFloat(), "a floating point tensor", src.numel(), values.length, offset);
        for (int r = 0; r < src.rows(); r++) {
            int to = offset + r * src.cols();
            if (src.dtype() == DType.F64) {
                MemorySegment.copy(HostMemory.ALL, JAVA_DOUBLE, src.rowAddress(r), values, to, src.cols());
            } else {
                for (int c = 0; c < src.cols(); c++) {
                    values[to + c] = HostElements.get(src, r, c);
                }
            }
        }
    }

    /** From an I32 tensor. */
    public static void download(Tensor src, int[] values, int offset) {
        check("download", src, src.dtype() == DType.I32, "an I32 tensor", src.numel(), values.length, offset);
        for (int r = 0; r < src.rows(); r++) {
            MemorySegment.copy(
                    HostMemory.ALL, JAVA_INT, src.rowAddress(r), values, offset + r * src.cols(), src.cols());
        }
    }

    /** From any tensor, as the bytes lie in memory. */
    public static void download(Tensor src, byte[] values, int offset) {
        check("download", src, true, "any tensor", src.numel() * src.dtype().bytes(), values.length, offset);
        int rowBytes = Math.multiplyExact(src.cols(), src.dtype().bytes());
        for (int r = 0; r < src.rows(); r++) {
            MemorySegment.copy(HostMemory.ALL, JAVA_BYTE, src.rowAddress(r), values, offset + r * rowBytes, rowBytes);
        }
    }

    private static void check(
            String what, Tensor t, boolean typeFits, String expected, long count, int arrayLength, int offset) {
        if (!t.memory().isOpen()) {
            throw new IllegalStateException(what + ": the scope of " + t + " is closed");
        }
        if (!typeFits) {
            throw new ShapeException(what + ": expected " + expected + ", got " + t);
        }
        if (offset < 0 || count > arrayLength - offset) {
            throw new IndexOutOfBoundsException(what + ": " + t + " needs " + count + " array elements from " + offset
                    + ", the array has " + arrayLength);
        }
    }
}
