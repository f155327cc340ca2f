package org.qlora4j.lora.text.jinja;

/** Finding a string in a string in linear time. */
final class Search {
    /** Up to here {@link String#indexOf} is fast, and its worst case is bounded by this factor. */
    private static final int SHORT = 32;

    private Search() {}

    static int indexOf(String text, String part, int from) {
        return part.length() <= SHORT ? text.indexOf(part, from) : knuthMorrisPratt(text, part, from);
    }

    private static int knuthMorrisPratt(String text, String part, int from) {
        int[] border = new int[part.length()];
        for (int i = 1, matched = 0; i < part.length(); i++) {
            while (matched > 0 && part.charAt(i) != part.charAt(matched)) {
                matched = border[matched - 1];
            }
            if (part.charAt(i) == part.charAt(matched)) {
                matched++;
            }
            border[i] = matched;
        }
        for (int i = from, matched = 0; i < text.length(); i++) {
            while (matched > 0 && text.charAt(i) != part.charAt(matched)) {
                matched = border[matched - 1];
            }
            if (text.charAt(i) == part.charAt(matched)) {
                matched++;
            }
            if (matched == part.length()) {
                return i - matched + 1;
            }
        }
        return -1;
    }

    /** The last start at or before {@code from}, or -1. */
    static int lastIndexOf(String text, String part, int from) {
        if (part.length() <= SHORT) {
            return text.lastIndexOf(part, from);
        }
        int end = Math.min(text.length(), from + part.length());
        int found = indexOf(reversed(text, end), reversed(part, part.length()), 0);
        return found < 0 ? -1 : end - found - part.length();
    }

    /**
     * The first {@code end} chars backwards; surrogates change places too, which does not matter to matching char by
     * char.
     */
    private static String reversed(String text, int end) {
        char[] chars = new char[end];
        for (int i = 0; i < end; i++) {
            chars[i] = text.charAt(end - 1 - i);
        }
        return new String(chars);
    }
}
