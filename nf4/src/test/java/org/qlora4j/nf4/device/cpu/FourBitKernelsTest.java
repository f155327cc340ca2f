package org.qlora4j.nf4.device.cpu;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.Nf4Kernels;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.DoubleQuant;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** Decoding and products of 4-bit codes against {@link BlockQuantizer}, on 1, 8 and 16 lanes. */
class FourBitKernelsTest {
    private static final int SEED = 11;
    private static final float CANARY = 123456f;

    private final Arena arena = Arena.ofConfined();

    @AfterEach
    void close() {
        arena.close();
    }

    private MemorySegment floats(float[] values) {
        MemorySegment segment = arena.allocate(4L * values.length + 4, 64);
        MemorySegment.copy(values, 0, segment, JAVA_FLOAT, 0, values.length);
        segment.set(JAVA_FLOAT, 4L * values.length, CANARY);
        return segment;
    }

    private MemorySegment bytes(byte[] values) {
        MemorySegment segment = arena.allocate(values.length, 64);
        MemorySegment.copy(values, 0, segment, JAVA_BYTE, 0, values.length);
        return segment;
    }

    private static float[] normal(int n, double scale) {
        Random random = new Random(SEED);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) (random.nextGaussian() * scale);
        }
        return x;
    }

    private static byte[] codes(int n) {
        byte[] packed = new byte[(n + 1) / 2];
        new Random(SEED).nextBytes(packed);
        return packed;
    }

    /** What a kernel is called with: y, table, packed, absmax, blockSize, n. */
    private interface Decode {
        void run(long y, long table, long packed, long absmax, int blockSize, int n);
    }

    @ParameterizedTest
    @ValueSource(ints = {32, 64, 128, 256, 512, 1024, 2048, 4096})
    void everyLaneCountDecodesToTheBitsOfTheReference(int blockSize) {
        int n = 3 * blockSize;
        byte[] packed = codes(n);
        float[] absmax = {0.75f, Float.POSITIVE_INFINITY, Float.NaN};
        for (QuantType type : QuantType.values()) {
            float[] expected = new float[n];
            BlockQuantizer.dequantize(type, blockSize, packed, absmax, 0, n, expected, 0);
            expect("scalar", new ScalarKernels()::decode4, type, blockSize, packed, absmax, expected);
            expect("8 lanes", FourBitVectors::decode, type, blockSize, packed, absmax, expected);
            expect("the best", Kernels.best()::decode4, type, blockSize, packed, absmax, expected);
            if (n % 64 == 0) {
                expect("16 lanes", FourBitWide::decode, type, blockSize, packed, absmax, expected);
            }
        }
    }

    private void expect(
            String kernel,
            Decode decode,
            QuantType type,
            int blockSize,
            byte[] packed,
            float[] absmax,
            float[] expected) {
        MemorySegment y = floats(new float[expected.length]);
        MemorySegment table = floats(type.codebook().decodedValues());
        decode.run(
                y.address(),
                table.address(),
                bytes(packed).address(),
                floats(absmax).address(),
                blockSize,
                expected.length);
        for (int i = 0; i < expected.length; i++) {
            int element = i;
            assertEquals(
                    Float.floatToIntBits(expected[i]),
                    Float.floatToIntBits(y.getAtIndex(JAVA_FLOAT, i)),
                    () -> kernel + ", " + type + ", block size " + blockSize + ", element " + element);
        }
        assertEquals(CANARY, y.getAtIndex(JAVA_FLOAT, expected.length), kernel + " wrote behind the end");
    }

    @ParameterizedTest
    @CsvSource({"64,64", "576,64", "1152,128", "1024,256", "4096,4096"})
    void productsOfCodesAreThoseOfTheDecodedRows(int cols, int blockSize) {
        int rows = 5;
        byte[] packed = codes(rows * cols);
        float[] absmax = normal(rows * cols / blockSize, 1);
        float[] x = normal(cols, 1);
        for (QuantType type : QuantType.values()) {
            float[] w = new float[rows * cols];
            BlockQuantizer.dequantize(type, blockSize, packed, absmax, 0, w.length, w, 0);
            for (Kernels kernels : new Kernels[] {new ScalarKernels(), Kernels.best()}) {
                float[] y = product(kernels, type, blockSize, packed, absmax, x, rows, cols);
                for (int r = 0; r < rows; r++) {
                    double exact = 0;
                    double magnitude = 0;
                    for (int c = 0; c < cols; c++) {
                        exact += (double) w[r * cols + c] * x[c];
                        magnitude += Math.abs((double) w[r * cols + c] * x[c]);
                    }
                    assertClose(exact, y[r], magnitude, cols, kernels.getClass().getSimpleName() + ", row " + r);
                }
            }
        }
    }

    private float[] product(
            Kernels kernels,
            QuantType type,
            int blockSize,
            byte[] packed,
            float[] absmax,
            float[] x,
            int rows,
            int cols) {
        MemorySegment permuted = floats(new float[Kernels.permutedFloats(cols)]);
        kernels.permute4(permuted.address(), floats(x).address(), cols);
        MemorySegment y = floats(new float[rows]);
        kernels.dot4(
                y.address(),
                rows,
                floats(type.codebook().decodedValues()).address(),
                bytes(packed).address(),
                floats(absmax).address(),
                blockSize,
                permuted.address(),
                cols);
        assertEquals(CANARY, y.getAtIndex(JAVA_FLOAT, rows), "wrote behind the end");
        return y.asSlice(0, 4L * rows).toArray(JAVA_FLOAT);
    }

    @Test
    void aRowsBitsDependNeitherOnItsNeighboursNorOnTheCompiler() {
        int rows = 3;
        int cols = 192;
        MemorySegment packed = bytes(codes(rows * cols));
        MemorySegment absmax = floats(normal(rows * cols / 64, 1));
        MemorySegment table = floats(QuantType.NF4.codebook().decodedValues());
        Kernels kernels = Kernels.best();
        MemorySegment x = floats(new float[Kernels.permutedFloats(cols)]);
        kernels.permute4(x.address(), floats(normal(cols, 1)).address(), cols);
        MemorySegment first = floats(new float[rows]);
        kernels.dot4(first.address(), rows, table.address(), packed.address(), absmax.address(), 64, x.address(), cols);

        MemorySegment later = floats(new float[rows]);
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        long allocated = Long.MAX_VALUE;
        // until C2 has the loop, which takes its time on a busy machine, every vector is an object
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (allocated > 0 && System.nanoTime() < deadline) {
            long before = threads.getCurrentThreadAllocatedBytes();
            for (int i = 0; i < 500; i++) {
                kernels.dot4(
                        later.address(),
                        rows,
                        table.address(),
                        packed.address(),
                        absmax.address(),
                        64,
                        x.address(),
                        cols);
            }
            allocated = (threads.getCurrentThreadAllocatedBytes() - before) / 500;
        }
        assertEquals(0, allocated, "bytes allocated per product once compiled");
        for (int r = 0; r < rows; r++) {
            MemorySegment alone = floats(new float[1]);
            kernels.dot4(
                    alone.address(),
                    1,
                    table.address(),
                    packed.address() + r * cols / 2,
                    absmax.address() + 4L * r * cols / 64,
                    64,
                    x.address(),
                    cols);
            int bits = Float.floatToRawIntBits(first.getAtIndex(JAVA_FLOAT, r));
            assertEquals(bits, Float.floatToRawIntBits(alone.getAtIndex(JAVA_FLOAT, 0)), "row " + r + " alone");
            assertEquals(bits, Float.floatToRawIntBits(later.getAtIndex(JAVA_FLOAT, r)), "row " + r + " compiled");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "5,33,64,false",
        "5,33,64,true",
        "7,96,64,true",
        "3,1000,32,true",
        "40,192,128,true",
        "9,576,64,true",
        "300,64,64,true",
        "2,64,4096,false",
        "1,1,32,true"
    })
    void theDeviceDecodesAndMultipliesAnyShape(int rows, int cols, int blockSize, boolean doubleQuant) {
        decodesAndMultiplies(Nf4Kernels.VECTOR, rows, cols, blockSize, doubleQuant);
        decodesAndMultiplies(Nf4Kernels.BITSANDBYTES, rows, cols, blockSize, doubleQuant);
    }

    private static void decodesAndMultiplies(
            Nf4Kernels nf4Kernels, int rows, int cols, int blockSize, boolean doubleQuant) {
        float[] values = normal(rows * cols, 0.05);
        for (QuantType type : QuantType.values()) {
            byte[] packed = new byte[(int) BlockQuantizer.packedBytes(values.length)];
            float[] absmax = new float[(int) BlockQuantizer.blocks(values.length, blockSize)];
            BlockQuantizer.quantize(type, blockSize, values, 0, values.length, packed, 0, absmax, 0);
            try (CpuDevice device = new CpuDevice(2, DType.F32, nf4Kernels);
                    Scope scope = device.newScope()) {
                Weight.AbsMax scales;
                if (doubleQuant) {
                    DoubleQuant.Nested nested = DoubleQuant.quantize(absmax);
                    absmax = DoubleQuant.dequantize(nested, DynamicMap.signed());
                    scales = new Weight.AbsMax.Nested(
                            upload(device, scope, nested.codes()),
                            upload(device, scope, nested.absmax2(), 1),
                            upload(device, scope, DynamicMap.signed(), 1),
                            DoubleQuant.BLOCK_SIZE,
                            nested.offset());
                } else {
                    scales = new Weight.AbsMax.Plain(upload(device, scope, absmax, 1));
                }
                Weight weight =
                        new Weight.Quantized(type, blockSize, rows, cols, upload(device, scope, packed), scales);
                float[] w = new float[values.length];
                BlockQuantizer.dequantize(type, blockSize, packed, absmax, 0, w.length, w, 0);
                Tensor decoded = scope.newTensor(rows, cols);
                device.ops().dequantize(decoded, weight);
                float[] found = new float[w.length];
                device.download(decoded, found, 0);
                for (int i = 0; i < w.length; i++) {
                    // FP4 has two zeros, of which the library's AVX-512 code knows one
                    boolean zero = type == QuantType.FP4 && nf4Kernels == Nf4Kernels.BITSANDBYTES && w[i] == 0;
                    float expected = zero ? Math.copySign(0f, found[i]) : w[i];
                    assertEquals(
                            Float.floatToIntBits(expected), Float.floatToIntBits(found[i]), type + ", element " + i);
                }
                for (int tokens : new int[] {1, 2, 3, 4, 5, 17}) {
                    products(device, scope, weight, w, tokens);
                }
            }
        }
    }

    /** x·Wᵀ and dy·W against sums in double. */
    private static void products(CpuDevice device, Scope scope, Weight weight, float[] w, int tokens) {
        int rows = weight.rows();
        int cols = weight.cols();
        float[] x = normal(tokens * cols, 1);
        Tensor y = scope.newTensor(tokens, rows);
        device.ops().matmul(y, upload(device, scope, x, tokens), weight, true, 0);
        float[] forward = new float[tokens * rows];
        device.download(y, forward, 0);
        Tensor dx = scope.newTensor(tokens, cols);
        device.ops().matmul(dx, upload(device, scope, forward, tokens), weight, false, 0);
        float[] backward = new float[tokens * cols];
        device.download(dx, backward, 0);
        for (int t = 0; t < tokens; t++) {
            for (int r = 0; r < rows; r++) {
                double sum = 0;
                double magnitude = 0;
                for (int c = 0; c < cols; c++) {
                    double product = (double) x[t * cols + c] * w[r * cols + c];
                    sum += product;
                    magnitude += Math.abs(product);
                }
                assertClose(sum, forward[t * rows + r], magnitude, cols, "x·Wᵀ, tokens " + tokens);
            }
            for (int c = 0; c < cols; c++) {
                double sum = 0;
                double magnitude = 0;
                for (int r = 0; r < rows; r++) {
                    double product = (double) forward[t * rows + r] * w[r * cols + c];
                    sum += product;
                    magnitude += Math.abs(product);
                }
                assertClose(sum, backward[t * cols + c], magnitude, rows, "dy·W, tokens " + tokens);
            }
        }
    }

    /** Rounding errors of a sum in fp32 grow with the root of its length, in units of half an ulp of its magnitude. */
    private static void assertClose(double expected, float found, double magnitude, int terms, String what) {
        assertEquals(expected, found, 0x1p-24 * (4 + Math.sqrt(terms)) * magnitude + 1e-30, what);
    }

    private static Tensor upload(CpuDevice device, Scope scope, byte[] values) {
        Tensor t = scope.newTensor(DType.U8, 1, values.length);
        device.upload(t, values, 0);
        return t;
    }

    private static Tensor upload(CpuDevice device, Scope scope, float[] values, int rows) {
        Tensor t = scope.newTensor(rows, values.length / rows);
        device.upload(t, values, 0);
        return t;
    }

    @Test
    void theVectorModuleIsThere() {
        assertTrue(
                Kernels.best() instanceof VectorKernels,
                "run the tests with --add-modules jdk.incubator.vector, or they test the scalar loops only");
    }
}
