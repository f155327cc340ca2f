package org.qlora4j.lora.text.jinja;

/** Finds where a number literal ends. Digits may have single underscores between them. */
final class NumberScanner {
    private NumberScanner() {}

    /** The end of the float at {@code start}, or {@code start} if the digits there are none. */
    static int endOfFloat(String source, int start) {
        int end = digits(source, start, 10);
        boolean isFloat = false;
        if (isDigit(source, end + 1, 10) && source.charAt(end) == '.') {
            end = digits(source, end + 1, 10);
            isFloat = true;
        }
        if (end < source.length() && (source.charAt(end) == 'e' || source.charAt(end) == 'E')) {
            boolean signed = end + 1 < source.length() && "+-".indexOf(source.charAt(end + 1)) >= 0;
            int power = end + (signed ? 2 : 1);
            if (isDigit(source, power, 10)) {
                end = digits(source, power, 10);
                isFloat = true;
            }
        }
        return isFloat ? end : start;
    }

    /**
     * The end of the integer that starts with a digit at {@code start}; a leading zero stands alone or begins 0x, 0o or
     * 0b.
     */
    static int endOfInteger(String source, int start) {
        if (source.charAt(start) != '0') {
            return digits(source, start, 10);
        }
        int radix = start + 1 == source.length()
                ? 0
                : switch (source.charAt(start + 1)) {
                    case 'x', 'X' -> 16;
                    case 'o', 'O' -> 8;
                    case 'b', 'B' -> 2;
                    default -> 0;
                };
        if (radix > 0) {
            int end = digits(source, start + 2, radix);
            if (end > start + 2) {
                return end;
            }
        }
        return digits(source, start, 1);
    }

    /** Radix 1 takes zeros only. */
    private static int digits(String source, int start, int radix) {
        int at = start;
        while (true) {
            if (isDigit(source, at, radix)) {
                at++;
            } else if (at < source.length() && source.charAt(at) == '_' && isDigit(source, at + 1, radix)) {
                at += 2;
            } else {
                return at;
            }
        }
    }

    private static boolean isDigit(String source, int at, int radix) {
        if (at >= source.length() || source.charAt(at) > 'f') {
            return false;
        }
        int digit = Character.digit(source.charAt(at), 16);
        return digit >= 0 && digit < radix;
    }
}
