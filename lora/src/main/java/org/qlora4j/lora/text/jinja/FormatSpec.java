package org.qlora4j.lora.text.jinja;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.RoundingMode;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Python's format specification, {@code [[fill]align][sign][#][0][width][,][.precision][type]}, as str.format and
 * format use it.
 */
record FormatSpec(
        int fill, char align, char sign, boolean alternate, int width, char grouping, int precision, char type) {
    private static final Pattern SYNTAX = Pattern.compile(
            "(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?(\\d{1,8})?([,_])?(?:\\.(\\d{1,8}))?([a-zA-Z%])?", Pattern.DOTALL);

    static FormatSpec parse(String text) {
        Matcher m = SYNTAX.matcher(text);
        if (!m.matches()) {
            throw PyError.value("Invalid format specifier '" + text + "'");
        }
        boolean zero = m.group(5) != null;
        int fill = m.group(1) != null ? m.group(1).codePointAt(0) : zero ? '0' : ' ';
        char align = m.group(2) != null ? m.group(2).charAt(0) : zero ? '=' : '\0';
        return new FormatSpec(
                fill,
                align,
                m.group(3) != null ? m.group(3).charAt(0) : '-',
                m.group(4) != null,
                m.group(6) != null ? Integer.parseInt(m.group(6)) : 0,
                m.group(7) != null ? m.group(7).charAt(0) : '\0',
                m.group(8) != null ? Integer.parseInt(m.group(8)) : -1,
                m.group(9) != null ? m.group(9).charAt(0) : '\0');
    }

    Text format(Session session, Object value) {
        session.string(width);
        session.string(precision);
        if (value instanceof Double || "eEfFgG%".indexOf(type) >= 0 && Numbers.isNumber(value)) {
            return number(
                    session, Numbers.isNan(value) ? 0 : Numbers.compare(value, 0L), negative(value), floating(value));
        }
        if (Numbers.isInt(value) && (!(value instanceof Boolean) || type != '\0')) {
            return integer(session, Numbers.big(value));
        }
        if (!(value instanceof Text) && !(value instanceof Boolean)) {
            boolean empty = this.equals(parse(""));
            if (!empty) {
                throw PyError.type("unsupported format string passed to " + Types.name(value) + ".__format__");
            }
        }
        if (type != '\0' && type != 's') {
            throw PyError.value("Unknown format code '" + type + "' for object of type '" + Types.name(value) + "'");
        }
        if (grouping != '\0') {
            throw PyError.value("Cannot specify '" + grouping + "' with 's'.");
        }
        Text text = Repr.str(session, value);
        if (precision >= 0 && precision < text.length()) {
            text = text.substring(0, text.offset(precision));
        }
        return pad(session, Text.EMPTY, text, '<');
    }

    private static boolean negative(Object value) {
        return value instanceof Double number
                ? number < 0 || number == 0 && 1 / number < 0
                : Numbers.compare(value, 0L) < 0;
    }

    private String floating(Object value) {
        double number = Numbers.toDouble(value);
        if (type == '%') {
            return FloatFormat.format(number * 100, 'f', precision < 0 ? 6 : precision, alternate) + "%";
        }
        if (type == '\0') {
            String shortest = FloatFormat.repr(Math.abs(number));
            if (precision < 0) {
                return shortest;
            }
            String general = FloatFormat.format(number, 'g', precision, alternate);
            return general.matches("\\d+") && general.length() < Math.max(precision, 1) ? general + ".0" : general;
        }
        if ("eEfFgG".indexOf(type) < 0) {
            throw PyError.value("Unknown format code '" + type + "' for object of type 'float'");
        }
        return FloatFormat.format(number, type, precision < 0 ? 6 : precision, alternate);
    }

    private Text integer(Session session, BigInteger value) {
        if (precision >= 0) {
            throw PyError.value("Precision not allowed in integer format specifier");
        }
        BigInteger absolute = value.abs();
        String digits = switch (type) {
            case '\0', 'd', 'n' -> absolute.toString();
            case 'b' -> (alternate ? "0b" : "") + absolute.toString(2);
            case 'o' -> (alternate ? "0o" : "") + absolute.toString(8);
            case 'x' -> (alternate ? "0x" : "") + absolute.toString(16);
            case 'X' -> (alternate ? "0X" : "") + absolute.toString(16).toUpperCase(Locale.ROOT);
            case 'c' -> Character.toString(value.intValueExact());
            default -> throw PyError.value("Unknown format code '" + type + "' for object of type 'int'");
        };
        return number(session, value.signum(), value.signum() < 0, digits);
    }

    private Text number(Session session, int signum, boolean negative, String digits) {
        String mark = negative ? "-" : sign == '-' || signum < 0 ? "" : Character.toString(sign);
        String body = grouping == '\0' ? digits : grouped(digits);
        return pad(session, Text.of(mark), Text.of(body), '>');
    }

    private String grouped(String digits) {
        int end = 0;
        while (end < digits.length() && Character.isDigit(digits.charAt(end))) {
            end++;
        }
        StringBuilder out = new StringBuilder(digits);
        for (int i = end - 3; i > 0; i -= 3) {
            out.insert(i, grouping);
        }
        return out.toString();
    }

    private Text pad(Session session, Text mark, Text body, char defaultAlign) {
        long missing = Math.max(0, (long) width - mark.length() - body.length());
        char side = align == '\0' ? defaultAlign : align;
        long before = side == '>' ? missing : side == '^' ? missing / 2 : 0;
        Text filler = Text.of(Character.toString(fill));
        TextBuilder out = new TextBuilder(session);
        out.repeat(filler, before)
                .append(mark)
                .repeat(filler, side == '=' ? missing : 0)
                .append(body);
        return out.repeat(filler, side == '=' ? 0 : missing - before).toText();
    }

    /** Rounds half to even from the exact binary value, as round() does. */
    static double round(double value, long digits) {
        if (!Double.isFinite(value) || digits > 323) {
            return value;
        }
        if (digits < -308) {
            return Math.copySign(0.0, value);
        }
        double rounded = new BigDecimal(value)
                .setScale((int) digits, RoundingMode.HALF_EVEN)
                .doubleValue();
        return Math.copySign(rounded, value);
    }
}
