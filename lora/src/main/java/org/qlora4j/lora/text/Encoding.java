package org.qlora4j.lora.text;

/**
 * Tokens of a text with the part of the text each one came from. Positions are Java {@code char}s (UTF-16), so that
 * {@code text.substring(starts[i], ends[i])} is that part, and never lie inside a surrogate pair.
 *
 * <p>Positions do not decrease, and every char of the text belongs to at least one token: a token that is only some
 * bytes of a character has the whole character, as have its neighbours with the other bytes; the space that Llama-2's
 * tokenizer puts before a text has the text's first character; what a normalizer removed belongs to the token before
 * it. The arrays are not copied.
 *
 * @param ids token ids
 * @param starts first char of each token's part
 * @param ends one past its last char
 */
public record Encoding(int[] ids, int[] starts, int[] ends) {
    /**
     * Checks the lengths.
     *
     * @throws IllegalArgumentException if the arrays differ in length
     */
    public Encoding {
        if (ids.length != starts.length || ids.length != ends.length) {
            throw new IllegalArgumentException("ids, starts and ends must have one length, got " + ids.length + ", "
                    + starts.length + " and " + ends.length);
        }
    }

    /** Number of tokens. */
    public int size() {
        return ids.length;
    }
}
