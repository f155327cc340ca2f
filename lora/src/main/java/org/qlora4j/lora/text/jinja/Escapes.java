package org.qlora4j.lora.text.jinja;

/** The backslash escapes of Python's string literals. */
final class Escapes {
    private Escapes() {}

    static String decode(String literal, int line) {
        if (literal.indexOf('\\') < 0) {
            return literal;
        }
        StringBuilder out = new StringBuilder(literal.length());
        int i = 0;
        while (i < literal.length()) {
            char c = literal.charAt(i++);
            if (c != '\\') {
                out.append(c);
                continue;
            }
            char escape = literal.charAt(i++);
            switch (escape) {
                case '\n' -> {}
                case '\\', '\'', '"' -> out.append(escape);
                case 'a' -> out.append('\u0007');
                case 'b' -> out.append('\b');
                case 'f' -> out.append('\f');
                case 'n' -> out.append('\n');
                case 'r' -> out.append('\r');
                case 't' -> out.append('\t');
                case 'v' -> out.append('\u000b');
                case 'x', 'u', 'U' -> {
                    int digits = escape == 'x' ? 2 : escape == 'u' ? 4 : 8;
                    out.appendCodePoint(hex(literal, i, digits, line));
                    i += digits;
                }
                case 'N' -> {
                    int end = literal.indexOf('}', i);
                    if (end < 0 || literal.charAt(i) != '{') {
                        throw fail("malformed \\N character escape", line);
                    }
                    out.appendCodePoint(named(literal.substring(i + 1, end), line));
                    i = end + 1;
                }
                default -> {
                    int end = i - 1;
                    while (end < literal.length()
                            && end < i + 2
                            && literal.charAt(end) >= '0'
                            && literal.charAt(end) <= '7') {
                        end++;
                    }
                    if (end > i - 1) {
                        out.append((char) Integer.parseInt(literal.substring(i - 1, end), 8));
                        i = end;
                    } else {
                        // Python keeps the backslash of what it does not know
                        out.append('\\').append(escape);
                    }
                }
            }
        }
        return out.toString();
    }

    private static int hex(String literal, int start, int digits, int line) {
        int value = 0;
        for (int i = start; i < start + digits; i++) {
            int digit = i < literal.length() ? Character.digit(literal.charAt(i), 16) : -1;
            if (digit < 0 || literal.charAt(i) > 'f') {
                throw fail("truncated \\x, \\u or \\U escape", line);
            }
            value = value * 16 + digit;
        }
        if (!Character.isValidCodePoint(value)) {
            throw fail("illegal Unicode character", line);
        }
        return value;
    }

    private static int named(String name, int line) {
        try {
            return Character.codePointOf(name);
        } catch (IllegalArgumentException e) {
            throw new TemplateException("TemplateSyntaxError", "unknown Unicode character name", line, e);
        }
    }

    private static TemplateException fail(String reason, int line) {
        return new TemplateException("TemplateSyntaxError", reason, line, null);
    }
}
