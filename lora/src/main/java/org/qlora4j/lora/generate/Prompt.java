package org.qlora4j.lora.generate;

import java.util.Arrays;
import org.qlora4j.lora.model.Batch;

/**
 * A row of a data set as a question to a model.
 *
 * @param ids everything before the last answer
 * @param reference the last answer: the last run of labels
 */
public record Prompt(int[] ids, int[] reference) {
    /** @throws IllegalArgumentException if the row has no label, or nothing before its last run of labels */
    public static Prompt of(Batch.Row row) {
        int end = row.labels().length;
        while (end > 0 && row.labels()[end - 1] == Batch.IGNORED) {
            end--;
        }
        int start = end;
        while (start > 0 && row.labels()[start - 1] != Batch.IGNORED) {
            start--;
        }
        if (start == 0) {
            throw new IllegalArgumentException(
                    end == 0
                            ? "the row has no label"
                            : "the row begins with its answer; there is nothing to answer to");
        }
        return new Prompt(Arrays.copyOf(row.ids(), start), Arrays.copyOfRange(row.labels(), start, end));
    }
}
