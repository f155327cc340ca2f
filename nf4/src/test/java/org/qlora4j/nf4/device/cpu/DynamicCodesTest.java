package org.qlora4j.nf4.device.cpu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.DynamicMap;

/** The table against bitsandbytes' search, on every float around every border and on many between them. */
class DynamicCodesTest {
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void theTableEqualsTheSearch(boolean signed) {
        float[] map = signed ? DynamicMap.signed() : DynamicMap.unsigned();
        DynamicCodes codes = DynamicCodes.of(Blockwise8.Rule.NEAREST, signed);
        Blockwise8 search = new Blockwise8(map);
        int tested = 0;
        for (int c = 0; c < DynamicMap.SIZE - 1; c++) {
            float border = (map[c] + map[c + 1]) * 0.5f;
            int bits = Float.floatToRawIntBits(border);
            for (int d = -40; d <= 40; d++) {
                tested += check(codes, search, map, signed, Float.intBitsToFloat(bits + d));
                tested += check(codes, search, map, signed, Float.intBitsToFloat(Float.floatToRawIntBits(map[c]) + d));
            }
        }
        for (int bits = 0; bits >= 0 && bits <= Float.floatToRawIntBits(1f); bits += 997) {
            tested += check(codes, search, map, signed, Float.intBitsToFloat(bits));
            tested += check(codes, search, map, signed, -Float.intBitsToFloat(bits));
        }
        assertEquals(true, tested > 1_000_000, tested + " numbers");
    }

    private static int check(DynamicCodes codes, Blockwise8 search, float[] map, boolean signed, float v) {
        if (Float.isNaN(v) || Math.abs(v) > 1 || !signed && v < 0) {
            return 0;
        }
        int expected = search.nearestCode(v) & 0xFF;
        if (signed && v != 0 && map[expected] == 0 && v < 0) {
            expected--;
        } else if (Float.floatToRawIntBits(v) == 0x8000_0000) {
            // -0 keeps its sign too
            expected = signed ? 126 : expected;
        }
        assertEquals(expected, codes.code(v, 1) & 0xFF, () -> "code of " + v);
        return 1;
    }
}
