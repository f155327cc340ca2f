package org.qlora4j.nf4.file;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Reads the typed values of GGUF metadata. */
final class GgufValues {
    /**
     * All array elements of a file together; the largest vocabularies with merges and scores have about 1.3 million.
     */
    private static final int MAX_ARRAY_ELEMENTS = 1 << 23;
    /** The format allows arrays of arrays; no known file goes deeper than two. */
    private static final int MAX_DEPTH = 4;

    private static final int STRING = 8;
    private static final int ARRAY = 9;

    private final Path file;
    private final GgufInput in;
    private int elementsLeft = MAX_ARRAY_ELEMENTS;

    GgufValues(Path file, GgufInput in) {
        this.file = file;
        this.in = in;
    }

    /** The next value with its type. */
    Object read(String key) {
        String what = "metadata '" + key + "'";
        return value(what, in.i32(what), 0);
    }

    private Object value(String what, int type, int depth) {
        return switch (type) {
            case 0 -> (long) in.u8(what);
            case 1 -> (long) (byte) in.u8(what);
            case 2 -> (long) in.u16(what);
            case 3 -> (long) (short) in.u16(what);
            case 4 -> Integer.toUnsignedLong(in.i32(what));
            case 5 -> (long) in.i32(what);
            case 6 -> (double) in.f32(what);
            case 7 -> bool(what);
            case STRING -> in.string(what);
            case ARRAY -> array(what, depth + 1);
            case 10 -> unsigned(what, in.i64(what));
            case 11 -> in.i64(what);
            case 12 -> in.f64(what);
            default ->
                throw new ModelFormatException(
                        file,
                        what + ": value type " + Integer.toUnsignedString(type) + " before offset " + in.position()
                                + " is unknown; the format has 0 to 12");
        };
    }

    private boolean bool(String what) {
        int value = in.u8(what);
        if (value > 1) {
            throw new ModelFormatException(file, what + ": a bool must be 0 or 1, found " + value);
        }
        return value == 1;
    }

    private long unsigned(String what, long value) {
        if (value < 0) {
            throw new ModelFormatException(
                    file, what + ": " + Long.toUnsignedString(value) + " does not fit into 63 bits");
        }
        return value;
    }

    private List<Object> array(String what, int depth) {
        if (depth > MAX_DEPTH) {
            throw new ModelFormatException(file, what + ": arrays are nested deeper than " + MAX_DEPTH);
        }
        int type = in.i32(what);
        int count = in.count(what, in.i64(what), minBytes(type), elementsLeft);
        elementsLeft -= count;
        List<Object> values = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            values.add(value(what, type, depth));
        }
        return Collections.unmodifiableList(values);
    }

    private static int minBytes(int type) {
        return switch (type) {
            case 2, 3 -> 2;
            case 4, 5, 6 -> 4;
            case STRING, 10, 11, 12 -> 8;
            case ARRAY -> 4 + 8;
            default -> 1;
        };
    }
}
