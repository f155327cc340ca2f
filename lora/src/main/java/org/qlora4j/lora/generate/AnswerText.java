package org.qlora4j.lora.generate;

import java.util.function.Consumer;

/** The text so far, and how much of it has been shown. */
final class AnswerText {
    private final StopWords stopWords;
    private final Consumer<String> stream;
    private final StringBuilder text = new StringBuilder();
    private int shown;
    private boolean stopped;

    AnswerText(StopWords stopWords, Consumer<String> stream) {
        this.stopWords = stopWords;
        this.stream = stream;
    }

    /** @return whether a stop word ends the answer */
    boolean add(String piece) {
        if (!stopped && !piece.isEmpty()) {
            text.append(piece);
            int stop = stopWords.find(text, shown);
            stopped = stop >= 0;
            text.setLength(stopped ? stop : text.length());
            show(stopped ? stop : stopWords.certain(text));
        }
        return stopped;
    }

    private void show(int to) {
        if (to > shown) {
            stream.accept(text.substring(shown, to));
            shown = to;
        }
    }

    String end() {
        show(text.length());
        return text.toString();
    }
}
