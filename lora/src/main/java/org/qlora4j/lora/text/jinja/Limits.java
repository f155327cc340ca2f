package org.qlora4j.lora.text.jinja;

/**
 * How much one rendering may use. A template comes with a downloaded model, so it is not trusted to end by itself.
 *
 * @param maxSteps evaluated nodes and loop rounds; work on long strings counts by length
 * @param maxDepth nested evaluations, so also the depth of macro calls and of values
 * @param maxOutput chars of any one string, the output among them
 * @param maxAllocated chars made in all, in strings that may be garbage already; list entries count as 8
 */
public record Limits(long maxSteps, int maxDepth, int maxOutput, long maxAllocated) {
    private static final long LARGEST = 1L << 59;

    /** Enough for a conversation of some million characters; bounds a rendering to seconds and about 128 MB. */
    public static final Limits DEFAULT = new Limits(20_000_000L, 800, 1 << 24, 1L << 26);

    /**
     * Checks that all are positive, and small enough to be counted without overflow.
     *
     * @throws IllegalArgumentException if one is below 1 or above 2^59
     */
    public Limits {
        if (Math.min(Math.min(maxSteps, maxAllocated), Math.min(maxDepth, maxOutput)) < 1
                || Math.max(maxSteps, maxAllocated) > LARGEST) {
            throw new IllegalArgumentException("limits must be between 1 and 2^59, got maxSteps " + maxSteps
                    + ", maxDepth " + maxDepth + ", maxOutput " + maxOutput + ", maxAllocated " + maxAllocated);
        }
    }
}
