package org.qlora4j.lora.text.jinja;

import java.util.Map;
import java.util.Set;

/** Finds filters by name. */
final class Filters {
    /** What a filter does with its input. */
    interface Filter {
        Object apply(Session session, Object input, Arguments arguments);
    }

    private static final Map<String, Filter> TEXT = TextFilters.all();
    private static final Map<String, Filter> SEQUENCE = SequenceFilters.all();
    private static final Map<String, Filter> SELECT = SelectFilters.all();
    private static final Map<String, Filter> VALUE = ValueFilters.all();
    /** jinja2 has these, but they make HTML or are not repeatable, and no chat template should need them. */
    private static final Set<String> LEFT_OUT =
            Set.of("pprint", "random", "striptags", "urlize", "xmlattr", "wordwrap");

    private Filters() {}

    static boolean exists(String name) {
        return TEXT.containsKey(name)
                || SEQUENCE.containsKey(name)
                || SELECT.containsKey(name)
                || VALUE.containsKey(name);
    }

    static Object apply(Session session, String name, Object input, Arguments arguments) {
        Filter filter = TEXT.get(name);
        filter = filter == null ? SEQUENCE.get(name) : filter;
        filter = filter == null ? SELECT.get(name) : filter;
        filter = filter == null ? VALUE.get(name) : filter;
        if (filter == null) {
            throw new PyError(
                    "TemplateRuntimeError",
                    LEFT_OUT.contains(name)
                            ? "the filter '" + name + "' is not supported"
                            : "No filter named '" + name + "'.");
        }
        if (input instanceof Text text) {
            session.scan(text);
        }
        session.enter();
        Object result = session.made(filter.apply(session, input, arguments));
        session.leave();
        return result;
    }
}
