package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Filters of lists and other things that can be walked. */
final class SequenceFilters {
    private SequenceFilters() {}

    static Map<String, Filters.Filter> all() {
        Map<String, Filters.Filter> filters = new HashMap<>();
        filters.put("length", (session, input, arguments) -> Types.length(input));
        filters.put("count", (session, input, arguments) -> Types.length(input));
        filters.put("list", (session, input, arguments) -> new ListValue(Types.list(session, input)));
        filters.put("first", SequenceFilters::first);
        filters.put("last", SequenceFilters::last);
        filters.put("reverse", SequenceFilters::reverse);
        filters.put("join", SequenceFilters::join);
        filters.put("items", SequenceFilters::items);
        filters.put("dictsort", SequenceFilters::dictSort);
        filters.put("sort", SequenceFilters::sort);
        filters.put("unique", SequenceFilters::unique);
        filters.put("min", (session, input, arguments) -> extreme(session, input, arguments, Expr.Relation.LT));
        filters.put("max", (session, input, arguments) -> extreme(session, input, arguments, Expr.Relation.GT));
        filters.put("sum", SequenceFilters::sum);
        filters.put("batch", SequenceFilters::batch);
        filters.put("slice", SequenceFilters::slice);
        filters.put("groupby", SequenceFilters::groupBy);
        return filters;
    }

    private static Object first(Session session, Object input, Arguments arguments) {
        arguments.bind("first");
        Iterator<Object> items = Types.iterator(input);
        return items.hasNext() ? items.next() : Undefined.because("No first item, sequence was empty.");
    }

    /** What Python's reversed() takes. */
    private static boolean reversible(Object value) {
        return !(value instanceof LazyValue) && Types.isIterable(value);
    }

    private static Object last(Session session, Object input, Arguments arguments) {
        arguments.bind("last");
        if (!reversible(input)) {
            throw PyError.type("'" + Types.name(input) + "' object is not reversible");
        }
        if (input instanceof Text text) {
            return text.isEmpty()
                    ? Undefined.because("No last item, sequence was empty.")
                    : text.substring(text.value().offsetByCodePoints(text.size(), -1), text.size());
        }
        List<Object> sequence = Types.sequence(input);
        List<Object> items = sequence == null ? Types.list(session, input) : sequence;
        return items.isEmpty() ? Undefined.because("No last item, sequence was empty.") : items.getLast();
    }

    private static Object reverse(Session session, Object input, Arguments arguments) {
        arguments.bind("reverse");
        if (input instanceof Text) {
            return Members.slice(session, input, None.NONE, None.NONE, -1L);
        }
        if (!Types.isIterable(input)) {
            throw new PyError("FilterArgumentError", "argument must be iterable");
        }
        List<Object> items = Types.list(session, input);
        Collections.reverse(items);
        return reversible(input) ? new LazyValue("reversed", items.iterator()) : new ListValue(items);
    }

    private static Object join(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("join", "d?", "attribute?");
        Text separator = Repr.str(session, bound.get(0, Text.EMPTY));
        Getter getter = new Getter(session, bound.get(1), None.NONE, false);
        TextBuilder out = new TextBuilder(session);
        Iterator<Object> items = Types.iterator(input);
        for (boolean first = true; items.hasNext(); first = false) {
            out.append(first ? Text.EMPTY : separator);
            out.append(Repr.str(session, getter.get(items.next())));
        }
        return out.toText();
    }

    private static Object items(Session session, Object input, Arguments arguments) {
        arguments.bind("items");
        if (input instanceof Undefined) {
            return LazyValue.generator(Collections.emptyIterator());
        }
        if (!(input instanceof DictValue dict)) {
            throw PyError.type("Can only get item pairs from a mapping.");
        }
        return LazyValue.generator(
                new DictView(dict, DictView.Kind.ITEMS).items().iterator());
    }

    private static Object dictSort(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("dictsort", "case_sensitive?", "by?", "reverse?");
        if (!(input instanceof DictValue dict)) {
            throw input instanceof Undefined undefined
                    ? undefined.error()
                    : PyError.type("dictsort expects a dict, got " + Types.name(input));
        }
        String by = bound.text(1, Text.of("key")).value();
        if (!by.equals("key") && !by.equals("value")) {
            throw new PyError("FilterArgumentError", "You can only sort by either \"key\" or \"value\"");
        }
        Getter getter = new Getter(session, by.equals("key") ? 0L : 1L, None.NONE, !bound.truth(0, false));
        List<Sorting.Keyed> keyed = new ArrayList<>();
        for (Object pair : new DictView(dict, DictView.Kind.ITEMS).items()) {
            keyed.add(new Sorting.Keyed(getter.get(pair), pair));
        }
        return new ListValue(Sorting.items(Sorting.sorted(session, keyed, bound.truth(2, false))));
    }

