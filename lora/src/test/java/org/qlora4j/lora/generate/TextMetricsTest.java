package org.qlora4j.lora.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TextMetricsTest {
    /** Values of nltk 3.9 (sentence_bleu, method3) and rouge-score 0.1.2 (rougeL F1). */
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "the cat sat on the mat|the cat is on the mat|0.37991784282579627|0.8333333333333334",
                "a b c d e f|a b c d e f|1|1",
                "the the the the|the cat is here on the mat|0.08973024087021203|0.36363636363636365",
                "I am Xiaoyu, an assistant.|I am Xiaoyu, an AI assistant developed by Feather Lab.|0.2601300475114445|0.6666666666666666",
                "one two three four five six seven eight|one two three|0.20556680845025987|0.5454545454545454",
                "no|yes|0|0"
            })
    void asNltkAndRougeScore(String answer, String reference, double bleu, double rouge) {
        assertEquals(bleu, TextMetrics.bleu(answer, reference), 1e-12);
        assertEquals(rouge, TextMetrics.rougeL(answer, reference), 1e-12);
    }

    @Test
    void chineseIsReadByCharacters() {
        assertEquals(List.of("我", "是", "小", "羽", "gpt4", "b"), TextMetrics.words("我是小羽,GPT4 B。"));
        assertEquals(2.0 * 3 / (4 + 3), TextMetrics.rougeL("我是小羽", "我小羽"), 1e-12);
    }

    @Test
    void exactMatchIgnoresTheEnds() {
        assertTrue(TextMetrics.exactMatch(" Rome.\n", "Rome."));
        assertFalse(TextMetrics.exactMatch("rome.", "Rome."));
        assertEquals(0, TextMetrics.bleu("", "x"));
    }
}
