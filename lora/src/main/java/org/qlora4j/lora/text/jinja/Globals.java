package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The functions every template can call: jinja2's and those transformers adds. */
final class Globals {
    /** Never changed: sets of a template go to its own scope. */
    static final Map<String, Object> ALL = all();

    private Globals() {}

    private static Map<String, Object> all() {
        Map<String, Object> globals = new HashMap<>();
        define(globals, "range", (session, arguments) -> {
            Arguments.Bound bound = arguments.bind("range", "start", "stop?", "step?");
            return bound.has(1)
                    ? new RangeValue(bound.integer(0), bound.integer(1), bound.integer(2, 1))
                    : new RangeValue(0, bound.integer(0), 1);
        });
        define(globals, "dict", Globals::dict);
        define(globals, "namespace", (session, arguments) -> {
            Namespace namespace = new Namespace();
            for (Map.Entry<Object, Object> entry : dict(session, arguments).entries()) {
                namespace.attributes().put(Repr.str(session, entry.getKey()).value(), entry.getValue());
            }
            return namespace;
        });
        define(globals, "cycler", (session, arguments) -> new Cycler(arguments.positional()));
        define(globals, "joiner", (session, arguments) -> {
            Text separator = arguments.bind("joiner", "sep?").text(0, Text.of(", "));
            boolean[] used = {false};
            return new Builtin("joiner", (callSession, none) -> {
                Text now = used[0] ? separator : Text.EMPTY;
                used[0] = true;
                return now;
            });
        });
        define(globals, "raise_exception", (session, arguments) -> {
            Object message = arguments.bind("raise_exception", "message").get(0);
            throw new PyError(PyError.RAISED, Repr.str(session, message).value());
        });
        define(globals, "strftime_now", (session, arguments) -> {
            Text format = arguments.bind("strftime_now", "format").text(0);
            return Text.of(Strftime.format(session, format.value()));
        });
        return Map.copyOf(globals);
    }

    private static void define(Map<String, Object> globals, String name, Builtin.Body body) {
        globals.put(name, new Builtin(name, body));
    }

    private static DictValue dict(Session session, Arguments arguments) {
        DictValue dict = new DictValue();
        if (arguments.positional().size() > 1) {
            throw PyError.type("dict expected at most 1 argument, got "
                    + arguments.positional().size());
        }
        for (Object source : arguments.positional()) {
            if (source instanceof DictValue other) {
                session.list(other.size());
                dict.putAll(other);
                continue;
            }
            for (Object pair : Types.list(session, source)) {
                List<Object> entry = new ArrayList<>(Types.list(session, pair));
                if (entry.size() != 2) {
                    throw PyError.value(
                            "dictionary update sequence element has length " + entry.size() + "; 2 is required");
                }
                dict.put(entry.get(0), entry.get(1));
            }
        }
        arguments.keywords().forEach((name, value) -> dict.put(Text.of(name), value));
        session.list(dict.size());
        return dict;
    }
}
