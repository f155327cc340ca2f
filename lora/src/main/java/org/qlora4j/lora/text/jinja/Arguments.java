package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The arguments of one call. */
record Arguments(List<Object> positional, Map<String, Object> keywords) {
    static Arguments of(Object... positional) {
        return new Arguments(List.of(positional), Map.of());
    }

    /** Without the first {@code count} positional ones. */
    Arguments from(int count) {
        return new Arguments(positional.subList(count, positional.size()), keywords);
    }

    Arguments withKeyword(String name, Object value) {
        Map<String, Object> more = new LinkedHashMap<>(keywords);
        more.put(name, value);
        return new Arguments(positional, more);
    }

    /**
     * Matches the arguments to parameters.
     *
     * @param parameters names; a trailing {@code ?} marks those that may be left out
     */
    Bound bind(String function, String... parameters) {
        if (positional.size() > parameters.length) {
            throw PyError.type(function + "() takes at most " + parameters.length + " argument(s) (" + positional.size()
                    + " given)");
        }
        List<@Nullable Object> values = new ArrayList<>();
        int used = 0;
        for (int i = 0; i < parameters.length; i++) {
            boolean optional = parameters[i].endsWith("?");
            String name = optional ? parameters[i].substring(0, parameters[i].length() - 1) : parameters[i];
            Object keyword = keywords.get(name);
            if (keyword != null) {
                used++;
            }
            if (keyword != null && i < positional.size()) {
                throw PyError.type(function + "() got multiple values for argument '" + name + "'");
            }
            Object value = i < positional.size() ? positional.get(i) : keyword;
            if (value == null && !optional) {
                throw PyError.type(function + "() missing required argument '" + name + "'");
            }
            values.add(value);
        }
        if (used < keywords.size()) {
            throw PyError.type(function + "() got an unexpected keyword argument among " + keywords.keySet());
        }
        return new Bound(function, values);
    }

    /** Arguments in the order of the parameters. */
    record Bound(String function, List<@Nullable Object> values) {
        boolean has(int index) {
            return values.get(index) != null;
        }

        Object get(int index, Object otherwise) {
            Object value = values.get(index);
            return value == null ? otherwise : value;
        }

        Object get(int index) {
            return get(index, None.NONE);
        }

        boolean isNone(int index) {
            return get(index) == None.NONE;
        }

        Text text(int index) {
            if (get(index) instanceof Text text) {
                return text;
            }
            throw PyError.type(function + "() argument " + (index + 1) + " must be str, not " + Types.name(get(index)));
        }

        Text text(int index, Text otherwise) {
            return has(index) ? text(index) : otherwise;
        }

        long integer(int index) {
            return Numbers.index(get(index));
        }

        long integer(int index, long otherwise) {
            return has(index) ? integer(index) : otherwise;
        }

        boolean truth(int index, boolean otherwise) {
            return has(index) ? Types.truth(get(index)) : otherwise;
        }
    }
}
