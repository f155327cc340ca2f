package org.qlora4j.lora.text.jinja;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.RoundingMode;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** Filters of numbers and of any value. */
final class ValueFilters {
    private static final Pattern FLOAT = Pattern.compile(
            "[+-]?(?:(?:\\d+(?:_\\d+)*)?\\.?(?:\\d+(?:_\\d+)*)?(?:[eE][+-]?\\d+(?:_\\d+)*)?|nan|inf(?:inity)?)",
            Pattern.CASE_INSENSITIVE);
    private static final Pattern INTEGER = Pattern.compile("[+-]?[0-9a-zA-Z]+(?:_[0-9a-zA-Z]+)*");
    /** CPython reads at most this many digits. */
    private static final int MAX_DIGITS = 4300;

    private ValueFilters() {}

    static Map<String, Filters.Filter> all() {
        Map<String, Filters.Filter> filters = new HashMap<>();
        filters.put("default", ValueFilters::otherwise);
        filters.put("d", ValueFilters::otherwise);
        filters.put("abs", ValueFilters::abs);
        filters.put("int", ValueFilters::toInt);
        filters.put("float", ValueFilters::toFloat);
        filters.put("round", ValueFilters::round);
        filters.put("filesizeformat", ValueFilters::fileSize);
        filters.put("attr", (session, input, arguments) -> {
            String name = arguments.bind("attr", "name").text(0).value();
            Object value = Members.own(input, name);
            return value == null ? Undefined.member(input, Text.of(name)) : value;
        });
        return filters;
    }

    private static Object otherwise(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("default", "default_value?", "boolean?");
        boolean missing = input instanceof Undefined || bound.truth(1, false) && !Types.truth(input);
        return missing ? bound.get(0, Text.EMPTY) : input;
    }

    private static Object abs(Session session, Object input, Arguments arguments) {
        arguments.bind("abs");
        if (input instanceof Double number) {
            return Math.abs(number);
        }
        if (!Numbers.isInt(input)) {
            throw PyError.type("bad operand type for abs(): '" + Types.name(input) + "'");
        }
        return Numbers.norm(Numbers.big(input).abs());
    }

    private static Object toInt(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("int", "default?", "base?");
        Object otherwise = bound.get(0, 0L);
        if (input instanceof Undefined undefined) {
            throw undefined.error();
        }
        if (Numbers.isInt(input)) {
            return Numbers.norm(Numbers.big(input));
        }
        if (input instanceof Double number) {
            return number.isNaN() ? otherwise : Numbers.truncate(number);
        }
        if (!(input instanceof Text text)) {
            return otherwise;
        }
        BigInteger integer = parseInt(text, (int) bound.integer(1, 10));
        if (integer != null) {
            return Numbers.norm(integer);
        }
        Double number = parseFloat(text);
        return number == null || !Double.isFinite(number) ? otherwise : Numbers.truncate(number);
    }

    private static @Nullable BigInteger parseInt(Text text, int base) {
        String digits = StringMethods.strip(text, null, true, true).value().toLowerCase(Locale.ROOT);
        if (!INTEGER.matcher(digits).matches()
                || digits.length() > MAX_DIGITS
                || base != 0 && (base < 2 || base > 36)) {
            return null;
        }
        boolean negative = digits.startsWith("-");
        digits = digits.replace("_", "").replaceFirst("^[+-]", "");
        int radix = base;
        String prefix = digits.length() > 2 ? digits.substring(0, 2) : "";
        int prefixed = prefix.equals("0x") ? 16 : prefix.equals("0o") ? 8 : prefix.equals("0b") ? 2 : 0;
        if (prefixed != 0 && (base == 0 || base == prefixed)) {
            digits = digits.substring(2);
            radix = prefixed;
        } else if (base == 0) {
            radix = 10;
        }
        try {
            BigInteger value = new BigInteger(digits, radix);
            return negative ? value.negate() : value;
        } catch (NumberFormatException e) {
            // not a number in this base: the filter's default applies
            return null;
        }
    }

    private static @Nullable Double parseFloat(Text text) {
        String digits = StringMethods.strip(text, null, true, true)
                .value()
                .toLowerCase(Locale.ROOT)
                .replace("infinity", "inf");
        if (digits.length() > MAX_DIGITS
                || !FLOAT.matcher(digits).matches()
                || digits.chars().noneMatch(Character::isLetterOrDigit)) {
            return null;
        }
        if (digits.endsWith("nan")) {
            return Double.NaN;
        }
        if (digits.endsWith("inf")) {
            return digits.startsWith("-") ? Double.NEGATIVE_INFINITY : Double.POSITIVE_INFINITY;
        }
        try {
            return Double.valueOf(digits.replace("_", ""));
        } catch (NumberFormatException e) {
            // for example "e5": the filter's default applies
            return null;
        }
    }

    private static Object toFloat(Session session, Object input, Arguments arguments) {
        Object otherwise = arguments.bind("float", "default?").get(0, 0.0);
        if (input instanceof Undefined undefined) {
            throw undefined.error();
        }
        if (Numbers.isNumber(input)) {
            return Numbers.toDouble(input);
        }
        Double number = input instanceof Text text ? parseFloat(text) : null;
        return number == null ? otherwise : number;
    }

    private static Object round(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("round", "precision?", "method?");
        long precision = bound.integer(0, 0);
        String method = bound.text(1, Text.of("common")).value();
        if (!Numbers.isNumber(input)) {
            throw input instanceof Undefined undefined
                    ? undefined.error()
                    : PyError.type("type " + Types.name(input) + " doesn't define __round__ method");
        }
        return switch (method) {
            case "common" ->
                input instanceof Double number
                        ? (Object) FormatSpec.round(number, precision)
                        : roundInt(input, precision);
            case "ceil", "floor" -> {
                double scale = Math.pow(10, precision);
                double scaled = Numbers.toDouble(input) * scale;
                yield (method.equals("ceil") ? Math.ceil(scaled) : Math.floor(scaled)) / scale;
            }
            default -> throw new PyError("FilterArgumentError", "method must be common, ceil or floor");
        };
    }

    private static Object roundInt(Object input, long precision) {
        if (precision >= 0) {
            return Numbers.norm(Numbers.big(input));
        }
        if (precision < -MAX_DIGITS) {
            return 0L;
        }
        return Numbers.norm(new BigDecimal(Numbers.big(input))
                .setScale((int) precision, RoundingMode.HALF_EVEN)
                .toBigInteger());
    }

    private static Object fileSize(Session session, Object input, Arguments arguments) {
        boolean binary = arguments.bind("filesizeformat", "binary?").truth(0, false);
        Double bytes = input instanceof Text text ? parseFloat(text) : Double.valueOf(Numbers.toDouble(input));
        if (bytes == null) {
            throw PyError.value("could not convert string to float: " + Repr.shortRepr(input));
        }
        if (bytes == 1) {
            return Text.of("1 Byte");
        }
        double base = binary ? 1024 : 1000;
        if (bytes < base) {
            return Text.of(Numbers.truncate(bytes) + " Bytes");
        }
        String prefixes = "kMGTPEZY";
        double unit = base;
        int prefix = -1;
        do {
            unit *= base;
            prefix++;
        } while (bytes >= unit && prefix < prefixes.length() - 1);
        String letter = prefixes.substring(prefix, prefix + 1);
        String name = binary ? letter.toUpperCase(Locale.ROOT) + "iB" : letter + "B";
        return Text.of(FloatFormat.format(base * bytes / unit, 'f', 1, false) + " " + name);
    }
}
