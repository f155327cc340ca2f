package org.qlora4j.lora.text.jinja;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The binary and unary operators. */
final class Arithmetic {
    /** Beyond 2^53 an int is not exactly a double any more. */
    private static final long EXACT = 1L << 53;

    private Arithmetic() {}

    static Object binary(Session session, Expr.Operator operator, Object left, Object right) {
        // str % anything formats, even with an undefined argument
        boolean formats = operator == Expr.Operator.MOD && left instanceof Text;
        if (left instanceof Undefined undefined) {
            throw undefined.error();
        }
        if (right instanceof Undefined undefined && !formats) {
            throw undefined.error();
        }
        if (formats && left instanceof Text format) {
            return Printf.format(session, format, right);
        }
        if (Numbers.isNumber(left) && Numbers.isNumber(right)) {
            return left instanceof Double || right instanceof Double
                    ? floats(operator, Numbers.toDouble(left), Numbers.toDouble(right))
                    : integers(operator, left, right);
        }
        if (operator == Expr.Operator.ADD) {
            return add(session, left, right);
        }
        if (operator == Expr.Operator.MUL) {
            Object repeated = multiply(session, left, right);
            if (repeated != null) {
                return repeated;
            }
        }
        throw unsupported(operator, left, right);
    }

    private static PyError unsupported(Expr.Operator operator, Object left, Object right) {
        return PyError.type("unsupported operand type(s) for " + operator.symbol() + ": '" + Types.name(left)
                + "' and '" + Types.name(right) + "'");
    }

    private static Object add(Session session, Object left, Object right) {
        if (left instanceof Text a) {
            if (right instanceof Text b) {
                return Markup.concat(session, a, b);
            }
            throw PyError.type("can only concatenate str (not \"" + Types.name(right) + "\") to str");
        }
        if (left instanceof ListValue a) {
            if (right instanceof ListValue b) {
                return new ListValue(joined(session, a.items(), b.items()));
            }
            throw PyError.type("can only concatenate list (not \"" + Types.name(right) + "\") to list");
        }
        if (left instanceof TupleValue a) {
            if (right instanceof TupleValue b) {
                return new TupleValue(joined(session, a.items(), b.items()));
            }
            throw PyError.type("can only concatenate tuple (not \"" + Types.name(right) + "\") to tuple");
        }
        throw unsupported(Expr.Operator.ADD, left, right);
    }

    private static List<Object> joined(Session session, List<Object> a, List<Object> b) {
        session.list((long) a.size() + b.size());
        List<Object> all = new ArrayList<>(a);
        all.addAll(b);
        return all;
    }

    private static @Nullable Object multiply(Session session, Object left, Object right) {
        Object sequence = Numbers.isInt(left) ? right : left;
        Object count = Numbers.isInt(left) ? left : right;
        if (!(sequence instanceof Text) && Types.sequence(sequence) == null) {
            return null;
        }
        if (!Numbers.isInt(count)) {
            throw PyError.type("can't multiply sequence by non-int of type '" + Types.name(count) + "'");
        }
        long times = Math.max(0, Numbers.index(count));
        if (sequence instanceof Text text) {
            return new TextBuilder(session).repeat(text, times).toText().withMarkup(text.markup());
        }
        List<Object> items = Types.sequence(sequence);
        List<Object> repeated = new ArrayList<>();
        if (items != null && !items.isEmpty()) {
            session.list(Session.product(items.size(), times));
            for (long i = 0; i < times; i++) {
                repeated.addAll(items);
            }
        }
        return sequence instanceof ListValue ? new ListValue(repeated) : new TupleValue(repeated);
    }

    private static Object integers(Expr.Operator operator, Object left, Object right) {
        BigInteger a = Numbers.big(left);
        BigInteger b = Numbers.big(right);
        return switch (operator) {
            case ADD -> Numbers.norm(a.add(b));
            case SUB -> Numbers.norm(a.subtract(b));
            case MUL -> Numbers.norm(a.multiply(b));
            case DIV -> trueDivision(a, b);
            case FLOORDIV -> Numbers.norm(floorDivision(operator, a, b)[0]);
            case MOD -> Numbers.norm(floorDivision(operator, a, b)[1]);
            case POW -> power(a, b);
        };
    }

