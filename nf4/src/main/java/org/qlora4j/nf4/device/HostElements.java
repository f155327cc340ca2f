package org.qlora4j.nf4.device;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** Single elements of tensors in host memory. Addresses are not checked: whoever calls has checked the tensor. */
public final class HostElements {
    private HostElements() {}

    /** The floating point element at an address, widened exactly. */
    public static double get(DType dtype, long address) {
        return switch (dtype) {
            case F64 -> HostMemory.ALL.get(JAVA_DOUBLE, address);
            case F32 -> HostMemory.ALL.get(JAVA_FLOAT, address);
            case F16 -> Float.float16ToFloat(HostMemory.ALL.get(JAVA_SHORT, address));
            case BF16 -> bf16ToFloat(HostMemory.ALL.get(JAVA_SHORT, address));
            case I64, I32, I16, I8, U8, BOOL -> throw notFloat(dtype);
        };
    }

    /** Sets the floating point element at an address; rounds to nearest even, for 16 bits by way of fp32. */
    public static void set(DType dtype, long address, double value) {
        switch (dtype) {
            case F64 -> HostMemory.ALL.set(JAVA_DOUBLE, address, value);
            case F32 -> HostMemory.ALL.set(JAVA_FLOAT, address, (float) value);
            case F16 -> HostMemory.ALL.set(JAVA_SHORT, address, Float.floatToFloat16((float) value));
            case BF16 -> HostMemory.ALL.set(JAVA_SHORT, address, floatToBf16((float) value));
            case I64, I32, I16, I8, U8, BOOL -> throw notFloat(dtype);
        }
    }

    /** Element (row, col) of a floating point tensor. */
    public static double get(Tensor t, int row, int col) {
        return get(
                t.dtype(),
                t.address() + ((long) row * t.stride() + col) * t.dtype().bytes());
    }

    /** Sets element (row, col) of a floating point tensor. */
    public static void set(Tensor t, int row, int col, double value) {
        set(t.dtype(), t.address() + ((long) row * t.stride() + col) * t.dtype().bytes(), value);
    }

    /** Element {@code col} of an I32 tensor's first row. */
    public static int index(Tensor t, int col) {
        return HostMemory.ALL.get(JAVA_INT, t.address() + 4L * col);
    }

    /** Sets element {@code col} of an I32 tensor's first row. */
    public static void setIndex(Tensor t, int col, int value) {
        HostMemory.ALL.set(JAVA_INT, t.address() + 4L * col, value);
    }

    /** Byte {@code i} of a contiguous U8 tensor, 0 to 255. */
    public static int unsignedByte(Tensor t, long i) {
        return HostMemory.ALL.get(JAVA_BYTE, t.address() + i) & 0xFF;
    }

    /** bfloat16 is the upper half of a float. */
    public static float bf16ToFloat(short bits) {
        return Float.intBitsToFloat(bits << 16);
    }

    /** The nearest bfloat16, ties to even; NaN stays NaN. */
    public static short floatToBf16(float value) {
        int bits = Float.floatToRawIntBits(value);
        if (Float.isNaN(value)) {
            return (short) (bits >>> 16 | 0x40);
        }
        return (short) (bits + 0x7FFF + (bits >>> 16 & 1) >>> 16);
    }

    private static IllegalArgumentException notFloat(DType dtype) {
        return new IllegalArgumentException("expected a floating point type, got " + dtype);
    }
}
