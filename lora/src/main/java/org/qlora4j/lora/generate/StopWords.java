package org.qlora4j.lora.generate;

import java.util.List;

/** Texts that end an answer; they are no part of it. */
final class StopWords {
    private final List<String> words;

    StopWords(List<String> words) {
        if (words.contains("")) {
            throw new IllegalArgumentException("stop_words must not hold an empty text");
        }
        this.words = List.copyOf(words);
    }

    /** Where the first of them begins, or -1. @param from no word begins before it */
    int find(StringBuilder text, int from) {
        int first = -1;
        for (String word : words) {
            int at = text.indexOf(word, from);
            if (at >= 0 && (first < 0 || at < first)) {
                first = at;
            }
        }
        return first;
    }

    /** How much of the text is certain: its end may be the beginning of a stop word. */
    int certain(StringBuilder text) {
        int certain = text.length();
        for (String word : words) {
            for (int held = Math.min(word.length() - 1, text.length()); held > 0; held--) {
                int at = text.length() - held;
                if (text.indexOf(word.substring(0, held), at) == at) {
                    certain = Math.min(certain, at);
                    break;
                }
            }
        }
        return certain;
    }
}
