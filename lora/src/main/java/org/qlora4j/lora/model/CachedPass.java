package org.qlora4j.lora.model;

import java.util.Arrays;
import java.util.List;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;

/**
 * The tokens of several cached sequences that go through the model together. The last sequence may be only begun or
 * continued; the others are brought to their end.
 *
 * @param caches of the sequences
 * @param ids the tokens, one sequence behind the other
 * @param offsets first token of each sequence, and the end
 * @param ends where the sequences that come to their end have their last token
 */
record CachedPass(List<KvCache> caches, int[] ids, int[] offsets, int[] ends) {
    /**
     * Adds tokens to sequences, of which they are the next to go through the model.
     *
     * @return whether one of the sequences begins
     * @throws IllegalArgumentException before anything is added
     */
    static boolean accept(List<int[]> ids, List<KvCache> caches, ModelConfig config) {
        if (ids.size() != caches.size()) {
            throw new IllegalArgumentException("each sequence needs tokens and a cache, got tokens of " + ids.size()
                    + " and " + caches.size() + " caches");
        }
        boolean begins = false;
        for (int s = 0; s < ids.size(); s++) {
            KvCache cache = caches.get(s);
            int count = ids.get(s).length;
            if (count == 0 || cache.length() + count > cache.capacity()) {
                throw new IllegalArgumentException("the cache holds " + cache.length() + " of at most "
                        + cache.capacity() + " tokens; cannot add " + count);
            }
            if (caches.indexOf(cache) != s) {
                throw new IllegalArgumentException("sequences " + caches.indexOf(cache) + " and " + s
                        + " have the same cache; each needs one of its own");
            }
            begins |= cache.length() == 0;
        }
        for (int s = 0; s < ids.size(); s++) {
            caches.get(s).accept(ids.get(s), config);
        }
        return begins;
    }

    /**
     * The next tokens of all sequences, or of as many as there is room for.
     *
     * @param caches each with at least one token that was not through the model
     * @param most tokens of the pass
     */
    static CachedPass of(List<KvCache> caches, int most) {
        int[] offsets = new int[caches.size() + 1];
        int[] ends = new int[caches.size()];
        int taken = 0;
        int ended = 0;
        while (taken < caches.size() && offsets[taken] < most) {
            int left = caches.get(taken).waiting();
            int n = Math.min(left, most - offsets[taken]);
            offsets[taken + 1] = offsets[taken] + n;
            if (n == left) {
                ends[ended++] = offsets[taken] + n - 1;
            }
            taken++;
        }
        int[] ids = new int[offsets[taken]];
        for (int s = 0; s < taken; s++) {
            caches.get(s).copyWaiting(ids, offsets[s], offsets[s + 1] - offsets[s]);
        }
        return new CachedPass(
                caches.subList(0, taken), ids, Arrays.copyOf(offsets, taken + 1), Arrays.copyOf(ends, ended));
    }

    Sequences sequences(Device device, Scope scope) {
        int[] past = new int[caches.size()];
        int[] lengths = new int[caches.size()];
        for (int s = 0; s < past.length; s++) {
            lengths[s] = caches.get(s).length();
            past[s] = lengths[s] - caches.get(s).waiting();
        }
        return Sequences.next(device, scope, offsets, past, lengths);
    }

    /** Caches of one layer. */
    List<KvCache.Layer> layer(int i) {
        return caches.stream().map(cache -> cache.layer(i)).toList();
    }
}
