package org.qlora4j.lora.text.jinja;

import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.util.Locale;

/** Floats as Python writes them. */
final class FloatFormat {
    private FloatFormat() {}

    /** The shortest text that reads back as the same number; exponent below 1e-4 and from 1e16. */
    static String repr(double value) {
        if (Double.isNaN(value)) {
            return "nan";
        }
        if (Double.isInfinite(value)) {
            return value > 0 ? "inf" : "-inf";
        }
        if (value == 0) {
            return 1 / value < 0 ? "-0.0" : "0.0";
        }
        BigDecimal shortest = shortest(Math.abs(value));
        String digits = shortest.unscaledValue().toString();
        int point = digits.length() - shortest.scale();
        String text;
        if (point > 16 || point < -3) {
            String mantissa = digits.length() == 1 ? digits : digits.charAt(0) + "." + digits.substring(1);
            text = mantissa + exponent(point - 1, 'e');
        } else if (point <= 0) {
            text = "0." + "0".repeat(-point) + digits;
        } else if (point >= digits.length()) {
            text = digits + "0".repeat(point - digits.length()) + ".0";
        } else {
            text = digits.substring(0, point) + "." + digits.substring(point);
        }
        return value < 0 ? "-" + text : text;
    }

    private static BigDecimal shortest(double value) {
        // Double.toString gives two digits at least, and of the smallest numbers one digit may do: 5e-324, not 4.9e-324
        BigDecimal oneDigit = rounded(new BigDecimal(value), 1);
        boolean oneSuffices = value < Double.MIN_NORMAL && oneDigit.doubleValue() == value;
        return oneSuffices ? oneDigit : new BigDecimal(Double.toString(value)).stripTrailingZeros();
    }

    private static String exponent(int power, char letter) {
        return letter + (power < 0 ? "-" : "+") + (Math.abs(power) < 10 ? "0" : "") + Math.abs(power);
    }

    /**
     * The presentation types e, f, g and their capitals.
     *
     * @param alternate keep the point and, with g, trailing zeros
     * @return the text of the absolute value, correctly rounded from the binary value
     */
    static String format(double value, char type, int precision, boolean alternate) {
        boolean upper = Character.isUpperCase(type);
        if (Double.isNaN(value) || Double.isInfinite(value)) {
            String name = Double.isNaN(value) ? "nan" : "inf";
            return upper ? name.toUpperCase(Locale.ROOT) : name;
        }
        BigDecimal exact = new BigDecimal(Math.abs(value));
        char exponent = upper ? 'E' : 'e';
        return switch (Character.toLowerCase(type)) {
            case 'e' -> scientific(exact, precision, exponent, alternate);
            case 'g' -> general(exact, Math.max(precision, 1), exponent, alternate);
            default -> fixed(exact, precision, alternate);
        };
    }

    private static String fixed(BigDecimal value, int precision, boolean alternate) {
        return value.setScale(precision, RoundingMode.HALF_EVEN).toPlainString()
                + (alternate && precision == 0 ? "." : "");
    }

    private static BigDecimal rounded(BigDecimal value, int digits) {
        return value.round(new MathContext(digits, RoundingMode.HALF_EVEN));
    }

    private static int power(BigDecimal value) {
        return value.signum() == 0 ? 0 : value.precision() - value.scale() - 1;
    }

    private static String scientific(BigDecimal value, int precision, char letter, boolean alternate) {
        BigDecimal rounded = rounded(value, precision + 1);
        int power = power(rounded);
        String digits = rounded.signum() == 0 ? "0" : rounded.unscaledValue().toString();
        digits = digits + "0".repeat(Math.max(0, precision + 1 - digits.length()));
        String mantissa =
                precision == 0 ? digits + (alternate ? "." : "") : digits.charAt(0) + "." + digits.substring(1);
        return mantissa + exponent(power, letter);
    }

    private static String general(BigDecimal value, int precision, char letter, boolean alternate) {
        BigDecimal rounded = rounded(value, precision);
        int power = power(rounded);
        String text;
        String tail = "";
        if (power < -4 || power >= precision) {
            text = scientific(value, precision - 1, letter, alternate);
            int at = text.indexOf(letter);
            tail = text.substring(at);
            text = text.substring(0, at);
        } else {
            text = fixed(value, precision - 1 - power, alternate);
        }
        if (!alternate && text.indexOf('.') >= 0) {
            text = text.replaceAll("0+$", "").replaceAll("\\.$", "");
        }
        return text + tail;
    }
}
