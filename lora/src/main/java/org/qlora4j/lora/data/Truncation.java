package org.qlora4j.lora.data;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.qlora4j.lora.model.Batch;

/** What happens to a row that is longer than max_length; names as in ms-swift. */
public enum Truncation {
    /** The row is left out. */
    DELETE,
    /** The beginning is cut off. */
    LEFT,
    /** The end is cut off. */
    RIGHT,
    /** The row becomes several, none of them too long. */
    SPLIT;

    /** The strategy of a name. @throws IllegalArgumentException if there is none */
    public static Truncation of(String name) {
        for (Truncation truncation : values()) {
            if (truncation.name().toLowerCase(Locale.ROOT).equals(name)) {
                return truncation;
            }
        }
        throw new IllegalArgumentException(
                "truncation_strategy '" + name + "' is not supported; supported: delete, left, right, split");
    }

    /** The row's parts of at most maxLength tokens, without those that have no label that counts. */
    public List<Batch.Row> apply(Batch.Row row, int maxLength) {
        int length = row.ids().length;
        if (length <= maxLength) {
            return labelled(List.of(row));
        }
        return switch (this) {
            case DELETE -> List.of();
            case LEFT -> labelled(List.of(part(row, length - maxLength, length)));
            case RIGHT -> labelled(List.of(part(row, 0, maxLength)));
            case SPLIT -> {
                List<Batch.Row> parts = new ArrayList<>();
                for (int from = 0; from < length; from += maxLength) {
                    parts.add(part(row, from, Math.min(length, from + maxLength)));
                }
                yield labelled(parts);
            }
        };
    }

    private static Batch.Row part(Batch.Row row, int from, int to) {
        return new Batch.Row(Arrays.copyOfRange(row.ids(), from, to), Arrays.copyOfRange(row.labels(), from, to));
    }

    private static List<Batch.Row> labelled(List<Batch.Row> rows) {
        return rows.stream().filter(row -> row.labelTokens() > 0).toList();
    }
}
