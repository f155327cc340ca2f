package org.qlora4j.lora.text.jinja;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;

/** Python's numbers: unbounded int (Long, or BigInteger beyond it), float, and bool as 0 and 1. */
final class Numbers {
    /** Larger numbers are refused: nothing in a chat needs them, and their arithmetic is slow. */
    private static final int MAX_BITS = 1 << 14;

    private Numbers() {}

    static boolean isNumber(Object value) {
        return isInt(value) || value instanceof Double;
    }

    /** Including bool, which is an int in Python. */
    static boolean isInt(Object value) {
        return value instanceof Long || value instanceof BigInteger || value instanceof Boolean;
    }

    static BigInteger big(Object integer) {
        return switch (integer) {
            case BigInteger big -> big;
            case Boolean bool -> bool ? BigInteger.ONE : BigInteger.ZERO;
            case Long small -> BigInteger.valueOf(small);
            default -> throw PyError.type("'" + Types.name(integer) + "' object cannot be interpreted as an integer");
        };
    }

    static Object norm(BigInteger value) {
        if (value.bitLength() > MAX_BITS) {
            throw PyError.limit("an integer of " + value.bitLength() + " bits; at most " + MAX_BITS + " are allowed");
        }
        return value.bitLength() < 64 ? (Object) value.longValue() : value;
    }

    /** An integer as an index or count; a count too large for any container becomes the largest long. */
    static long index(Object value) {
        return switch (value) {
            case Long small -> small;
            case Boolean bool -> bool ? 1 : 0;
            case BigInteger big -> big.signum() < 0 ? Long.MIN_VALUE : Long.MAX_VALUE;
            case Undefined undefined -> throw undefined.error();
            default -> throw PyError.type("'" + Types.name(value) + "' object cannot be interpreted as an integer");
        };
    }

    static double toDouble(Object value) {
        return switch (value) {
            case Double number -> number;
            case Long small -> small;
            case Boolean bool -> bool ? 1 : 0;
            case BigInteger big -> finite(big.doubleValue());
            case Undefined undefined -> throw undefined.error();
            default -> throw PyError.type("must be real number, not " + Types.name(value));
        };
    }

    private static double finite(double value) {
        if (Double.isInfinite(value)) {
            throw new PyError("OverflowError", "int too large to convert to float");
        }
        return value;
    }

    /** Exact comparison of int and float in any mix; {@code nan} is not to be passed. */
    static int compare(Object left, Object right) {
        if (left instanceof Long a && right instanceof Long b) {
            return Long.compare(a, b);
        }
        if (left instanceof Double a && right instanceof Double b) {
            return a < b ? -1 : a > b ? 1 : 0;
        }
        if (left instanceof Double a && a.isInfinite()) {
            return a > 0 ? 1 : -1;
        }
        if (right instanceof Double b && b.isInfinite()) {
            return b > 0 ? -1 : 1;
        }
        return decimal(left).compareTo(decimal(right));
    }

    static boolean isNan(Object value) {
        return value instanceof Double number && number.isNaN();
    }

    static BigDecimal decimal(Object number) {
        return number instanceof Double value ? new BigDecimal(value) : new BigDecimal(big(number));
    }

    /** Rounds towards zero, as int() does. */
    static Object truncate(double value) {
        if (Double.isNaN(value)) {
            throw PyError.value("cannot convert float NaN to integer");
        }
        if (Double.isInfinite(value)) {
            throw new PyError("OverflowError", "cannot convert float infinity to integer");
        }
        return norm(new BigDecimal(value).toBigInteger());
    }

    /**
     * What a dict compares keys by: equal for equal numbers of any type.
     *
     * @throws PyError if the value cannot be a key
     */
    static Object key(Object value) {
        return switch (value) {
            case Boolean bool -> bool ? 1L : 0L;
            case Double number
            when number == Math.rint(number) && !Double.isInfinite(number) ->
                new BigDecimal(number).toBigInteger().bitLength() < 64 ? (Object) number.longValue() : number;
            case TupleValue tuple -> {
                List<Object> keys = new ArrayList<>();
                for (Object item : tuple.items()) {
                    keys.add(key(item));
                }
                yield keys;
            }
            case ListValue ignored -> throw PyError.type("unhashable type: 'list'");
            case DictValue ignored -> throw PyError.type("unhashable type: 'dict'");
            case Undefined ignored -> Undefined.class;
            default -> value;
        };
    }
}
