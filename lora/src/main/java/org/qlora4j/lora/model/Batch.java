package org.qlora4j.lora.model;

import java.util.List;

/**
 * Rows of token ids with labels, laid one behind the other without padding.
 *
 * <p>The label at position t is the token that position t itself holds or {@link #IGNORED}; the logits at t−1 are
 * trained on it, so the first label of a row never counts. Which tokens are trained is decided by position, never by
 * token id.
 */
public final class Batch {
    /** No loss for this token, as in torch. */
    public static final int IGNORED = -100;

    private final int[] ids;
    private final int[] offsets;
    private final int[] labelRows;
    private final int[] labels;

    /** One row: ids and labels, equally long. */
    public record Row(int[] ids, int[] labels) {
        public Row {
            if (ids.length == 0 || ids.length != labels.length) {
                throw new IllegalArgumentException("a row needs as many labels as ids and at least one; got "
                        + ids.length + " ids and " + labels.length + " labels");
            }
        }

        /** Labels that count: all but the first that are not {@link Batch#IGNORED}. */
        public int labelTokens() {
            int n = 0;
            for (int i = 1; i < labels.length; i++) {
                if (labels[i] != IGNORED) {
                    n++;
                }
            }
            return n;
        }
    }

    public Batch(List<Row> rows) {
        if (rows.isEmpty()) {
            throw new IllegalArgumentException("a batch needs at least one row");
        }
        int tokens = 0;
        int labelled = 0;
        for (Row row : rows) {
            tokens = Math.addExact(tokens, row.ids.length);
            labelled += row.labelTokens();
        }
        ids = new int[tokens];
        offsets = new int[rows.size() + 1];
        labelRows = new int[labelled];
        labels = new int[labelled];
        int at = 0;
        int l = 0;
        for (int r = 0; r < rows.size(); r++) {
            Row row = rows.get(r);
            System.arraycopy(row.ids, 0, ids, at, row.ids.length);
            for (int i = 1; i < row.labels.length; i++) {
                if (row.labels[i] != IGNORED) {
                    labelRows[l] = at + i - 1;
                    labels[l++] = row.labels[i];
                }
            }
            at += row.ids.length;
            offsets[r + 1] = at;
        }
    }

    /** Tokens in all rows. */
    public int tokens() {
        return ids.length;
    }

    /** Number of rows. */
    public int rows() {
        return offsets.length - 1;
    }

    /** Labels that count, in all rows. */
    public int labelTokens() {
        return labels.length;
    }

    int[] ids() {
        return ids;
    }

    int[] offsets() {
        return offsets;
    }

    int[] labelRows() {
        return labelRows;
    }

    int[] labels() {
        return labels;
    }
}
