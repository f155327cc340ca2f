package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.List;

/** Stable sorting by Python's order. */
final class Sorting {
    private Sorting() {}

    /** An item with what it is sorted by. */
    record Keyed(Object key, Object item) {}

    /**
     * Merge sort by {@code <} only: an order that contradicts itself (nan) gives some order, never an exception as
     * List.sort might.
     */
    static List<Keyed> sorted(Session session, List<Keyed> items, boolean reverse) {
        if (items.size() < 2) {
            return items;
        }
        int middle = items.size() / 2;
        List<Keyed> left = sorted(session, items.subList(0, middle), reverse);
        List<Keyed> right = sorted(session, items.subList(middle, items.size()), reverse);
        List<Keyed> merged = new ArrayList<>(items.size());
        int i = 0;
        int j = 0;
        while (i < left.size() && j < right.size()) {
            session.steps(1);
            Object a = left.get(i).key();
            Object b = right.get(j).key();
            boolean second = reverse
                    ? Comparison.test(session, Expr.Relation.LT, a, b)
                    : Comparison.test(session, Expr.Relation.LT, b, a);
            merged.add(second ? right.get(j++) : left.get(i++));
        }
        merged.addAll(left.subList(i, left.size()));
        merged.addAll(right.subList(j, right.size()));
        return merged;
    }

    static List<Object> items(List<Keyed> sorted) {
        List<Object> items = new ArrayList<>(sorted.size());
        for (Keyed keyed : sorted) {
            items.add(keyed.item());
        }
        return items;
    }
}
