package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.qlora4j.nf4.device.Scope;

/** The same rows one by one and several at once. */
final class SeveralSequences {
    private SeveralSequences() {}

    /**
     * Reads each row's first half as a prompt and then token by token; once alone, and once beside the others, which
     * come in one after the other, so that prompts and tokens are in the same passes.
     *
     * @return the largest difference of logits
     */
    static double apart(Transformer model, List<int[]> rows) {
        List<List<float[]>> alone = rows.stream().map(row -> alone(model, row)).toList();
        double apart = 0;
        try (Scope scope = model.device().newScope()) {
            List<KvCache> all =
                    rows.stream().map(row -> model.newCache(row.length, scope)).toList();
            List<Integer> open = new ArrayList<>();
            int begun = 0;
            while (begun < rows.size() || !open.isEmpty()) {
                if (begun < rows.size()) {
                    open.add(begun++);
                }
                List<int[]> next = new ArrayList<>();
                List<KvCache> caches = new ArrayList<>();
                for (int row : open) {
                    next.add(part(rows.get(row), all.get(row).length()));
                    caches.add(all.get(row));
                }
                float[][] logits = model.nextLogits(next, caches);
                for (int i = 0; i < logits.length; i++) {
                    int row = open.get(i);
                    int at = caches.get(i).length() - half(rows.get(row));
                    apart = Math.max(apart, GoldenCase.largest(alone.get(row).get(at), logits[i]));
                }
                open.removeIf(row -> all.get(row).length() == rows.get(row).length);
            }
        }
        return apart;
    }

    private static List<float[]> alone(Transformer model, int[] row) {
        List<float[]> logits = new ArrayList<>();
        try (Scope scope = model.device().newScope()) {
            KvCache cache = model.newCache(row.length, scope);
            while (cache.length() < row.length) {
                logits.add(model.nextLogits(part(row, cache.length()), cache));
            }
        }
        return logits;
    }

    private static int half(int[] row) {
        return (row.length + 1) / 2;
    }

    private static int[] part(int[] row, int from) {
        return Arrays.copyOfRange(row, from, from == 0 ? half(row) : from + 1);
    }
}
