package org.qlora4j.nf4.weight;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.nf4.file.FloatFormats;
import org.qlora4j.nf4.file.Safetensors;

/** Bytes and values against bitsandbytes 0.50.2 on a CPU (golden/quantize). */
class QuantizeGoldenTest {
    private static Safetensors four;
    private static Safetensors eight;

    @BeforeAll
    static void open() {
        four = Safetensors.open(GoldenFiles.path("quantize/quant4.safetensors"));
        eight = Safetensors.open(GoldenFiles.path("quantize/quant8.safetensors"));
    }

    @AfterAll
    static void close() {
        four.close();
        eight.close();
    }

    static List<Arguments> fourBitCases() {
        return named(GoldenFiles.cases("quantize/quant4.json", 61));
    }

    static List<Arguments> eightBitCases() {
        return named(GoldenFiles.cases("quantize/quant8.json", 15));
    }

    private static List<Arguments> named(List<JsonNode> cases) {
        return cases.stream().map(c -> Arguments.of(c.path("name").asText(), c)).toList();
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("fourBitCases")
    void fourBit(String name, JsonNode c) {
        QuantType type = QuantType.ofBnbName(c.path("quant_type").asText());
        int blockSize = c.path("blocksize").asInt();
        float[] x = GoldenFiles.floats(four, "input." + c.path("input").asText());
        byte[] packed = new byte[(int) BlockQuantizer.packedBytes(x.length)];
        float[] absmax = new float[(int) BlockQuantizer.blocks(x.length, blockSize)];
        BlockQuantizer.quantize(type, blockSize, x, 0, x.length, packed, 0, absmax, 0);
        assertArrayEquals(GoldenFiles.bytes(four, name + ".packed"), packed, name + " packed");

        if (c.path("double_quant").asBoolean()) {
            assertSameBits(GoldenFiles.floats(four, name + ".absmax_raw"), absmax, name + " absmax_raw");
            float offset = GoldenFiles.floats(four, name + ".nested_offset")[0];
            assertEquals(offset, TorchMean.of(absmax), name + ": the mean has torch's roundings");
            DoubleQuant.Nested nested = DoubleQuant.quantize(absmax);
            assertArrayEquals(GoldenFiles.bytes(four, name + ".absmax_q"), nested.codes(), name + " absmax_q");
            assertSameBits(
                    GoldenFiles.floats(four, name + ".nested_absmax"), nested.absmax2(), name + " nested_absmax");
            absmax = DoubleQuant.dequantize(nested, DynamicMap.signed());
            assertSameBits(GoldenFiles.floats(four, name + ".absmax_dequant"), absmax, name + " absmax_dequant");
        } else {
            assertSameBits(GoldenFiles.floats(four, name + ".absmax"), absmax, name + " absmax");
        }

        float[] values = new float[x.length];
        BlockQuantizer.dequantize(type, blockSize, packed, absmax, 0, x.length, values, 0);
        if (c.path("shape").size() > 1 && c.path("shape").get(1).asInt() % 2 != 0 && type == QuantType.FP4) {
            // odd rows take a PyTorch path there, which decodes code 8 to 0.0 instead of the library's -0.0
            for (int i = 0; i < values.length; i++) {
                values[i] += 0f;
            }
        }
        assertSameBits(GoldenFiles.floats(four, name + ".dequant_float32"), values, name + " fp32");
        float[] bf16 = new float[values.length];
        float[] fp16 = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            bf16[i] = FloatFormats.bf16ToFloat(FloatFormats.floatToBf16(values[i]));
            fp16[i] = FloatFormats.f16ToFloat(FloatFormats.floatToF16(values[i]));
        }
        if (four.find(name + ".dequant_bfloat16").isPresent()) {
            assertSameBits(GoldenFiles.floats(four, name + ".dequant_bfloat16"), bf16, name + " bf16");
        }
        if (four.find(name + ".dequant_float16").isPresent()) {
            assertSameBits(GoldenFiles.floats(four, name + ".dequant_float16"), fp16, name + " fp16");
        }
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("eightBitCases")
    void eightBit(String name, JsonNode c) {
        boolean signed = c.path("map").asText().equals("dynamic_signed");
        Blockwise8 blockwise = new Blockwise8(signed ? DynamicMap.signed() : DynamicMap.unsigned());
        int blockSize = c.path("blocksize").asInt();
        float[] x = GoldenFiles.floats(eight, "input." + c.path("input").asText());
        byte[] codes = new byte[x.length];
        float[] absmax = new float[(int) BlockQuantizer.blocks(x.length, blockSize)];

        blockwise.quantize(Blockwise8.Rule.NEAREST, blockSize, x, 0, x.length, codes, 0, absmax, 0);
        assertArrayEquals(GoldenFiles.bytes(eight, name + ".codes_nearest"), codes, name + " codes_nearest");
        blockwise.quantize(Blockwise8.Rule.TABLE, blockSize, x, 0, x.length, codes, 0, absmax, 0);
        assertArrayEquals(GoldenFiles.bytes(eight, name + ".codes"), codes, name + " codes");
        assertSameBits(GoldenFiles.floats(eight, name + ".absmax"), absmax, name + " absmax");

        float[] values = new float[x.length];
        blockwise.dequantize(blockSize, codes, 0, x.length, absmax, 0, values, 0);
        assertSameBits(GoldenFiles.floats(eight, name + ".dequant_float32"), values, name + " fp32");
    }

    @ParameterizedTest
    @CsvSource({"llama_4bit_tiny/nf4_dq", "llama_4bit_tiny/fp4_dq"})
    void offsetsOfModelsAreThoseOfTorch(String model) {
        try (Safetensors base = Safetensors.open(GoldenFiles.path("models/" + model.replaceFirst("/.*", "/base")));
                Safetensors quantized = Safetensors.open(GoldenFiles.path("models/" + model + "/base"))) {
            int compared = 0;
            for (String name : quantized.names()) {
                int at = name.indexOf(".quant_state.");
                if (at < 0) {
                    continue;
                }
                String weight = name.substring(0, at);
                byte[] json = GoldenFiles.bytes(quantized, name);
                QuantState state = QuantState.parse(json);
                assertArrayEquals(json, state.format(), name);
                float[] x = GoldenFiles.floats(base, weight);
                byte[] packed = new byte[x.length / 2];
                float[] absmax = new float[x.length / state.blockSize()];
                BlockQuantizer.quantize(state.type(), state.blockSize(), x, 0, x.length, packed, 0, absmax, 0);
                assertArrayEquals(GoldenFiles.bytes(quantized, weight), packed, weight);
                DoubleQuant.Nested nested = DoubleQuant.quantize(absmax);
                assertEquals(state.nested().offset(), nested.offset(), weight);
                assertArrayEquals(GoldenFiles.bytes(quantized, weight + ".absmax"), nested.codes(), weight);
                assertSameBits(GoldenFiles.floats(quantized, weight + ".nested_absmax"), nested.absmax2(), weight);
                assertSameBits(
                        GoldenFiles.floats(quantized, weight + ".nested_quant_map"), DynamicMap.signed(), weight);
                assertSameBits(
                        GoldenFiles.floats(quantized, weight + ".quant_map"),
                        state.type().codebook().values(),
                        weight);
                compared++;
            }
            assertTrue(compared >= 7, "compared " + compared + " weights of " + model);
        }
    }

    @Test
    void mapsHaveThePublishedHashes() throws NoSuchAlgorithmException {
        JsonNode maps = GoldenFiles.json("quantize/maps.json");
        assertEquals(maps.path("dynamic_signed").path("sha256_le_float32").asText(), sha256(DynamicMap.signed()));
        assertEquals(maps.path("dynamic_unsigned").path("sha256_le_float32").asText(), sha256(DynamicMap.unsigned()));
        assertEquals(
                maps.path("nf4").path("sha256_le_float32").asText(),
                sha256(QuantType.NF4.codebook().values()));
        assertEquals(
                maps.path("fp4").path("sha256_le_float32").asText(),
                sha256(QuantType.FP4.codebook().values()));
    }

    private static String sha256(float[] values) throws NoSuchAlgorithmException {
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes.array()));
    }

    /** Equal to the bit, so 0.0 is not -0.0; every NaN is equal to every other. */
    private static void assertSameBits(float[] expected, float[] actual, String what) {
        assertEquals(expected.length, actual.length, what);
        for (int i = 0; i < expected.length; i++) {
            assertEquals(Float.floatToIntBits(expected[i]), Float.floatToIntBits(actual[i]), () -> what);
        }
    }
}
