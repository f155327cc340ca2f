package org.qlora4j.lora.text.jinja;

import java.time.LocalDateTime;
import java.time.format.TextStyle;
import java.time.temporal.ChronoField;
import java.time.temporal.IsoFields;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/** {@code datetime.now().strftime(format)} in the C locale, by the session's clock. */
final class Strftime {
    private Strftime() {}

    static String format(Session session, String format) {
        LocalDateTime now = LocalDateTime.now(session.clock());
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < format.length(); i++) {
            char c = format.charAt(i);
            if (c != '%' || i + 1 == format.length()) {
                out.append(c);
                continue;
            }
            // glibc's flags: "-" leaves the padding out, "_" pads with spaces, "0" with zeros
            char flag =
                    "-_0".indexOf(format.charAt(i + 1)) >= 0 && i + 2 < format.length() ? format.charAt(i + 1) : '\0';
            int at = flag == '\0' ? i + 1 : i + 2;
            String field = field(format.charAt(at), now);
            out.append(field == null ? format.substring(i, at + 1) : flagged(field, flag));
            session.string(out.length());
            i = at;
        }
        return out.toString();
    }

    private static String flagged(String field, char flag) {
        if (flag == '\0' || field.isEmpty() || !Character.isDigit(field.charAt(0))) {
            return field;
        }
        String bare = field.strip().replaceFirst("^0+(?=\\d)", "");
        char fill = flag == '_' ? ' ' : '0';
        return flag == '-' ? bare : Character.toString(fill).repeat(field.length() - bare.length()) + bare;
    }

    private static @Nullable String field(char letter, LocalDateTime t) {
        return switch (letter) {
            case 'Y' -> Integer.toString(t.getYear());
            case 'C' -> two(t.getYear() / 100);
            case 'y' -> two(t.getYear() % 100);
            case 'G' -> Integer.toString(t.get(IsoFields.WEEK_BASED_YEAR));
            case 'g' -> two(t.get(IsoFields.WEEK_BASED_YEAR) % 100);
            case 'V' -> two(t.get(IsoFields.WEEK_OF_WEEK_BASED_YEAR));
            case 'm' -> two(t.getMonthValue());
            case 'd' -> two(t.getDayOfMonth());
            case 'e' -> String.format("%2d", t.getDayOfMonth());
            case 'H' -> two(t.getHour());
            case 'k' -> String.format("%2d", t.getHour());
            case 'I' -> two(t.get(ChronoField.CLOCK_HOUR_OF_AMPM));
            case 'l' -> String.format("%2d", t.get(ChronoField.CLOCK_HOUR_OF_AMPM));
            case 'M' -> two(t.getMinute());
            case 'S' -> two(t.getSecond());
            case 'f' -> String.format("%06d", t.getNano() / 1000);
            case 'p' -> t.getHour() < 12 ? "AM" : "PM";
            case 'P' -> t.getHour() < 12 ? "am" : "pm";
            case 'j' -> String.format("%03d", t.getDayOfYear());
            case 'B' -> t.getMonth().getDisplayName(TextStyle.FULL, Locale.ENGLISH);
            case 'b', 'h' ->
                t.getMonth().getDisplayName(TextStyle.SHORT, Locale.US).substring(0, 3);
            case 'A' -> t.getDayOfWeek().getDisplayName(TextStyle.FULL, Locale.ENGLISH);
            case 'a' ->
                t.getDayOfWeek().getDisplayName(TextStyle.SHORT, Locale.US).substring(0, 3);
            case 'u' -> Integer.toString(t.getDayOfWeek().getValue());
            case 'w' -> Integer.toString(t.getDayOfWeek().getValue() % 7);
            case 'U' -> two((t.getDayOfYear() + 6 - t.getDayOfWeek().getValue() % 7) / 7);
            case 'W' -> two((t.getDayOfYear() + 6 - (t.getDayOfWeek().getValue() + 6) % 7) / 7);
            case 'F' -> t.getYear() + "-" + field('m', t) + "-" + field('d', t);
            case 'D', 'x' -> field('m', t) + "/" + field('d', t) + "/" + field('y', t);
            case 'T', 'X' -> field('R', t) + ":" + field('S', t);
            case 'R' -> field('H', t) + ":" + field('M', t);
            case 'r' -> field('I', t) + ":" + field('M', t) + ":" + field('S', t) + " " + field('p', t);
            case 'c' ->
                field('a', t) + " " + field('b', t) + " " + field('e', t) + " " + field('T', t) + " " + t.getYear();
            // a naive datetime has no zone
            case 'z', 'Z' -> "";
            case 'n' -> "\n";
            case 't' -> "\t";
            case '%' -> "%";
            default -> null;
        };
    }

    private static String two(int value) {
        return (value < 10 ? "0" : "") + value;
    }
}
