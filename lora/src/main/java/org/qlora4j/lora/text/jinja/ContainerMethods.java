package org.qlora4j.lora.text.jinja;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The methods of dict, list, tuple, int and float that only read. */
final class ContainerMethods {
    private ContainerMethods() {}

    static @Nullable Object find(Object object, String name) {
        Builtin.Body body = switch (object) {
            case DictValue dict -> dict(dict, name);
            case ListValue list -> sequence(list.items(), name, "list");
            case TupleValue tuple -> sequence(tuple.items(), name, "tuple");
            case RangeValue range
            when name.equals("count") || name.equals("index") -> {
                List<Object> items = new ArrayList<>();
                range.iterator().forEachRemaining(items::add);
                yield sequence(items, name, "range");
            }
            case Cycler cycler -> cycler.method(name);
            case Double number -> number(number, name);
            case Long number -> integer(BigInteger.valueOf(number), name);
            default -> null;
        };
        if (body != null) {
            return new Builtin(name, body);
        }
        return switch (object) {
            case Cycler cycler when name.equals("current") -> cycler.current();
            case TupleValue tuple -> tuple.part(name);
            default -> null;
        };
    }

    private static Builtin.@Nullable Body dict(DictValue dict, String name) {
        return switch (name) {
            case "get" ->
                (session, arguments) -> {
                    Arguments.Bound bound = arguments.bind(name, "key", "default?");
                    Object value = dict.get(bound.get(0));
                    return value == null ? bound.get(1) : value;
                };
            case "keys" -> (session, arguments) -> view(dict, DictView.Kind.KEYS, arguments);
            case "values" -> (session, arguments) -> view(dict, DictView.Kind.VALUES, arguments);
            case "items" -> (session, arguments) -> view(dict, DictView.Kind.ITEMS, arguments);
            case "copy" ->
                (session, arguments) -> {
                    arguments.bind(name);
                    return dict;
                };
            default -> null;
        };
    }

    private static DictView view(DictValue dict, DictView.Kind kind, Arguments arguments) {
        arguments.bind("dict method");
        return new DictView(dict, kind);
    }

    private static Builtin.@Nullable Body sequence(List<Object> items, String name, String type) {
        return switch (name) {
            case "count" ->
                (session, arguments) -> {
                    Object wanted = arguments.bind(name, "value").get(0);
                    long count = 0;
                    for (Object item : items) {
                        session.steps(1);
                        count += item == wanted || Comparison.equal(session, item, wanted) ? 1 : 0;
                    }
                    return count;
                };
            case "index" ->
                (session, arguments) -> {
                    Arguments.Bound bound = arguments.bind(name, "value", "start?", "stop?");
                    long start = clamp(bound.integer(1, 0), items.size());
                    long stop = clamp(bound.integer(2, Long.MAX_VALUE), items.size());
                    for (long i = start; i < stop; i++) {
                        session.steps(1);
                        Object item = items.get((int) i);
                        if (item == bound.get(0) || Comparison.equal(session, item, bound.get(0))) {
                            return i;
                        }
                    }
                    throw PyError.value(Repr.shortRepr(bound.get(0)) + " is not in " + type);
                };
            case "copy" -> type.equals("list") ? (session, arguments) -> new ListValue(items) : null;
            default -> null;
        };
    }

    private static long clamp(long index, int size) {
        return Math.min(size, Math.max(0, index < 0 ? index + size : index));
    }

    private static Builtin.@Nullable Body number(double number, String name) {
        return switch (name) {
            case "is_integer" -> (session, arguments) -> number == Math.rint(number) && !Double.isInfinite(number);
            default -> null;
        };
    }

    private static Builtin.@Nullable Body integer(BigInteger number, String name) {
        return switch (name) {
            case "bit_length" -> (session, arguments) -> (long) number.abs().bitLength();
            default -> null;
        };
    }
}
