package org.qlora4j.lora.text;

import com.fasterxml.jackson.databind.JsonNode;

/**
 * Decodes token ids one by one. {@link #accept} returns the text that is certain: it holds back the bytes of an
 * unfinished character, and in tokenizers with byte fallback a run of byte tokens until it ends, since one invalid byte
 * changes all of the run. All returned pieces, with that of {@link #finish}, concatenate to what
 * {@link Tokenizer#decode(int[])} gives for all ids. Costs per token do not grow with their number.
 *
 * <p>Not for use by several threads at once; independent of the tokenizer being open.
 */
public final class StreamingDecoder {
    private final TokenTable tokens;
    private final DecoderChain chain;
    private final boolean skipSpecial;
    private long count;
    private boolean finished;

    StreamingDecoder(TokenTable tokens, JsonNode decoder, boolean skipSpecial) {
        this.tokens = tokens;
        this.chain = new DecoderChain(decoder);
        this.skipSpecial = skipSpecial;
    }

    /**
     * Adds one token.
     *
     * @return the text that has become certain, often of one token, sometimes empty
     * @throws IllegalArgumentException if the id is negative
     * @throws IllegalStateException after {@link #finish}
     */
    public String accept(int id) {
        requireOpen();
        requireId(id, count++);
        String token = tokens.token(id);
        return token == null || skipSpecial && tokens.isSpecial(id) ? "" : chain.accept(token);
    }

    /**
     * Ends the sequence.
     *
     * @return the text held back; an unfinished character becomes U+FFFD
     * @throws IllegalStateException if called twice
     */
    public String finish() {
        requireOpen();
        finished = true;
        return chain.finish();
    }

    private void requireOpen() {
        if (finished) {
            throw new IllegalStateException("the decoder is finished; take a new one for the next sequence");
        }
    }

    static int requireId(int id, long position) {
        if (id < 0) {
            throw new IllegalArgumentException("token id " + id + " at position " + position + " is negative");
        }
        return id;
    }
}
