package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.nf4.device.cuda.BitsAndBytesLaunch.at;

import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.CudaBitsAndBytes;
import org.qlora4j.bindings.CudaBitsAndBytes.FourBit;
import org.qlora4j.bindings.CudaBitsAndBytes.Scales;
import org.qlora4j.nf4.file.FloatFormats;
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantType;

/**
 * libbitsandbytes' own CUDA library on a simulated runtime, quantization: the kernel that arrives for each function,
 * its grid, stream and arguments are what is meant, and what it computes is what Java's quantizers do.
 */
class BitsAndBytesBlocksTest {
    private final SplittableRandom random = new SplittableRandom(4);

    private float[] values(int n) {
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private static QuantType java(FourBit type) {
        return type == FourBit.NF4 ? QuantType.NF4 : QuantType.FP4;
    }

    private static int number(FourBit type) {
        return type == FourBit.NF4 ? 2 : 1;
    }

    private static int ceilDiv(int a, int b) {
        return (a + b - 1) / b;
    }

    /** How the library starts a quantization: a block of threads a block of values, or one warp for two small ones. */
    private record QuantizeLaunch(String kernel, int grid, int threads) {
        static QuantizeLaunch of(int blockSize, int n, int type) {
            int blocks = ceilDiv(n, blockSize);
            if (blockSize <= 64 && type != 0) {
                int perWarp = 64 / blockSize;
                return new QuantizeLaunch(
                        "kQuantizeBlockwiseSmall<float, %d, %d>".formatted(blockSize, type),
                        ceilDiv(blocks, perWarp),
                        32);
            }
            int perThread = blockSize >= 1024 ? 4 : 2;
            return new QuantizeLaunch(
                    "kQuantizeBlockwise<float, %d, %d, 0, %d>".formatted(blockSize, perThread, type),
                    blocks,
                    blockSize / perThread);
        }
    }

    @ParameterizedTest
    @EnumSource(FourBit.class)
    void quantize4Bit(FourBit type) {
        for (int blockSize = 32; blockSize <= 4096; blockSize *= 2) {
            for (int n : new int[] {blockSize, 4 * blockSize, 3 * blockSize + 17}) {
                try (TestGpu gpu = new TestGpu()) {
                    float[] values = values(n);
                    int blocks = ceilDiv(n, blockSize);
                    long x = gpu.upload(values);
                    long absmax = gpu.allocate(4L * blocks);
                    long packed = gpu.allocate((n + 1) / 2);
                    CudaBitsAndBytes.quantize4Bit(type, x, absmax, packed, blockSize, n);
                    QuantizeLaunch expected = QuantizeLaunch.of(blockSize, n, number(type));
                    BitsAndBytesLaunch.last()
                            .check(
                                    expected.kernel,
                                    expected.grid + " 1 1",
                                    expected.threads + " 1 1",
                                    0,
                                    at(0),
                                    at(x),
                                    at(absmax),
                                    at(packed),
                                    at(0),
                                    0,
                                    n);
                    byte[] codes = new byte[(n + 1) / 2];
                    float[] scales = new float[blocks];
                    BlockQuantizer.quantize(java(type), blockSize, values, 0, n, codes, 0, scales, 0);
                    assertArrayEquals(scales, gpu.floats(absmax, blocks), "absmax of " + n + " by " + blockSize);
                    assertCodes(type, codes, gpu.bytes(packed, codes.length), "codes of " + n + " by " + blockSize);
                }
            }
        }
    }

    /**
     * NF4 to the bit. FP4 has two zeros, codes 0 and 8, and the CPU and the GPU do not agree on which one is for small
     * numbers; and the GPU's thresholds have seven digits only, so that one number in some 100,000 lies between the
     * two.
     */
    private static void assertCodes(FourBit type, byte[] expected, byte[] got, String what) {
        int other = 0;
        for (int i = 0; i < expected.length; i++) {
            if (type == FourBit.FP4 ? oneZero(expected[i]) != oneZero(got[i]) : expected[i] != got[i]) {
                other++;
            }
        }
        assertTrue(other <= (type == FourBit.FP4 ? 1 : 0), what + ": " + other + " differ");
    }

    private static int oneZero(byte pair) {
        int high = pair >> 4 & 15;
        int low = pair & 15;
        return (high == 8 ? 0 : high) << 4 | (low == 8 ? 0 : low);
    }

    /** 0 · (1 / 0) is NaN, which is above no threshold: on a GPU zeros get code 0, on a CPU 7. */
    @Test
    void aBlockOfZerosHasCodeZero() {
        try (TestGpu gpu = new TestGpu()) {
            long x = gpu.upload(new float[64]);
            long absmax = gpu.allocate(4);
            long packed = gpu.allocate(32);
            CudaBitsAndBytes.quantize4Bit(FourBit.NF4, x, absmax, packed, 64, 64);
            assertArrayEquals(new float[1], gpu.floats(absmax, 1));
            assertArrayEquals(new byte[32], gpu.bytes(packed, 32));
        }
    }

    @ParameterizedTest
    @EnumSource(FourBit.class)
    void dequantize4BitToBf16(FourBit type) {
        for (int blockSize = 32; blockSize <= 4096; blockSize *= 2) {
            for (int n : new int[] {blockSize, 1023, 5 * blockSize + 33}) {
                try (TestGpu gpu = new TestGpu()) {
                    float[] values = values(n);
                    byte[] codes = new byte[(n + 1) / 2];
                    float[] scales = new float[ceilDiv(n, blockSize)];
                    BlockQuantizer.quantize(java(type), blockSize, values, 0, n, codes, 0, scales, 0);
                    long packed = gpu.upload(codes);
                    long absmax = gpu.upload(scales, Math.max(scales.length, ceilDiv(n, 1024) * 1024 / blockSize));
                    long out = gpu.allocate(2L * n);
                    CudaBitsAndBytes.dequantize4BitToBf16(type, packed, absmax, out, blockSize, n, gpu.stream);
                    BitsAndBytesLaunch.last()
                            .check(
                                    "kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, %d>".formatted(number(type)),
                                    ceilDiv(n, 1024) + " 1 1",
                                    "64 1 1",
                                    gpu.stream,
                                    at(0),
                                    at(packed),
                                    at(absmax),
                                    at(out),
                                    // in bytes of codes
                                    blockSize / 2,
                                    n);
                    BlockQuantizer.dequantize(java(type), blockSize, codes, scales, 0, n, values, 0);
                    for (int i = 0; i < n; i++) {
                        values[i] = FloatFormats.bf16ToFloat(FloatFormats.floatToBf16(values[i]));
                    }
                    assertArrayEquals(values, gpu.bf16(out, n), n + " by " + blockSize);
                }
            }
        }
    }

    /** Codes of 8 bits, as scales of 4-bit weights have them: there and back. */
    @ParameterizedTest
    @ValueSource(ints = {64, 256, 1024, 4096})
    void eightBits(int blockSize) {
        Blockwise8 rules = new Blockwise8(DynamicMap.signed());
        for (int n : new int[] {blockSize, 3 * blockSize + 100, 511}) {
            try (TestGpu gpu = new TestGpu()) {
                float[] values = values(n);
                int blocks = ceilDiv(n, blockSize);
                long map = gpu.upload(DynamicMap.signed());
                long x = gpu.upload(values);
                long absmax = gpu.allocate(4L * Math.max(blocks, ceilDiv(n, 512) * 512 / blockSize));
                long codes = gpu.allocate(n);
                CudaBitsAndBytes.quantize8Bit(map, x, absmax, codes, blockSize, n);
                QuantizeLaunch expected = QuantizeLaunch.of(blockSize, n, 0);
                BitsAndBytesLaunch.last()
                        .check(
                                expected.kernel,
                                expected.grid + " 1 1",
                                expected.threads + " 1 1",
                                0,
                                at(map),
                                at(x),
                                at(absmax),
                                at(codes),
                                at(0),
                                0,
                                n);
                byte[] expectedCodes = new byte[n];
                float[] scales = new float[blocks];
                rules.quantize(Blockwise8.Rule.NEAREST, blockSize, values, 0, n, expectedCodes, 0, scales, 0);
                assertArrayEquals(scales, gpu.floats(absmax, blocks));
                assertArrayEquals(expectedCodes, gpu.bytes(codes, n));

                long out = gpu.allocate(4L * n);
                CudaBitsAndBytes.dequantize8Bit(map, codes, absmax, out, blockSize, n, gpu.stream);
                BitsAndBytesLaunch.last()
                        .check(
                                "kDequantizeBlockwise<float, 512, 64, 8, 0>",
                                ceilDiv(n, 512) + " 1 1",
                                "64 1 1",
                                gpu.stream,
                                at(map),
                                at(codes),
                                at(absmax),
                                at(out),
                                blockSize,
                                n);
                float[] decoded = new float[n];
                rules.dequantize(blockSize, expectedCodes, 0, n, scales, 0, decoded, 0);
                assertArrayEquals(decoded, gpu.floats(out, n));
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 3, 64})
    void gemm4Bit(int m) {
        // many columns: with 64 rows the library then takes tensor cores
        int n = 4096;
        int k = 128;
        int blockSize = 64;
        int blocks = n * k / blockSize;
        float[] w = values(n * k);
        byte[] codes = new byte[n * k / 2];
        float[] scales = new float[blocks];
        BlockQuantizer.quantize(QuantType.NF4, blockSize, w, 0, n * k, codes, 0, scales, 0);
        float[] x = values(m * k);
        byte[] xBytes = new byte[2 * x.length];
        for (int i = 0; i < x.length; i++) {
            short bits = FloatFormats.floatToBf16(x[i]);
            x[i] = FloatFormats.bf16ToFloat(bits);
            xBytes[2 * i] = (byte) bits;
            xBytes[2 * i + 1] = (byte) (bits >> 8);
        }
        float offset = 0.5f;
        Blockwise8 rules = new Blockwise8(DynamicMap.signed());
        byte[] scaleCodes = new byte[blocks];
        float[] absmax2 = new float[ceilDiv(blocks, 256)];
        float[] nestedScales = scales.clone();
        for (int i = 0; i < blocks; i++) {
            nestedScales[i] -= offset;
        }
        rules.quantize(Blockwise8.Rule.NEAREST, 256, nestedScales, 0, blocks, scaleCodes, 0, absmax2, 0);
        rules.dequantize(256, scaleCodes, 0, blocks, absmax2, 0, nestedScales, 0);
        for (int i = 0; i < blocks; i++) {
            nestedScales[i] += offset;
        }
        try (TestGpu gpu = new TestGpu()) {
            long xAt = gpu.upload(xBytes);
            long packed = gpu.upload(codes);
            long plain = gpu.upload(scales);
            long out = gpu.allocate(2L * m * n);
            CudaBitsAndBytes.gemm4Bit(
                    FourBit.NF4, xAt, packed, new Scales.Plain(plain), out, m, n, k, blockSize, gpu.stream);
            Object[] shape = {m, n, k, blockSize, 2};
            checkGemm(gpu, m, n, at(xAt), at(packed), at(plain), at(0), at(0), at(0), at(out), at(0), shape);
            checkProduct(gpu.bf16(out, m * n), x, codes, scales, m, n, k, blockSize);

            long scaleCodesAt = gpu.upload(scaleCodes);
            long absmax2At = gpu.upload(absmax2);
            long mapAt = gpu.upload(DynamicMap.signed());
            long offsetAt = gpu.upload(offset);
            Scales nested = new Scales.Nested(scaleCodesAt, absmax2At, mapAt, offsetAt);
            CudaBitsAndBytes.gemm4Bit(FourBit.NF4, xAt, packed, nested, out, m, n, k, blockSize, gpu.stream);
            checkGemm(
                    gpu,
                    m,
                    n,
                    at(xAt),
                    at(packed),
                    at(absmax2At),
                    at(scaleCodesAt),
                    at(mapAt),
                    at(offsetAt),
                    at(out),
                    at(0),
                    shape);
            checkProduct(gpu.bf16(out, m * n), x, codes, nestedScales, m, n, k, blockSize);
        }
    }

    /** @param arguments the pointers, then an array of the sizes */
    private static void checkGemm(TestGpu gpu, int m, int n, Object... arguments) {
        if (CudaSimulator.REAL) {
            return;
        }
        Object[] all = new Object[13];
        System.arraycopy(arguments, 0, all, 0, 8);
        System.arraycopy((Object[]) arguments[8], 0, all, 8, 5);
        BitsAndBytesLaunch launch = BitsAndBytesLaunch.last();
        if (m <= 8) {
            launch.check(
                    "gemm_4bit_simt<__nv_bfloat16, %d>".formatted(m),
                    ceilDiv(n, Integer.parseInt(launch.block().split(" ")[0]) / 32) + " 1 1",
                    launch.block(),
                    gpu.stream,
                    all);
        } else {
            // tiles of rows and columns are the first two numbers of the kernel's name
            String[] tile = launch.kernel().replaceAll("[^0-9,]", "").split(",");
            assertTrue(launch.kernel().startsWith("gemm_4bit_sm80_m16n8k16<__nv_bfloat16, "), launch.kernel());
            String grid = ceilDiv(m, Integer.parseInt(tile[1])) + " " + ceilDiv(n, Integer.parseInt(tile[2])) + " 1";
            launch.check(launch.kernel(), grid, launch.block(), gpu.stream, all);
        }
    }

    private static void checkProduct(
            float[] out, float[] x, byte[] codes, float[] scales, int m, int n, int k, int blockSize) {
        float[] w = new float[n * k];
        BlockQuantizer.dequantize(QuantType.NF4, blockSize, codes, scales, 0, n * k, w, 0);
        for (int row = 0; row < m; row++) {
            for (int col = 0; col < n; col++) {
                double sum = 0;
                double size = 0;
                for (int i = 0; i < k; i++) {
                    double product = (double) x[row * k + i] * w[col * k + i];
                    sum += product;
                    size += Math.abs(product);
                }
                // the result is rounded to bf16, the sum is fp32's
                assertEquals(sum, out[row * n + col], Math.abs(sum) / 256 + size * 1e-6, row + ", " + col);
            }
        }
    }
}