    private static Object trueDivision(BigInteger a, BigInteger b) {
        if (b.signum() == 0) {
            throw new PyError("ZeroDivisionError", "division by zero");
        }
        BigInteger exact = BigInteger.valueOf(EXACT);
        if (a.abs().compareTo(exact) <= 0 && b.abs().compareTo(exact) <= 0) {
            return a.doubleValue() / b.doubleValue();
        }
        // 60 digits, so that the last rounding is the only one that counts
        return new BigDecimal(a).divide(new BigDecimal(b), new MathContext(60)).doubleValue();
    }

    /** Quotient rounded down, and the remainder with the divisor's sign. */
    private static BigInteger[] floorDivision(Expr.Operator operator, BigInteger a, BigInteger b) {
        if (b.signum() == 0) {
            throw new PyError(
                    "ZeroDivisionError",
                    operator == Expr.Operator.MOD ? "integer modulo by zero" : "integer division or modulo by zero");
        }
        BigInteger[] result = a.divideAndRemainder(b);
        if (result[1].signum() != 0 && result[1].signum() != b.signum()) {
            result[0] = result[0].subtract(BigInteger.ONE);
            result[1] = result[1].add(b);
        }
        return result;
    }

    private static Object power(BigInteger a, BigInteger b) {
        if (b.signum() < 0) {
            return floats(Expr.Operator.POW, a.doubleValue(), b.doubleValue());
        }
        if (a.bitLength() <= 1 && a.abs().compareTo(BigInteger.ONE) <= 0) {
            return Numbers.norm(b.signum() == 0 ? BigInteger.ONE : b.testBit(0) ? a : a.abs());
        }
        if (b.bitLength() > 31 || (long) a.bitLength() * b.intValue() > 1 << 16) {
            throw PyError.limit("the power " + a.bitLength() + " bits ** " + b + " is too large");
        }
        return Numbers.norm(a.pow(b.intValue()));
    }

    private static Object floats(Expr.Operator operator, double a, double b) {
        return switch (operator) {
            case ADD -> a + b;
            case SUB -> a - b;
            case MUL -> a * b;
            case DIV -> {
                if (b == 0) {
                    throw new PyError("ZeroDivisionError", "float division by zero");
                }
                yield a / b;
            }
            case FLOORDIV, MOD -> floatDivision(operator, a, b);
            case POW -> {
                if (a == 0 && b < 0) {
                    throw new PyError("ZeroDivisionError", "0.0 cannot be raised to a negative power");
                }
                if (a < 0 && Double.isFinite(a) && Double.isFinite(b) && b != Math.rint(b)) {
                    throw PyError.type("complex numbers are not supported");
                }
                double result = a == 1 ? 1 : a == -1 && Double.isInfinite(b) ? 1 : Math.pow(a, b);
                if (Double.isInfinite(result) && Double.isFinite(a) && Double.isFinite(b)) {
                    throw new PyError("OverflowError", "(34, 'Numerical result out of range')");
                }
                yield result;
            }
        };
    }

    /** CPython's float_divmod: the quotient is corrected so that quotient * b + remainder gives a again. */
    private static double floatDivision(Expr.Operator operator, double a, double b) {
        if (b == 0) {
            throw new PyError(
                    "ZeroDivisionError",
                    operator == Expr.Operator.MOD ? "float modulo" : "float floor division by zero");
        }
        double mod = a % b;
        double quotient = (a - mod) / b;
        if (mod != 0) {
            if (b < 0 != mod < 0) {
                mod += b;
                quotient -= 1;
            }
        } else {
            mod = Math.copySign(0.0, b);
        }
        if (operator == Expr.Operator.MOD) {
            return mod;
        }
        if (quotient == 0) {
            return Math.copySign(0.0, a / b);
        }
        double floor = Math.floor(quotient);
        return quotient - floor > 0.5 ? floor + 1 : floor;
    }

    static Object negate(Object value) {
        return switch (value) {
            case Double number -> -number;
            case Undefined undefined -> throw undefined.error();
            default -> {
                if (!Numbers.isInt(value)) {
                    throw PyError.type("bad operand type for unary -: '" + Types.name(value) + "'");
                }
                yield Numbers.norm(Numbers.big(value).negate());
            }
        };
    }

    static Object plus(Object value) {
        return switch (value) {
            case Double number -> number;
            case Undefined undefined -> throw undefined.error();
            default -> {
                if (!Numbers.isInt(value)) {
                    throw PyError.type("bad operand type for unary +: '" + Types.name(value) + "'");
                }
                yield Numbers.norm(Numbers.big(value));
            }
        };
    }
}