    private static Object sort(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("sort", "reverse?", "case_sensitive?", "attribute?");
        List<Getter> getters = new ArrayList<>();
        List<Object> attributes = bound.get(2) instanceof Text several
                ? Splitting.by(session, several, Text.of(","), -1, false)
                : List.of(bound.get(2));
        for (Object attribute : attributes) {
            getters.add(new Getter(session, attribute, None.NONE, !bound.truth(1, false)));
        }
        List<Sorting.Keyed> keyed = new ArrayList<>();
        for (Object item : Types.list(session, input)) {
            List<Object> key = new ArrayList<>();
            for (Getter getter : getters) {
                key.add(getter.get(item));
            }
            keyed.add(new Sorting.Keyed(new ListValue(key), item));
        }
        return new ListValue(Sorting.items(Sorting.sorted(session, keyed, bound.truth(0, false))));
    }

    private static Object unique(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("unique", "case_sensitive?", "attribute?");
        Getter getter = new Getter(session, bound.get(1), None.NONE, !bound.truth(0, false));
        Set<Object> seen = new HashSet<>();
        return LazyValue.generator(
                new Lookahead(Types.iterator(input), item -> seen.add(Numbers.key(getter.get(item)))));
    }

    private static Object extreme(Session session, Object input, Arguments arguments, Expr.Relation better) {
        Arguments.Bound bound = arguments.bind("min or max", "case_sensitive?", "attribute?");
        Getter getter = new Getter(session, bound.get(1), None.NONE, !bound.truth(0, false));
        Iterator<Object> items = Types.iterator(input);
        if (!items.hasNext()) {
            return Undefined.because("No aggregated item, sequence was empty.");
        }
        Object best = items.next();
        Object bestKey = getter.get(best);
        while (items.hasNext()) {
            Object item = items.next();
            Object key = getter.get(item);
            if (Comparison.test(session, better, key, bestKey)) {
                best = item;
                bestKey = key;
            }
        }
        return best;
    }

    private static Object sum(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("sum", "attribute?", "start?");
        Getter getter = new Getter(session, bound.get(0), None.NONE, false);
        Object sum = bound.get(1, 0L);
        if (sum instanceof Text) {
            throw PyError.type("sum() can't sum strings [use ''.join(seq) instead]");
        }
        Iterator<Object> items = Types.iterator(input);
        while (items.hasNext()) {
            sum = Arithmetic.binary(session, Expr.Operator.ADD, sum, getter.get(items.next()));
        }
        return sum;
    }

    private static Object batch(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("batch", "linecount", "fill_with?");
        long size = bound.integer(0);
        List<Object> batches = new ArrayList<>();
        List<Object> batch = new ArrayList<>();
        for (Object item : Types.list(session, input)) {
            if (batch.size() == size) {
                batches.add(new ListValue(batch));
                batch = new ArrayList<>();
            }
            batch.add(item);
        }
        if (!batch.isEmpty()) {
            if (!bound.isNone(1) && batch.size() < size) {
                session.list(size);
                batch.addAll(Collections.nCopies((int) size - batch.size(), bound.get(1)));
            }
            batches.add(new ListValue(batch));
        }
        return LazyValue.generator(batches.iterator());
    }

    private static Object slice(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("slice", "slices", "fill_with?");
        long slices = bound.integer(0);
        List<Object> items = Types.list(session, input);
        if (slices == 0) {
            throw new PyError("ZeroDivisionError", "integer division or modulo by zero");
        }
        session.list(Math.max(0, slices));
        List<Object> result = new ArrayList<>();
        int start = 0;
        for (int i = 0; i < slices; i++) {
            boolean extra = i < items.size() % slices;
            int end = start + (int) (items.size() / slices) + (extra ? 1 : 0);
            List<Object> slice = new ArrayList<>(items.subList(start, end));
            if (!bound.isNone(1) && !extra) {
                slice.add(bound.get(1));
            }
            result.add(new ListValue(slice));
            start = end;
        }
        return LazyValue.generator(result.iterator());
    }

    private static Object groupBy(Session session, Object input, Arguments arguments) {
        Arguments.Bound bound = arguments.bind("groupby", "attribute", "default?", "case_sensitive?");
        Getter getter = new Getter(session, bound.get(0), bound.get(1), !bound.truth(2, false));
        Getter shown = new Getter(session, bound.get(0), bound.get(1), false);
        List<Sorting.Keyed> keyed = new ArrayList<>();
        for (Object item : Types.list(session, input)) {
            keyed.add(new Sorting.Keyed(getter.get(item), item));
        }
        List<Sorting.Keyed> sorted = Sorting.sorted(session, keyed, false);
        List<Object> groups = new ArrayList<>();
        for (int i = 0; i < sorted.size(); ) {
            int from = i;
            List<Object> members = new ArrayList<>();
            while (i < sorted.size()
                    && Comparison.equal(
                            session, sorted.get(from).key(), sorted.get(i).key())) {
                members.add(sorted.get(i++).item());
            }
            if (i == from) {
                // nan is not equal to itself and makes a group of its own
                members.add(sorted.get(i++).item());
            }
            groups.add(TupleValue.group(shown.get(members.getFirst()), new ListValue(members)));
        }
        return new ListValue(groups);
    }
}
