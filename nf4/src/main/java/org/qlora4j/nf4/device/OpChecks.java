package org.qlora4j.nf4.device;

import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * The single checks {@link CheckedOps} is made of. Each one throws with the operation's and the argument's name, and
 * what was expected and found; nothing is allocated where it passes.
 */
final class OpChecks {
    private final String deviceName;
    private final DType floatType;
    private final boolean hostReadable;

    OpChecks(String deviceName, DType floatType, boolean hostReadable) {
        this.deviceName = deviceName;
        this.floatType = floatType;
        this.hostReadable = hostReadable;
    }

    /** Device and scope; paged memory is for optimizer state, which no native code sees. */
    void usable(String op, String arg, Tensor t) {
        present(op, arg, t);
        if (t.memory().isPaged()) {
            throw new ShapeException(op + ": " + arg + " " + t + " lies in paged memory, which is for optimizer state");
        }
    }

    private void present(String op, String arg, Tensor t) {
        if (!deviceName.equals(t.memory().deviceName())) {
            throw new ShapeException(op + ": " + arg + " must be on " + deviceName + ", got " + t);
        }
        if (!t.memory().isOpen()) {
            throw new IllegalStateException(op + ": " + arg + " " + t + " is used after its scope was closed");
        }
    }

    /** A tensor of the device's floating point type. */
    void floats(String op, String arg, Tensor t) {
        usable(op, arg, t);
        if (t.dtype() != floatType) {
            throw new ShapeException(op + ": " + arg + " must be " + floatType + ", got " + t);
        }
    }

    /** A tensor of the device's floating point type and this shape. */
    void floats(String op, String arg, Tensor t, long rows, long cols) {
        floats(op, arg, t);
        shape(op, arg, t, rows, cols);
    }

    /** A tensor of the device's precise type and this shape. */
    void precise(String op, String arg, Tensor t, long rows, long cols) {
        usable(op, arg, t);
        if (t.dtype() != floatType.precise()) {
            throw new ShapeException(op + ": " + arg + " must be " + floatType.precise() + ", got " + t);
        }
        shape(op, arg, t, rows, cols);
    }

    /** A tensor of the device's floating point or precise type. */
    void either(String op, String arg, Tensor t) {
        usable(op, arg, t);
        if (t.dtype() != floatType && t.dtype() != floatType.precise()) {
            throw new ShapeException(op + ": " + arg + " must be " + floatType
                    + (floatType == floatType.precise() ? "" : " or " + floatType.precise()) + ", got " + t);
        }
    }

    /** A tensor of the device's floating point or precise type and this shape. */
    void either(String op, String arg, Tensor t, long rows, long cols) {
        either(op, arg, t);
        shape(op, arg, t, rows, cols);
    }

    /** Two tensors of the same type. */
    void sameType(String op, String arg, Tensor t, String otherArg, Tensor other) {
        if (t.dtype() != other.dtype()) {
            throw new ShapeException(
                    op + ": " + arg + " must have the type of " + otherArg + ", got " + t + " and " + other);
        }
    }

    /** A tensor of any floating point type. */
    void anyFloats(String op, String arg, Tensor t) {
        usable(op, arg, t);
        if (!t.dtype().isFloat()) {
            throw new ShapeException(op + ": " + arg + " must have a floating point type, got " + t);
        }
    }

    void shape(String op, String arg, Tensor t, long rows, long cols) {
        if (t.rows() != rows || t.cols() != cols) {
            throw new ShapeException(op + ": " + arg + " must be [" + rows + ", " + cols + "], got " + t);
        }
    }

    /** I32 [1, count]. */
    void ints(String op, String arg, Tensor t, long count) {
        usable(op, arg, t);
        if (t.dtype() != DType.I32) {
            throw new ShapeException(op + ": " + arg + " must be I32, got " + t);
        }
        shape(op, arg, t, 1, count);
    }

    /** I32 [1, count] with values from 0 to limit - 1, where the host can read them. */
    void indices(String op, String arg, Tensor t, int count, int limit, String what) {
        ints(op, arg, t, count);
        if (hostReadable) {
            for (int i = 0; i < count; i++) {
                int index = HostElements.index(t, i);
                if (index < 0 || index >= limit) {
                    throw new ShapeException(op + ": " + arg + "[" + i + "] must be from 0 to " + (limit - 1) + " ("
                            + what + "), got " + index);
                }
            }
        }
    }

    /** No index twice, where the host can read them. */
    void distinct(String op, String arg, Tensor t, int limit) {
        if (!hostReadable || ascending(t)) {
            return;
        }
        long[] seen = new long[(limit + 63) / 64];
        for (int i = 0; i < t.cols(); i++) {
            int index = HostElements.index(t, i);
            if ((seen[index >> 6] >>> index & 1) != 0) {
                throw new ShapeException(
                        op + ": " + arg + "[" + i + "] repeats row " + index + "; no row may come twice");
            }
            seen[index >> 6] |= 1L << index;
        }
    }

    /** The usual case, proven without memory. */
    private static boolean ascending(Tensor t) {
        for (int i = 1; i < t.cols(); i++) {
            if (HostElements.index(t, i) <= HostElements.index(t, i - 1)) {
                return false;
            }
        }
        return true;
    }

