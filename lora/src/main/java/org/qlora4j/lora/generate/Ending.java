package org.qlora4j.lora.generate;

import java.util.List;

/**
 * When an answer ends, besides the model's own end token.
 *
 * @param maxNewTokens after so many tokens at the latest
 * @param stopWords before any of these texts
 */
public record Ending(int maxNewTokens, List<String> stopWords) {
    public Ending {
        stopWords = List.copyOf(stopWords);
        if (maxNewTokens < 1) {
            throw new IllegalArgumentException("max_new_tokens must be at least 1, got " + maxNewTokens);
        }
    }
}
