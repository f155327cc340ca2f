package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.DynamicMap;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;

/** A device under test and the reference, holding the same values; each tensor has a frame of NaN that must stay. */
final class TwoDevices implements AutoCloseable {
    /** Where a tensor lies: alone, or as a part of a wider and higher matrix. */
    enum Layout {
        CONTIGUOUS(0, 0, 0),
        STRIDED(1, 3, 2);

        final int frameRows;
        final int left;
        final int right;

        Layout(int frameRows, int left, int right) {
            this.frameRows = frameRows;
            this.left = left;
            this.right = right;
        }
    }

    /** The same tensor twice. @param whole the matrix the device's tensor is a part of */
    record Pair(Tensor mine, Tensor expected, Tensor whole, Layout layout) {}

    /** The same weight twice. */
    record WeightPair(Weight mine, Weight expected, String name) {}

    final Device device;
    final Device reference = new ReferenceDevice();
    private final Scope mine;
    private final Scope expected;
    private final long seed;
    private final SplittableRandom random;

    TwoDevices(Device device, long seed) {
        this.device = device;
        this.mine = device.newScope();
        this.expected = reference.newScope();
        this.seed = seed;
        this.random = new SplittableRandom(seed);
    }

    Ops ops() {
        return device.ops();
    }

    Ops referenceOps() {
        return reference.ops();
    }

    DType type() {
        return device.floatType();
    }

    /** Full of NaN: results that must not be read. */
    Pair garbage(int rows, int cols, Layout layout) {
        return make(rows, cols, layout, nan(rows * cols));
    }

    /** Normally distributed times scale. */
    Pair random(int rows, int cols, double scale, Layout layout) {
        double[] values = new double[rows * cols];
        Arrays.setAll(values, i -> scale * gaussian());
        return make(rows, cols, layout, values);
    }

    Pair make(int rows, int cols, Layout layout, double[] values) {
        return make(type(), rows, cols, layout, values);
    }

    /** As {@link #garbage}, in the device's precise type. */
    Pair preciseGarbage(int rows, int cols, Layout layout) {
        return preciseMake(rows, cols, layout, nan(rows * cols));
    }

    /** As {@link #random}, in the device's precise type. */
    Pair preciseRandom(int rows, int cols, double scale, Layout layout) {
        double[] values = new double[rows * cols];
        Arrays.setAll(values, i -> scale * gaussian());
        return preciseMake(rows, cols, layout, values);
    }

    Pair preciseMake(int rows, int cols, Layout layout, double[] values) {
        return make(device.preciseType(), rows, cols, layout, values);
    }

    Pair make(DType type, int rows, int cols, Layout layout, double[] values) {
        Tensor whole = mine.newTensor(type, rows + 2 * layout.frameRows, cols + layout.left + layout.right);
        device.upload(whole, nan((int) whole.numel()), 0);
        Tensor part = whole.rows(layout.frameRows, rows).cols(layout.left, cols);
        device.upload(part, values, 0);
        double[] rounded = new double[values.length];
        device.download(part, rounded, 0);
        // the reference computes in double whatever the device's type, but from the device's inputs
        Tensor exact =
                expected.newTensor(type == type() || type == device.preciseType() ? DType.F64 : type, rows, cols);
        reference.upload(exact, rounded, 0);
        return new Pair(part, exact, whole, layout);
    }

    Pair indices(int... values) {
        Tensor a = mine.newTensor(DType.I32, 1, values.length);
        Tensor b = expected.newTensor(DType.I32, 1, values.length);
        device.upload(a, values, 0);
        reference.upload(b, values, 0);
        return new Pair(a, b, a, Layout.CONTIGUOUS);
    }

    Pair randomIndices(int count, int limit) {
        int[] values = new int[count];
        Arrays.setAll(values, i -> random.nextInt(limit));
        return indices(values);
    }

    /** Different ones, in random order. */
    Pair distinctIndices(int count, int limit) {
        int[] all = new int[limit];
        Arrays.setAll(all, i -> i);
        for (int i = 0; i < count; i++) {
            int j = random.nextInt(i, limit);
            int swap = all[i];
            all[i] = all[j];
            all[j] = swap;
        }
        return indices(Arrays.copyOf(all, count));
    }

    WeightPair dense(DType type, int rows, int cols) {
        double[] values = new double[rows * cols];
        Arrays.setAll(values, i -> gaussian() / 8);
        Pair pair = make(type, rows, cols, Layout.CONTIGUOUS, values);
        return new WeightPair(
                new Weight.Dense(pair.mine), new Weight.Dense(pair.expected), type + " [" + rows + ", " + cols + "]");
    }

    WeightPair int8(int rows, int cols) {
        byte[] codes = new byte[rows * cols];
        random.nextBytes(codes);
        Tensor a = mine.newTensor(DType.I8, rows, cols);
        Tensor b = expected.newTensor(DType.I8, rows, cols);
        device.upload(a, codes, 0);
        reference.upload(b, codes, 0);
        Tensor[] absmax = floats(rows, 0.01f, 0.4f);
        return new WeightPair(
                new Weight.Int8(a, absmax[0]), new Weight.Int8(b, absmax[1]), "int8 [" + rows + ", " + cols + "]");
    }

