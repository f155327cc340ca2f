package org.qlora4j.nf4.device;

/**
 * Causal attention over sequences that lie one behind the other (no padding, nothing seen across a border).
 *
 * <p>Sequence {@code s} has the query rows {@code queryOffsets[s] … queryOffsets[s+1]-1} and the key rows
 * {@code keyOffsets[s] … keyOffsets[s+1]-1}; its last query sees all its keys, the one before one key less. In training
 * the two offsets are equal; with a key/value cache there are more keys than queries.
 *
 * @param numHeads query heads H
 * @param numKvHeads key/value heads; H must be a multiple of it (grouped-query attention)
 * @param headDim D, elements per head
 * @param scale factor on the scores, usually 1/√D
 * @param window a query sees only so many keys, the last one it sees included; 0 for no limit
 * @param softcap scores become {@code softcap · tanh(score / softcap)}; 0 for none
 * @param queryOffsets first row of each sequence, and the end: ascending, starts at 0
 * @param keyOffsets the same for keys
 */
public record AttentionShape(
        int numHeads,
        int numKvHeads,
        int headDim,
        double scale,
        int window,
        double softcap,
        int[] queryOffsets,
        int[] keyOffsets) {
    /** Without window and softcap. */
    public AttentionShape(
            int numHeads, int numKvHeads, int headDim, double scale, int[] queryOffsets, int[] keyOffsets) {
        this(numHeads, numKvHeads, headDim, scale, 0, 0, queryOffsets, keyOffsets);
    }

    public AttentionShape {
        if (numHeads < 1 || numKvHeads < 1 || headDim < 1 || numHeads % numKvHeads != 0) {
            throw new ShapeException("attention: heads must be a multiple of key/value heads; got " + numHeads + " and "
                    + numKvHeads + ", head size " + headDim);
        }
        if (window < 0 || !(softcap >= 0 && softcap < Double.POSITIVE_INFINITY)) {
            throw new ShapeException(
                    "attention: window and softcap must be at least 0; got " + window + " and " + softcap);
        }
        if (queryOffsets.length < 2
                || queryOffsets.length != keyOffsets.length
                || queryOffsets[0] != 0
                || keyOffsets[0] != 0) {
            throw new ShapeException("attention: query and key offsets must start at 0 and be equally many");
        }
        for (int s = 1; s < queryOffsets.length; s++) {
            int queries = queryOffsets[s] - queryOffsets[s - 1];
            int keys = keyOffsets[s] - keyOffsets[s - 1];
            if (queries < 1 || keys < queries) {
                throw new ShapeException("attention: sequence " + (s - 1) + " has " + queries + " queries and " + keys
                        + " keys; expected 1 <= queries <= keys");
            }
        }
    }

    /** The first of {@code seen} keys, counted from the start of the sequence, that a query still sees. */
    public int firstSeen(int seen) {
        return window == 0 ? 0 : Math.max(0, seen - window);
    }

    /** Number of sequences. */
    public int sequences() {
        return queryOffsets.length - 1;
    }

    /** Query rows in all sequences. */
    public int queries() {
        return queryOffsets[queryOffsets.length - 1];
    }

    /** Key rows in all sequences. */
    public int keys() {
        return keyOffsets[keyOffsets.length - 1];
    }
}
