package org.qlora4j.lora.data;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.qlora4j.lora.model.Batch;

/**
 * Puts rows into packs of about the same length, so that each pass has as much work. The rows of a pack lie one behind
 * the other, do not see each other, and each begins at position 0: the loss is that of the rows alone.
 */
public final class Packing {
    private Packing() {}

    /**
     * Best fit, longest rows first: each goes where the least room is left behind it, or into a new pack.
     *
     * @param length tokens of a pack; a longer row gets a pack of its own
     * @return packs in the order of their first rows, the rows of each in the order given
     */
    public static List<List<Batch.Row>> bestFit(List<Batch.Row> rows, int length) {
        Integer[] byLength = new Integer[rows.size()];
        for (int i = 0; i < byLength.length; i++) {
            byLength[i] = i;
        }
        Arrays.sort(byLength, Comparator.comparingInt(i -> -rows.get(i).ids().length));
        List<List<Integer>> packs = new ArrayList<>();
        // packs with so much room; ties by age, so that equal rows are always packed in the same way
        TreeMap<Integer, ArrayList<List<Integer>>> byRoom = new TreeMap<>();
        for (int i : byLength) {
            int tokens = rows.get(i).ids().length;
            Map.Entry<Integer, ArrayList<List<Integer>>> fitting = byRoom.ceilingEntry(tokens);
            List<Integer> pack;
            int room;
            if (fitting == null) {
                pack = new ArrayList<>();
                packs.add(pack);
                room = length - tokens;
            } else {
                pack = fitting.getValue().removeLast();
                room = fitting.getKey() - tokens;
                if (fitting.getValue().isEmpty()) {
                    byRoom.remove(fitting.getKey());
                }
            }
            pack.add(i);
            if (room > 0) {
                byRoom.computeIfAbsent(room, r -> new ArrayList<>()).add(pack);
            }
        }
        packs.forEach(pack -> pack.sort(null));
        packs.sort(Comparator.comparingInt(List::getFirst));
        return packs.stream().map(pack -> pack.stream().map(rows::get).toList()).toList();
    }
}
