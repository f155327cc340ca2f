package org.qlora4j.nf4.file;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.nf4.tensor.DType;

class FloatFormatsTest {
    @ParameterizedTest
    @CsvSource({
        "3F800000, 3F80",
        "3F808000, 3F80", // tie, even below
        "3F818000, 3F82", // tie, even above
        "3F808001, 3F81",
        "BF818000, BF82",
        "7F7FFFFF, 7F80", // beyond the largest bfloat16
        "FF800000, FF80",
        "80000000, 8000",
        "00008001, 0001" // subnormal
    })
    void roundsToBf16(String floatBits, String expected) {
        short bits = FloatFormats.floatToBf16(Float.intBitsToFloat(Integer.parseUnsignedInt(floatBits, 16)));
        assertEquals(Integer.parseInt(expected, 16), bits & 0xFFFF);
    }

    @ParameterizedTest
    @CsvSource({"7F800001", "FF800001", "7FFFFFFF", "FFFFFFFF", "7FC00000"})
    void nanStaysNan(String floatBits) {
        float nan = Float.intBitsToFloat(Integer.parseUnsignedInt(floatBits, 16));
        assertTrue(Float.isNaN(FloatFormats.bf16ToFloat(FloatFormats.floatToBf16(nan))));
        assertTrue(Float.isNaN(FloatFormats.f16ToFloat(FloatFormats.floatToF16(nan))));
    }

    @Test
    void every16BitPatternSurvivesWideningAndRounding() {
        for (int bits = 0; bits < 1 << 16; bits++) {
            float bf16 = FloatFormats.bf16ToFloat((short) bits);
            float f16 = FloatFormats.f16ToFloat((short) bits);
            if (!Float.isNaN(bf16)) {
                assertEquals((short) bits, FloatFormats.floatToBf16(bf16));
            }
            if (!Float.isNaN(f16)) {
                assertEquals((short) bits, FloatFormats.floatToF16(f16));
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"65519, 7BFF", "65520, 7C00", "5.9604645e-8, 0001", "2.9802322e-8, 0000", "1.00048828125, 3C00"})
    void roundsToF16(float value, String expected) {
        assertEquals(Integer.parseInt(expected, 16), FloatFormats.floatToF16(value) & 0xFFFF);
    }

    @ParameterizedTest
    @CsvSource({"F32", "F16", "BF16", "F64"})
    void encodesAndDecodesAtOffsets(DType dtype) {
        float[] values = {9, 1.5f, -0.25f, 1024, 9};
        ByteBuffer bytes = ByteBuffer.allocate(2 + 3 * dtype.bytes()).position(2);
        FloatFormats.encode(dtype, values, 1, 3, bytes);
        assertEquals(0, bytes.remaining());
        float[] back = new float[5];
        FloatFormats.decode(dtype, bytes.position(2), back, 2, 3);
        assertEquals(0, bytes.remaining());
        for (int i = 0; i < 3; i++) {
            assertEquals(values[1 + i], back[2 + i]);
        }
        assertEquals(0, back[0] + back[1]);
    }

    @Test
    void integersAreRefused() {
        ByteBuffer bytes = ByteBuffer.allocate(16);
        assertThrows(IllegalArgumentException.class, () -> FloatFormats.decode(DType.I64, bytes, new float[1], 0, 1));
        assertThrows(IllegalArgumentException.class, () -> FloatFormats.encode(DType.U8, new float[1], 0, 1, bytes));
    }
}