    WeightPair quantized(QuantType type, int blockSize, boolean nested, int rows, int cols) {
        long n = (long) rows * cols;
        byte[] packed = new byte[(int) ((n + 1) / 2)];
        random.nextBytes(packed);
        int blocks = (int) ((n + blockSize - 1) / blockSize);
        Tensor[] p = bytes(DType.U8, packed);
        String name =
                type + " " + (nested ? "nested" : "plain") + " block " + blockSize + " [" + rows + ", " + cols + "]";
        if (!nested) {
            Tensor[] absmax = floats(blocks, 0.01f, 0.4f);
            return new WeightPair(
                    new Weight.Quantized(type, blockSize, rows, cols, p[0], new Weight.AbsMax.Plain(absmax[0])),
                    new Weight.Quantized(type, blockSize, rows, cols, p[1], new Weight.AbsMax.Plain(absmax[1])),
                    name);
        }
        byte[] codes = new byte[blocks];
        random.nextBytes(codes);
        Tensor[] c = bytes(DType.U8, codes);
        Tensor[] absmax2 = floats((blocks + 255) / 256, 0.05f, 0.15f);
        Tensor[] map = bytes(DType.F32, littleEndian(DynamicMap.signed()));
        return new WeightPair(
                new Weight.Quantized(
                        type,
                        blockSize,
                        rows,
                        cols,
                        p[0],
                        new Weight.AbsMax.Nested(c[0], absmax2[0], map[0], 256, 0.2017f)),
                new Weight.Quantized(
                        type,
                        blockSize,
                        rows,
                        cols,
                        p[1],
                        new Weight.AbsMax.Nested(c[1], absmax2[1], map[1], 256, 0.2017f)),
                name);
    }

    private Tensor[] floats(int count, float low, float high) {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = low + (high - low) * (float) random.nextDouble();
        }
        return bytes(DType.F32, littleEndian(values));
    }

    private Tensor[] bytes(DType type, byte[] bytes) {
        Tensor a = mine.newTensor(type, 1, bytes.length / type.bytes());
        Tensor b = expected.newTensor(type, 1, bytes.length / type.bytes());
        device.upload(a, bytes, 0);
        reference.upload(b, bytes, 0);
        return new Tensor[] {a, b};
    }

    private static byte[] littleEndian(float[] values) {
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        return bytes.array();
    }

    private double gaussian() {
        // Box and Muller
        return Math.sqrt(-2 * Math.log(1 - random.nextDouble())) * Math.cos(2 * Math.PI * random.nextDouble());
    }

    private static double[] nan(int count) {
        double[] values = new double[count];
        Arrays.fill(values, Double.NaN);
        return values;
    }

    double[] values(Tensor mineOnly) {
        double[] values = new double[(int) mineOnly.numel()];
        device.download(mineOnly, values, 0);
        return values;
    }

    /** The device's values are the reference's up to a relative root mean square error, and the frame is untouched. */
    void assertClose(String what, Pair pair, double tolerance) {
        double[] got = values(pair.mine);
        double[] want = expectedValues(pair);
        double error = 0;
        double norm = 0;
        double max = 0;
        for (double w : want) {
            max = Math.max(max, Math.abs(w));
        }
        for (int i = 0; i < got.length; i++) {
            double e = got[i] - want[i];
            if (!(Math.abs(e) <= Tolerances.WORST * tolerance * max)) {
                fail(at(what, pair, i) + ": expected " + want[i] + ", got " + got[i] + ", largest " + max
                        + ", tolerance " + tolerance);
            }
            error += e * e;
            norm += want[i] * want[i];
        }
        double relative = norm == 0 ? 0 : Math.sqrt(error / norm);
        assertTrue(
                relative <= tolerance,
                () -> what + " (seed " + seed + "): relative error " + relative + " is above " + tolerance);
        assertFrame(what, pair);
    }

    /** The device's values are the reference's, rounded once to the device's type. */
    void assertSame(String what, Pair pair) {
        double[] got = values(pair.mine);
        double[] want = expectedValues(pair);
        for (int i = 0; i < got.length; i++) {
            int index = i;
            double rounded = rounded(pair.mine.dtype(), want[i]);
            assertEquals(rounded, got[i], () -> at(what, pair, index));
        }
        assertFrame(what, pair);
    }

    private static double rounded(DType type, double value) {
        return switch (type) {
            case F64 -> value;
            case BF16 -> HostElements.bf16ToFloat(HostElements.floatToBf16((float) value));
            case F16 -> Float.float16ToFloat(Float.floatToFloat16((float) value));
            default -> (float) value;
        };
    }

    private double[] expectedValues(Pair pair) {
        double[] values = new double[(int) pair.expected.numel()];
        reference.download(pair.expected, values, 0);
        return values;
    }

    private String at(String what, Pair pair, int i) {
        return what + " (seed " + seed + ") [" + i / pair.mine.cols() + ", " + i % pair.mine.cols() + "]";
    }

    private void assertFrame(String what, Pair pair) {
        double[] all = values(pair.whole);
        int width = pair.whole.cols();
        for (int i = 0; i < all.length; i++) {
            int row = i / width - pair.layout.frameRows;
            int col = i % width - pair.layout.left;
            boolean inside = row >= 0 && row < pair.mine.rows() && col >= 0 && col < pair.mine.cols();
            if (!inside && !Double.isNaN(all[i])) {
                fail(what + " (seed " + seed + "): wrote outside of the result, at row " + row + ", column " + col);
            }
        }
    }

    @Override
    public void close() {
        mine.close();
        expected.close();
        reference.close();
        device.close();
    }
}
