package org.qlora4j.nf4.weight;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.nf4.tensor.DType;

class QuantStateTest {
    private static final String NESTED =
            "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [128, 256], "
                    + "\"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": 0.16207562386989594}";

    private static QuantState parse(String json) {
        return QuantState.parse(json.getBytes(StandardCharsets.UTF_8));
    }

    @Test
    void readsAndWritesWhatBitsandbytesWrites() {
        QuantState state = parse(NESTED);
        assertEquals(
                new QuantState(
                        QuantType.NF4,
                        64,
                        DType.BF16,
                        List.of(128, 256),
                        new QuantState.Nested(256, 0.16207562386989594f)),
                state);
        assertEquals(NESTED, new String(state.format(), StandardCharsets.UTF_8));
        assertEquals("quant_state.bitsandbytes__nf4", QuantState.key(state.type()));
    }

    @ParameterizedTest
    @CsvSource({
        "0.0009765625, 0.0009765625",
        "0.0001220703125, 0.0001220703125",
        "0.00001, 9.999999747378752e-06",
        "1e-30, 1.0000000031710769e-30",
        "3.0517578125e-05, 3.0517578125e-05",
        "2e-15, 2.0000000072549875e-15",
        "-0.5, -0.5",
        "0, 0.0",
        "12345678, 12345678.0",
        "16777216e3, 16777216000.0",
        "1e20, 1.0000000200408773e+20"
    })
    void offsetsArePrintedAsPythonPrintsThem(float offset, String expected) {
        QuantState state =
                new QuantState(QuantType.FP4, 32, DType.F32, List.of(1, 2), new QuantState.Nested(256, offset));
        String json = new String(state.format(), StandardCharsets.UTF_8);
        assertTrue(json.endsWith("\"nested_offset\": " + expected + "}"), json);
        assertEquals(state, QuantState.parse(state.format()));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "\"blocksize\": 64|\"blocksize\": 63|block size",
                "\"blocksize\": 64|\"blocksize\": \"64\"|'blocksize' must be an integer, got \"64\"",
                "\"blocksize\": 64|\"blocksize\": 64.5|'blocksize' must be an integer, got 64.5",
                "\"blocksize\": 64, |''|'blocksize' must be an integer, got nothing",
                "\"blocksize\": 64|\"blocksize\": 64, \"blocksize\": 128|not JSON",
                "nf4|int4|unknown 4-bit quant_type 'int4'",
                "bfloat16|int8|floating point",
                "[128, 256]|[128]|'shape' must be two integers",
                "[128, 256]|[128, 4294967552]|'shape' must be an integer",
                "[128, 256]|[128, -1]|must be [out, in]",
                "[128, 256]|null|'shape' must be two integers",
                "\"nested_offset\": 0.16207562386989594|\"nested_offset\": null|'nested_offset' must be a number",
                "0.16207562386989594|1e300|nested_offset finite",
                "\"nested_blocksize\": 256|\"nested_blocksize\": 0|nested_blocksize must be positive",
                "}|} 1|not JSON",
            })
    void everythingElseIsRefused(String find, String replacement, String message) {
        String json = NESTED.replace(find, replacement);
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> parse(json), json);
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void whatIsNoObjectIsRefused() {
        for (String json : List.of("", "[]", "null", "{", "\u0000", "{\"quant_type\": {")) {
            assertThrows(IllegalArgumentException.class, () -> parse(json), json);
        }
    }
}
