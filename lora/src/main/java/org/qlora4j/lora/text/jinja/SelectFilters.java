package org.qlora4j.lora.text.jinja;

import java.util.Collections;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.UnaryOperator;

/** map, select and reject: generators, which do their work when they are walked. */
final class SelectFilters {
    private SelectFilters() {}

    static Map<String, Filters.Filter> all() {
        Map<String, Filters.Filter> filters = new HashMap<>();
        filters.put("map", SelectFilters::map);
        filters.put("select", (session, input, arguments) -> select(session, input, arguments, true, false));
        filters.put("reject", (session, input, arguments) -> select(session, input, arguments, false, false));
        filters.put("selectattr", (session, input, arguments) -> select(session, input, arguments, true, true));
        filters.put("rejectattr", (session, input, arguments) -> select(session, input, arguments, false, true));
        return filters;
    }

    /** A generator function of Python: its body, with all checks, runs at the first step. */
    private static LazyValue generator(Object input, Function<Iterator<Object>, Iterator<Object>> body) {
        return LazyValue.generator(new Iterator<>() {
            private Iterator<Object> items = Collections.emptyIterator();
            private boolean started;

            private Iterator<Object> items() {
                if (!started) {
                    started = true;
                    items = Types.truth(input) ? body.apply(Types.iterator(input)) : items;
                }
                return items;
            }

            @Override
            public boolean hasNext() {
                return items().hasNext();
            }

            @Override
            public Object next() {
                return items().next();
            }
        });
    }

    private static Object map(Session session, Object input, Arguments arguments) {
        return generator(input, items -> {
            UnaryOperator<Object> change = change(session, arguments);
            return new Iterator<>() {
                @Override
                public boolean hasNext() {
                    return items.hasNext();
                }

                @Override
                public Object next() {
                    return change.apply(items.next());
                }
            };
        });
    }

    private static UnaryOperator<Object> change(Session session, Arguments arguments) {
        if (arguments.positional().isEmpty() && arguments.keywords().containsKey("attribute")) {
            Arguments.Bound bound = arguments.bind("map", "attribute", "default?");
            return new Getter(session, bound.get(0), bound.get(1), false)::get;
        }
        if (arguments.positional().isEmpty()) {
            throw new PyError("FilterArgumentError", "map requires a filter argument");
        }
        String name = Repr.str(session, arguments.positional().getFirst()).value();
        Arguments rest = arguments.from(1);
        return item -> Filters.apply(session, name, item, rest);
    }

    private static Object select(
            Session session, Object input, Arguments arguments, boolean wanted, boolean byAttribute) {
        return generator(input, items -> {
            Predicate<Object> test = test(session, arguments, byAttribute);
            return new Lookahead(items, item -> test.test(item) == wanted);
        });
    }

    private static Predicate<Object> test(Session session, Arguments arguments, boolean byAttribute) {
        if (byAttribute && arguments.positional().isEmpty()) {
            throw new PyError("FilterArgumentError", "Missing parameter for attribute name");
        }
        Object attribute = byAttribute ? arguments.positional().getFirst() : None.NONE;
        Getter getter = new Getter(session, attribute, None.NONE, false);
        int first = byAttribute ? 1 : 0;
        if (arguments.positional().size() == first) {
            return item -> Types.truth(getter.get(item));
        }
        String name = Repr.str(session, arguments.positional().get(first)).value();
        Arguments rest = arguments.from(first + 1);
        return item -> Tests.test(session, name, getter.get(item), rest);
    }
}
