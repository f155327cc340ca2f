package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * {@code a.b}, {@code a[b]} and slices, by the rules of jinja2's ImmutableSandboxedEnvironment. Only listed members
 * exist.
 */
final class Members {
    private static final Set<String> DICT_CHANGERS = Set.of("clear", "pop", "popitem", "setdefault", "update");
    private static final Set<String> LIST_CHANGERS =
            Set.of("append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove");

    private Members() {}

    /** {@code object.name}: attribute first, then item. */
    static Object attribute(Object object, String name) {
        if (object instanceof Undefined undefined) {
            throw undefined.error();
        }
        Object found = own(object, name);
        if (found == null) {
            found = lookup(object, Text.of(name));
        }
        return found == null ? Undefined.member(object, Text.of(name)) : found;
    }

    /** {@code object[key]}: item first, then attribute. */
    static Object item(Session session, Object object, Object key) {
        if (object instanceof Text text) {
            session.scan(text);
        }
        if (object instanceof Undefined undefined) {
            throw undefined.error();
        }
        Object found = lookup(object, key);
        if (found == null && key instanceof Text name) {
            found = own(object, name.value());
        }
        return found == null ? Undefined.member(object, key) : found;
    }

    /** What Python's getattr finds, made undefined where the sandbox forbids it; null if there is none. */
    static @Nullable Object own(Object object, String name) {
        if (object instanceof Namespace namespace && namespace.attributes().containsKey(name)) {
            return name.startsWith("_")
                    ? Undefined.unsafe(object, name)
                    : namespace.attributes().get(name);
        }
        if (name.startsWith("__") && name.endsWith("__") && name.length() > 4) {
            // every Python object has some of these, and jinja2 lets none be used; naming one is never innocent
            return Undefined.unsafe(object, name);
        }
        boolean changes = object instanceof DictValue && DICT_CHANGERS.contains(name)
                || object instanceof ListValue && LIST_CHANGERS.contains(name);
        if (changes) {
            return Undefined.unsafe(object, name);
        }
        return switch (object) {
            case Text text
            when StringMethods.exists(name) ->
                new Builtin(name, (session, arguments) -> StringMethods.call(session, text, name, arguments));
            case LoopContext loop -> loop.member(name);
            case Macro macro -> macro.member(name);
            default -> ContainerMethods.find(object, name);
        };
    }

    private static @Nullable Object lookup(Object object, Object key) {
        switch (object) {
            case DictValue dict -> {
                boolean hashable = !(key instanceof ListValue || key instanceof DictValue);
                return hashable ? dict.get(key) : null;
            }
            case Text text
            when Numbers.isInt(key) -> {
                // one pass only: a code point index is not a char index
                long index = position(Numbers.index(key), text.length());
                if (index < 0) {
                    return null;
                }
                int start = text.offset((int) index);
                return text.substring(start, text.value().offsetByCodePoints(start, 1));
            }
            case RangeValue range
            when Numbers.isInt(key) -> {
                long index = position(Numbers.index(key), range.size());
                return index < 0 ? null : range.get((int) index);
            }
            default -> {
                List<Object> items = Types.sequence(object);
                if (items == null || !Numbers.isInt(key)) {
                    return null;
                }
                long index = position(Numbers.index(key), items.size());
                return index < 0 ? null : items.get((int) index);
            }
        }
    }

    /** A Python index counted from the front, or -1 if there is no such place. */
    private static long position(long index, int length) {
        long place = index < 0 ? index + length : index;
        return place >= 0 && place < length ? place : -1;
    }

    /**
     * {@code object[start:stop:step]}; a bound that was left out is None.
     *
     * @throws PyError if the object cannot be sliced: jinja2 gives an undefined value for an item only, not for a slice
     */
    static Object slice(Session session, Object object, Object start, Object stop, Object step) {
        if (object instanceof Undefined undefined) {
            throw undefined.error();
        }
        List<Object> items = Types.sequence(object);
        if (!(object instanceof Text) && !(object instanceof RangeValue) && items == null) {
            throw PyError.type(
                    object instanceof DictValue
                            ? "unhashable type: 'slice'"
                            : "'" + Types.name(object) + "' object is not subscriptable");
        }
        int length = Math.toIntExact(Types.length(object));
        long by = step == None.NONE ? 1 : Numbers.index(step);
        if (by == 0) {
            throw PyError.value("slice step cannot be zero");
        }
        long from = start == None.NONE ? (by > 0 ? 0 : length - 1L) : bound(Numbers.index(start), length, by);
        long to = stop == None.NONE ? (by > 0 ? length : -1) : bound(Numbers.index(stop), length, by);
        if (object instanceof Text text) {
            session.scan(text);
            return text(session, text, from, to, by);
        }
        // a step beyond the length would overflow the counter, and takes one item at most anyway
        long stride = Math.max(Math.min(by, length + 1L), -length - 1L);
        if (object instanceof RangeValue range) {
            return new RangeValue(
                    range.start() + from * range.step(), range.start() + to * range.step(), range.step() * stride);
        }
        List<Object> chosen = new ArrayList<>();
        for (long i = from; items != null && (by > 0 ? i < to : i > to); i += stride) {
            chosen.add(items.get((int) i));
        }
        return object instanceof TupleValue ? new TupleValue(chosen) : new ListValue(chosen);
    }

    private static long bound(long index, int length, long step) {
        long place = index < 0 ? Math.max(index, Long.MIN_VALUE / 2) + length : index;
        return step > 0 ? Math.max(0, Math.min(place, length)) : Math.max(-1, Math.min(place, length - 1L));
    }

    private static Text text(Session session, Text text, long from, long to, long by) {
        if (by == 1) {
            return from >= to
                    ? Text.EMPTY.withMarkup(text.markup())
                    : text.substring(text.offset((int) from), text.offset((int) to));
        }
        List<Object> characters = Types.list(session, text);
        int length = characters.size();
        long stride = Math.max(Math.min(by, length + 1L), -length - 1L);
        TextBuilder chosen = new TextBuilder(session);
        for (long i = from; by > 0 ? i < to : i > to; i += stride) {
            chosen.append((Text) characters.get((int) i));
        }
        return chosen.toText().withMarkup(text.markup());
    }
}
