package org.qlora4j.lora.text.jinja;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** What Python's protocols say of a value: its type's name, truth, length and iteration. */
final class Types {
    private Types() {}

    static String name(Object value) {
        return switch (value) {
            case None ignored -> "NoneType";
            case Boolean ignored -> "bool";
            case Long ignored -> "int";
            case BigInteger ignored -> "int";
            case Double ignored -> "float";
            case Text text -> text.markup() ? "Markup" : "str";
            case ListValue ignored -> "list";
            case TupleValue ignored -> "tuple";
            case DictValue ignored -> "dict";
            case DictView view -> view.typeName();
            case RangeValue ignored -> "range";
            case LazyValue lazy -> lazy.typeName();
            case Builtin ignored -> "builtin_function_or_method";
            default -> value.getClass().getSimpleName();
        };
    }

    static boolean truth(Object value) {
        return switch (value) {
            case None ignored -> false;
            case Undefined ignored -> false;
            case Boolean bool -> bool;
            case Long number -> number != 0;
            case BigInteger number -> number.signum() != 0;
            case Double number -> number != 0.0;
            case Text text -> !text.isEmpty();
            default -> {
                int length = lengthOrMinusOne(value);
                yield length != 0;
            }
        };
    }

    static long length(Object value) {
        int length = lengthOrMinusOne(value);
        if (length < 0) {
            throw PyError.type("object of type '" + name(value) + "' has no len()");
        }
        return length;
    }

    private static int lengthOrMinusOne(Object value) {
        return switch (value) {
            case Text text -> text.length();
            case ListValue list -> list.items().size();
            case TupleValue tuple -> tuple.items().size();
            case DictValue dict -> dict.size();
            case DictView view -> view.dict().size();
            case RangeValue range -> range.size();
            case LoopContext loop -> loop.length();
            case Undefined ignored -> 0;
            default -> -1;
        };
    }

    static boolean isIterable(Object value) {
        return iteratorOrNull(value) != null;
    }

    static Iterator<Object> iterator(Object value) {
        Iterator<Object> items = iteratorOrNull(value);
        if (items == null) {
            throw PyError.type("'" + name(value) + "' object is not iterable");
        }
        return items;
    }

    private static @Nullable Iterator<Object> iteratorOrNull(Object value) {
        return switch (value) {
            case Text text -> new CharacterIterator(text);
            case ListValue list -> list.items().iterator();
            case TupleValue tuple -> tuple.items().iterator();
            case DictValue dict -> dict.keys().iterator();
            case DictView view -> view.items().iterator();
            case RangeValue range -> range.iterator();
            case LazyValue lazy -> lazy.items();
            case Undefined ignored -> Collections.emptyIterator();
            default -> null;
        };
    }

    /** All items, counted against the session's limits. */
    static List<Object> list(Session session, Object value) {
        Iterator<Object> items = iterator(value);
        List<Object> list = new ArrayList<>();
        while (items.hasNext()) {
            session.steps(1);
            session.allocate(8);
            list.add(items.next());
        }
        return list;
    }

    /** Items of a list or tuple, which the sequence filters and slices share. */
    static @Nullable List<Object> sequence(Object value) {
        return switch (value) {
            case ListValue list -> list.items();
            case TupleValue tuple -> tuple.items();
            default -> null;
        };
    }
}
