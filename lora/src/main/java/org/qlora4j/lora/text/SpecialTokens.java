package org.qlora4j.lora.text;

import java.util.OptionalInt;
import java.util.Set;

/**
 * Ids of a model's special tokens.
 *
 * @param bos begins a text
 * @param eos ends a text
 * @param pad fills batches; never read by a model that masks it
 * @param unk stands for text without a token
 * @param stop all ids at which generation ends: EOS and, in chat models, the end of a turn
 */
public record SpecialTokens(OptionalInt bos, OptionalInt eos, OptionalInt pad, OptionalInt unk, Set<Integer> stop) {
    /** Copies the set. */
    public SpecialTokens {
        stop = Set.copyOf(stop);
    }
}
