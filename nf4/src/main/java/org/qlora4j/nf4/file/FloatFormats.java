package org.qlora4j.nf4.file;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.qlora4j.nf4.tensor.DType;

/** Conversion between float and the 16-bit formats, rounding to nearest even; NaN stays NaN. */
public final class FloatFormats {
    private FloatFormats() {}

    /** Widens a bfloat16 exactly. */
    public static float bf16ToFloat(short bits) {
        return Float.intBitsToFloat(bits << 16);
    }

    /** Rounds to the nearest bfloat16, ties to even; beyond the largest finite value to infinity. */
    public static short floatToBf16(float value) {
        int bits = Float.floatToRawIntBits(value);
        if (Float.isNaN(value)) {
            // without the quiet bit a NaN whose payload lies in the dropped half would turn into infinity
            return (short) (bits >>> 16 | 0x40);
        }
        return (short) (bits + 0x7FFF + (bits >>> 16 & 1) >>> 16);
    }

    /** Widens an IEEE half exactly. */
    public static float f16ToFloat(short bits) {
        return Float.float16ToFloat(bits);
    }

    /** Rounds to the nearest IEEE half, ties to even; beyond 65504 (plus half a step) to infinity. */
    public static short floatToF16(float value) {
        return Float.floatToFloat16(value);
    }

    /**
     * Reads little-endian F32, F16, BF16 or F64 (rounded to nearest) as float; advances src.
     *
     * @throws IllegalArgumentException if dtype is not a floating point type
     */
    public static void decode(DType dtype, ByteBuffer src, float[] dst, int dstOffset, int count) {
        int start = src.position();
        int end = Math.addExact(start, Math.multiplyExact(count, dtype.bytes()));
        ByteBuffer in = src.slice(start, end - start).order(ByteOrder.LITTLE_ENDIAN);
        switch (dtype) {
            case F32 -> in.asFloatBuffer().get(dst, dstOffset, count);
            case F16 -> {
                for (int i = 0; i < count; i++) {
                    dst[dstOffset + i] = f16ToFloat(in.getShort(2 * i));
                }
            }
            case BF16 -> {
                for (int i = 0; i < count; i++) {
                    dst[dstOffset + i] = bf16ToFloat(in.getShort(2 * i));
                }
            }
            case F64 -> {
                for (int i = 0; i < count; i++) {
                    dst[dstOffset + i] = (float) in.getDouble(8 * i);
                }
            }
            case I64, I32, I16, I8, U8, BOOL -> throw notFloat(dtype);
        }
        src.position(end);
    }

    /**
     * Writes floats as little-endian F32, F16, BF16 or F64; advances dst.
     *
     * @throws IllegalArgumentException if dtype is not a floating point type
     */
    public static void encode(DType dtype, float[] src, int srcOffset, int count, ByteBuffer dst) {
        int start = dst.position();
        int end = Math.addExact(start, Math.multiplyExact(count, dtype.bytes()));
        ByteBuffer out = dst.slice(start, end - start).order(ByteOrder.LITTLE_ENDIAN);
        switch (dtype) {
            case F32 -> out.asFloatBuffer().put(src, srcOffset, count);
            case F16 -> {
                for (int i = 0; i < count; i++) {
                    out.putShort(2 * i, floatToF16(src[srcOffset + i]));
                }
            }
            case BF16 -> {
                for (int i = 0; i < count; i++) {
                    out.putShort(2 * i, floatToBf16(src[srcOffset + i]));
                }
            }
            case F64 -> {
                for (int i = 0; i < count; i++) {
                    out.putDouble(8 * i, src[srcOffset + i]);
                }
            }
            case I64, I32, I16, I8, U8, BOOL -> throw notFloat(dtype);
        }
        dst.position(end);
    }

    /**
     * Rounds floats in place to what a type can hold; F32 and F64 change nothing.
     *
     * @throws IllegalArgumentException if dtype is not a floating point type
     */
    public static void round(DType dtype, float[] values, int offset, int count) {
        switch (dtype) {
            case F32, F64 -> {}
            case F16 -> {
                for (int i = offset; i < offset + count; i++) {
                    values[i] = f16ToFloat(floatToF16(values[i]));
                }
            }
            case BF16 -> {
                for (int i = offset; i < offset + count; i++) {
                    values[i] = bf16ToFloat(floatToBf16(values[i]));
                }
            }
            case I64, I32, I16, I8, U8, BOOL -> throw notFloat(dtype);
        }
    }

    private static IllegalArgumentException notFloat(DType dtype) {
        return new IllegalArgumentException(
                dtype + " is not a floating point type; expected F32, F16, BF16 or F64 (use bytes for the others)");
    }
}
