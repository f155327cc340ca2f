package org.qlora4j.samples;

import java.util.Locale;

/** One line on the terminal that is written over; in a file or pipe, nothing but the last state. */
final class Progress {
    private static final boolean TERMINAL =
            System.console() != null && System.console().isTerminal();
    private static String last = "";

    private Progress() {}

    static void line(String text) {
        if (TERMINAL) {
            System.out.print("\r" + text + " ".repeat(Math.max(0, last.length() - text.length())));
            System.out.flush();
        }
        last = text;
    }

    static void bar(String what, int done, int all) {
        bar(what, done, all, "");
    }

    /** @param more what is said behind the bar */
    static void bar(String what, int done, int all, String more) {
        int filled = (int) (20L * done / Math.max(1, all));
        line("%s [%s%s] %d/%d%s".formatted(what, "=".repeat(filled), " ".repeat(20 - filled), done, all, more));
    }

    /** Ends the line. */
    static void end() {
        if (TERMINAL && !last.isEmpty()) {
            System.out.println();
        }
        last = "";
    }

    static String time(double seconds) {
        long s = Math.round(seconds);
        return s < 3600
                ? String.format(Locale.ROOT, "%d:%02d", s / 60, s % 60)
                : String.format(Locale.ROOT, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
    }
}