    /** All parts of a weight: device, scope, types, sizes. */
    void weight(String op, String arg, Weight w) {
        switch (w) {
            case Weight.Dense dense -> anyFloats(op, arg, dense.values());
            case Weight.Int8 w8 -> {
                usable(op, arg, w8.codes());
                part(op, arg, "absmax", w8.absmax(), DType.F32, w8.rows());
            }
            case Weight.Quantized q -> {
                blockSize(op, arg, q.blockSize());
                part(op, arg, "packed", q.packed(), DType.U8, ((long) q.rows() * q.cols() + 1) / 2);
                switch (q.absmax()) {
                    case Weight.AbsMax.Plain plain ->
                        part(
                                op,
                                arg,
                                "absmax",
                                plain.values(),
                                DType.F32,
                                plain.values().numel());
                    case Weight.AbsMax.Nested nested -> {
                        if (nested.blockSize() < 1) {
                            throw new ShapeException(op + ": " + arg + "'s nested block size must be at least 1, got "
                                    + nested.blockSize());
                        }
                        long blocks = nested.codes().numel();
                        part(op, arg, "absmax codes", nested.codes(), DType.U8, blocks);
                        part(
                                op,
                                arg,
                                "absmax2",
                                nested.absmax2(),
                                DType.F32,
                                (blocks + nested.blockSize() - 1) / nested.blockSize());
                        part(op, arg, "map", nested.map(), DType.F32, 256);
                    }
                }
            }
        }
    }

    private static void blockSize(String op, String arg, int blockSize) {
        if (blockSize < 32 || blockSize > 4096 || Integer.bitCount(blockSize) != 1) {
            throw new ShapeException(
                    op + ": " + arg + "'s block size must be a power of two from 32 to 4096, got " + blockSize);
        }
    }

    private void part(String op, String arg, String part, Tensor t, DType dtype, long numel) {
        usable(op, arg, t);
        if (t.dtype() != dtype || t.numel() != numel || !t.isContiguous()) {
            throw new ShapeException(op + ": " + arg + "'s " + part + " must be " + numel + " contiguous elements of "
                    + dtype + ", got " + t);
        }
    }

    /** The result shares no byte with the other tensor. */
    void apart(String op, String outName, Tensor out, String inName, Tensor in) {
        if (overlap(out, in)) {
            throw new ShapeException(op + ": " + outName + " " + out + " must not overlap " + inName + " " + in);
        }
    }

    /** The result is the other tensor itself, or shares no byte with it. */
    void sameOrApart(String op, String outName, Tensor out, String inName, Tensor in) {
        if (overlap(out, in) && !(out.address() == in.address() && out.stride() == in.stride() && out.sameShape(in))) {
            throw new ShapeException(
                    op + ": " + outName + " " + out + " must be " + inName + " itself or not overlap it, got " + in);
        }
    }

    /** The result shares no byte with the weight. */
    void apart(String op, String outName, Tensor out, String inName, Weight w) {
        switch (w) {
            case Weight.Dense dense -> apart(op, outName, out, inName, dense.values());
            case Weight.Int8 w8 -> apart(op, outName, out, inName, w8.codes());
            case Weight.Quantized q -> apart(op, outName, out, inName, q.packed());
        }
    }

    /**
     * Whether two tensors of one device share a byte. Exact if their rows are equally far apart (so that different
     * columns of one matrix do not count) or one has a single row; otherwise true as soon as the spans meet.
     */
    static boolean overlap(Tensor a, Tensor b) {
        long spanA = a.spanBytes();
        long spanB = b.spanBytes();
        if (spanA == 0 || spanB == 0 || a.address() + spanA <= b.address() || b.address() + spanB <= a.address()) {
            return false;
        }
        long widthA = (long) a.cols() * a.dtype().bytes();
        long widthB = (long) b.cols() * b.dtype().bytes();
        long strideA = (long) a.stride() * a.dtype().bytes();
        long strideB = (long) b.stride() * b.dtype().bytes();
        long stride = a.rows() == 1 ? strideB : strideA;
        if (widthA > stride || widthB > stride || a.rows() > 1 && b.rows() > 1 && strideA != strideB) {
            return true;
        }
        // b starts in row `row` of a's grid, `column` bytes behind that row's start; its rows may reach into the next
        // one
        long row = Math.floorDiv(b.address() - a.address(), stride);
        long column = Math.floorMod(b.address() - a.address(), stride);
        boolean inRow = column < widthA && row < a.rows() && row + b.rows() > 0;
        boolean inNextRow = column + widthB > stride && row + 1 < a.rows() && row + 1 + b.rows() > 0;
        return inRow || inNextRow;
    }

    /** Optimizer state of n elements; the only tensors that may lie in paged memory. */
    void state(String op, OptimizerState state, OptimizerRule rule, int n) {
        switch (state) {
            case OptimizerState.Full full -> {
                statePart(op, "state1", full.state1(), floatType.precise(), rule.state1Rows(), n);
                statePart(op, "state2", full.state2(), floatType.precise(), rule.state2Rows(), n);
            }
            case OptimizerState.EightBit eightBit -> {
                int blocks = OptimizerState.EightBit.blocks(n);
                statePart(op, "state1", eightBit.state1(), DType.U8, rule.state1Rows(), n);
                statePart(op, "absmax1", eightBit.absmax1(), DType.F32, rule.state1Rows(), blocks);
                statePart(op, "state2", eightBit.state2(), DType.U8, rule.state2Rows(), n);
                statePart(op, "absmax2", eightBit.absmax2(), DType.F32, rule.state2Rows(), blocks);
            }
        }
    }

    private void statePart(String op, String arg, Tensor t, DType dtype, int rows, int cols) {
        present(op, arg, t);
        if (t.dtype() != dtype) {
            throw new ShapeException(op + ": " + arg + " must be " + dtype + ", got " + t);
        }
        shape(op, arg, t, rows, cols);
    }

    void require(boolean holds, String op, String what, double found) {
        if (!holds) {
            throw new ShapeException(op + ": " + what + ", got " + found);
        }
    }
}
