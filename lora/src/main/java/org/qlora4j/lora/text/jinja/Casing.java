package org.qlora4j.lora.text.jinja;

import java.util.Locale;
import java.util.function.IntPredicate;

/** Upper and lower case, and the is… questions of str. */
final class Casing {
    private Casing() {}

    static String swap(String text) {
        StringBuilder out = new StringBuilder(text.length());
        text.codePoints().forEach(codePoint -> {
            String one = Character.toString(codePoint);
            out.append(Character.isUpperCase(codePoint) ? one.toLowerCase(Locale.ROOT) : one.toUpperCase(Locale.ROOT));
        });
        return out.toString();
    }

    static String capitalize(String text) {
        if (text.isEmpty()) {
            return text;
        }
        int first = text.offsetByCodePoints(0, 1);
        return titleCase(text.codePointAt(0)) + text.substring(first).toLowerCase(Locale.ROOT);
    }

    /** str.title: a letter after a non-letter is a capital, all others are small. */
    static String title(String text) {
        StringBuilder out = new StringBuilder(text.length());
        boolean inWord = false;
        for (int codePoint : text.codePoints().toArray()) {
            out.append(inWord ? Character.toString(codePoint).toLowerCase(Locale.ROOT) : titleCase(codePoint));
            inWord = Characters.isCased(codePoint);
        }
        return out.toString();
    }

    private static String titleCase(int codePoint) {
        // ß and the ligatures have a title case of two letters, which Character.toTitleCase cannot give
        String upper = Character.toString(codePoint).toUpperCase(Locale.ROOT);
        return upper.length() > Character.charCount(codePoint)
                ? upper.charAt(0) + upper.substring(1).toLowerCase(Locale.ROOT)
                : Character.toString(Character.toTitleCase(codePoint));
    }

    static boolean is(String question, String text) {
        return switch (question) {
            case "isalnum" -> all(text, c -> Character.isLetter(c) || isNumeric(c));
            case "isalpha" -> all(text, Character::isLetter);
            case "isascii" -> text.chars().allMatch(c -> c < 0x80);
            case "isdecimal" -> all(text, Character::isDigit);
            case "isdigit" -> all(text, c -> Character.isDigit(c) || isSuperscript(c));
            case "isnumeric" -> all(text, Casing::isNumeric);
            case "isidentifier" -> isIdentifier(text);
            case "isprintable" -> text.codePoints().allMatch(Characters::isPrintable);
            case "isspace" -> all(text, Characters::isSpace);
            case "islower" -> cased(text, true);
            case "isupper" -> cased(text, false);
            case "istitle" ->
                text.codePoints().anyMatch(Characters::isCased) && title(text).equals(text);
            default -> throw new IllegalStateException("no such method of str: " + question);
        };
    }

    private static boolean all(String text, IntPredicate predicate) {
        return !text.isEmpty() && text.codePoints().allMatch(predicate);
    }

    private static boolean isSuperscript(int c) {
        return c == 0xb2
                || c == 0xb3
                || c == 0xb9
                || c >= 0x2070 && c <= 0x2089 && c != 0x2071
                || c >= 0x2460 && c <= 0x2468;
    }

    private static boolean isNumeric(int c) {
        int type = Character.getType(c);
        return type == Character.DECIMAL_DIGIT_NUMBER
                || type == Character.LETTER_NUMBER
                || type == Character.OTHER_NUMBER;
    }

    static boolean isIdentifier(String text) {
        return !text.isEmpty()
                && (text.charAt(0) == '_' || Character.isUnicodeIdentifierStart(text.codePointAt(0)))
                && text.codePoints()
                        .allMatch(c -> Character.isUnicodeIdentifierPart(c) && !Character.isIdentifierIgnorable(c));
    }

    private static boolean cased(String text, boolean lower) {
        boolean some = false;
        for (int codePoint : text.codePoints().toArray()) {
            if (lower ? Character.isUpperCase(codePoint) : Character.isLowerCase(codePoint)) {
                return false;
            }
            if (Character.isTitleCase(codePoint)) {
                return false;
            }
            some |= lower ? Character.isLowerCase(codePoint) : Character.isUpperCase(codePoint);
        }
        return some;
    }
}
