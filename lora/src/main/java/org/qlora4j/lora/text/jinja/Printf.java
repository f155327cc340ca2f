package org.qlora4j.lora.text.jinja;

import java.math.BigInteger;
import java.util.List;
import java.util.Locale;

/** {@code str % values}. */
final class Printf {
    private static final int MAX_WIDTH = 1_000_000;

    private final Session session;
    private final Text format;
    private final Object values;
    private final List<Object> positional;
    private int used;
    private int at;

    private Printf(Session session, Text format, Object values) {
        this.session = session;
        this.format = format;
        this.values = values;
        this.positional = values instanceof TupleValue tuple ? tuple.items() : List.of(values);
    }

    static Text format(Session session, Text format, Object values) {
        return new Printf(session, format, values).run().withMarkup(format.markup());
    }

    private Text run() {
        TextBuilder out = new TextBuilder(session);
        String value = format.value();
        while (at < value.length()) {
            int percent = value.indexOf('%', at);
            int end = percent < 0 ? value.length() : percent;
            out.append(format.substring(at, end));
            at = end;
            if (percent >= 0) {
                at++;
                Text result = directive();
                out.append(format.markup() ? Markup.escape(session, result) : result);
            }
        }
        // what has members counts as a mapping in CPython and need not be used
        boolean mapping = values instanceof DictValue
                || values instanceof ListValue
                || values instanceof RangeValue
                || values instanceof Undefined;
        if (used < positional.size() && !mapping) {
            throw PyError.type("not all arguments converted during string formatting");
        }
        return out.toText();
    }

    private char next() {
        if (at >= format.size()) {
            throw PyError.value("incomplete format");
        }
        return format.value().charAt(at++);
    }

    private Object argument() {
        if (used >= positional.size()) {
            throw PyError.type("not enough arguments for format string");
        }
        return positional.get(used++);
    }

    private Text directive() {
        session.steps(1 + (format.runs().size() >> 4));
        char c = next();
        Object keyed = null;
        if (c == '(') {
            int start = at;
            for (int depth = 1; depth > 0; ) {
                char inner = next();
                depth += inner == '(' ? 1 : inner == ')' ? -1 : 0;
            }
            if (!(values instanceof DictValue dict)) {
                throw PyError.type("format requires a mapping");
            }
            Text key = format.substring(start, at - 1);
            keyed = dict.get(key);
            if (keyed == null) {
                throw new PyError("KeyError", Repr.shortRepr(key));
            }
            used = positional.size();
            c = next();
        }
        StringBuilder flags = new StringBuilder();
        while ("#0- +".indexOf(c) >= 0) {
            flags.append(c);
            c = next();
        }
        long width = 0;
        if (c == '*') {
            width = Numbers.index(argument());
            c = next();
        }
        for (; c >= '0' && c <= '9'; c = next()) {
            width = Math.min(width * 10 + c - '0', Integer.MAX_VALUE);
        }
        long precision = -1;
        if (c == '.') {
            precision = 0;
            c = next();
            if (c == '*') {
                precision = Numbers.index(argument());
                c = next();
            }
            for (; c >= '0' && c <= '9'; c = next()) {
                precision = Math.min(precision * 10 + c - '0', Integer.MAX_VALUE);
            }
        }
        if (Math.abs(width) > MAX_WIDTH || precision > MAX_WIDTH) {
            throw PyError.limit("a format width or precision above " + MAX_WIDTH);
        }
        while (c == 'h' || c == 'l' || c == 'L') {
            c = next();
        }
        if (c == '%') {
            return Text.of("%");
        }
        return convert(c, keyed == null ? argument() : keyed, flags.toString(), width, (int) precision);
    }

    private Text convert(char type, Object value, String flags, long width, int precision) {
        boolean left = flags.indexOf('-') >= 0 || width < 0;
        String mark = "";
        Text body;
        switch (type) {
            case 's', 'r', 'a' -> {
                body = type == 's' ? Repr.str(session, value) : Repr.repr(session, value);
                if (precision >= 0 && precision < body.length()) {
                    body = body.substring(0, body.offset(precision));
                }
            }
            case 'c' ->
                body = value instanceof Text text ? text : Text.of(Character.toString((int) Numbers.index(value)));
            case 'd', 'i', 'u', 'x', 'X', 'o' -> {
                BigInteger number = Numbers.big(integer(type, value));
                mark = number.signum() < 0 ? "-" : sign(flags);
                body = Text.of(digits(type, number.abs(), flags.indexOf('#') >= 0, precision));
            }
            case 'e', 'E', 'f', 'F', 'g', 'G' -> {
                double number = Numbers.toDouble(value);
                mark = number < 0 || number == 0 && 1 / number < 0 ? "-" : sign(flags);
                body = Text.of(
                        FloatFormat.format(number, type, precision < 0 ? 6 : precision, flags.indexOf('#') >= 0));
            }
            default ->
                throw PyError.value("unsupported format character '" + type + "' (0x" + Integer.toHexString(type)
                        + ") at index " + (at - 1));
        }
        boolean zeros = flags.indexOf('0') >= 0 && !left && "sra c".indexOf(type) < 0;
        long missing = Math.max(0, Math.abs(width) - mark.length() - body.length());
        TextBuilder out = new TextBuilder(session);
        out.repeat(Text.of(" "), left || zeros ? 0 : missing).append(mark);
        out.repeat(Text.of("0"), zeros ? missing : 0).append(body);
        return out.repeat(Text.of(" "), left ? missing : 0).toText();
    }

    private static String sign(String flags) {
        return flags.indexOf('+') >= 0 ? "+" : flags.indexOf(' ') >= 0 ? " " : "";
    }

    private static Object integer(char type, Object value) {
        if (value instanceof Double number && "diu".indexOf(type) >= 0) {
            return Numbers.truncate(number);
        }
        if (value instanceof Undefined undefined) {
            throw undefined.error();
        }
        if (!Numbers.isInt(value)) {
            throw PyError.type("%" + type + " format: a real number is required, not " + Types.name(value));
        }
        return value;
    }

    private static String digits(char type, BigInteger number, boolean alternate, int precision) {
        String digits = switch (type) {
            case 'x' -> number.toString(16);
            case 'X' -> number.toString(16).toUpperCase(Locale.ROOT);
            case 'o' -> number.toString(8);
            default -> number.toString();
        };
        digits = "0".repeat(Math.max(0, precision - digits.length())) + digits;
        return alternate && "xXo".indexOf(type) >= 0 ? "0" + type + digits : digits;
    }
}
