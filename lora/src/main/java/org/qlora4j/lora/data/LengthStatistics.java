package org.qlora4j.lora.data;

import java.util.List;
import java.util.Locale;
import org.qlora4j.lora.model.Batch;

/**
 * How long rows are, in tokens.
 *
 * @param std the standard deviation of these rows (divided by their number)
 * @param sorted the lengths, shortest first
 */
public record LengthStatistics(double mean, double std, int[] sorted) {
    /** Of at least one row. */
    public static LengthStatistics of(List<Batch.Row> rows) {
        int[] sorted = rows.stream().mapToInt(row -> row.ids().length).sorted().toArray();
        if (sorted.length == 0) {
            throw new IllegalArgumentException("statistics need at least one row");
        }
        double mean = 0;
        for (int length : sorted) {
            mean += length / (double) sorted.length;
        }
        double variance = 0;
        for (int length : sorted) {
            variance += (length - mean) * (length - mean) / sorted.length;
        }
        return new LengthStatistics(mean, Math.sqrt(variance), sorted);
    }

    /** The length that so many percent of the rows do not exceed. @param percent in (0, 100] */
    public int percentile(double percent) {
        return sorted[Math.max(0, (int) Math.ceil(percent / 100 * sorted.length) - 1)];
    }

    /** One line, in ms-swift's words. */
    @Override
    public String toString() {
        return String.format(
                Locale.ROOT,
                "Dataset Token Length: %.1f±%.1f, min=%d, max=%d, size=%d; 50 %%: %d, 90 %%: %d, 95 %%: %d, 99 %%: %d",
                mean,
                std,
                sorted[0],
                sorted[sorted.length - 1],
                sorted.length,
                percentile(50),
                percentile(90),
                percentile(95),
                percentile(99));
    }
}
