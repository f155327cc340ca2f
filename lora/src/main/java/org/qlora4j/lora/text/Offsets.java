package org.qlora4j.lora.text;

import ai.djl.huggingface.tokenizers.jni.CharSpan;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * Turns the tokenizers library's offsets, which count code points, into positions of Java chars that cover the text.
 */
final class Offsets {
    private Offsets() {}

    /**
     * DJL would replace an unpaired surrogate by three U+FFFD, and every later offset would be wrong.
     *
     * @throws IllegalArgumentException if there is one
     */
    static void requirePairedSurrogates(String text) {
        for (int i = 0; i < text.length(); i++) {
            if (Character.isHighSurrogate(text.charAt(i))
                    && i + 1 < text.length()
                    && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
            } else if (Character.isSurrogate(text.charAt(i))) {
                throw new IllegalArgumentException("text has an unpaired surrogate "
                        + String.format("U+%04X", (int) text.charAt(i)) + " at char " + i + "; remove or replace it");
            }
        }
    }

    /** @param spans code point ranges, one per token; null where the post-processor added a token */
    static Encoding encoding(String text, int[] ids, @Nullable CharSpan[] spans) {
        int[] chars = charOfCodePoint(text);
        int[] starts = new int[ids.length];
        int[] ends = new int[ids.length];
        int position = 0;
        for (int i = 0; i < ids.length; i++) {
            CharSpan span = spans[i];
            starts[i] = span == null ? position : chars[span.getStart()];
            ends[i] = span == null ? position : chars[span.getEnd()];
            position = ends[i];
        }
        cover(text.length(), starts, ends);
        return new Encoding(ids, starts, ends);
    }

    /** Char position of each code point, and of the end. */
    private static int[] charOfCodePoint(String text) {
        int count = text.codePointCount(0, text.length());
        int[] chars = new int[count + 1];
        int position = 0;
        for (int i = 0; i < count; i++) {
            chars[i] = position;
            position += Character.charCount(text.codePointAt(position));
        }
        chars[count] = position;
        return chars;
    }

    /**
     * Gives chars that belong to no token to the tokens that end there; at the beginning, to those that start first.
     * NFC leaves such gaps: its "é" has the offsets of the "e", not those of the accent after it.
     */
    private static void cover(int length, int[] starts, int[] ends) {
        int covered = 0;
        for (int i = 0; i < starts.length; i++) {
            if (starts[i] > covered) {
                if (covered == 0) {
                    Arrays.fill(starts, i, endOfRun(starts, i), 0);
                } else {
                    extend(ends, i, covered, starts[i]);
                }
            }
            covered = Math.max(covered, ends[i]);
        }
        if (covered < length) {
            extend(ends, ends.length, covered, length);
        }
    }

    private static int endOfRun(int[] starts, int first) {
        int end = first;
        while (end < starts.length && starts[end] == starts[first]) {
            end++;
        }
        return end;
    }

    private static void extend(int[] ends, int before, int from, int to) {
        for (int i = before - 1; i >= 0 && ends[i] == from; i--) {
            ends[i] = to;
        }
    }
}
