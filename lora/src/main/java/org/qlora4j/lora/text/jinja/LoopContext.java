package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The variable {@code loop}. Like jinja2's it looks at the next item only when it is asked for. */
final class LoopContext implements Callable {
    /** What a call of the loop does. */
    interface Recursion {
        Text call(Object iterable);
    }

    private final Session session;
    private final int depth0;
    private final Recursion recursion;
    private Iterator<Object> items;
    private int length;
    private int index0 = -1;
    private @Nullable Object before;
    private Object current = None.NONE;
    private @Nullable Object after;
    private @Nullable Object lastChanged;

    LoopContext(Session session, Iterator<Object> items, int knownLength, int depth0, Recursion recursion) {
        this.session = session;
        this.items = items;
        this.length = knownLength;
        this.depth0 = depth0;
        this.recursion = recursion;
    }

    boolean advance() {
        Object next = peek();
        if (next == null) {
            return false;
        }
        after = null;
        index0++;
        before = current;
        current = next;
        return true;
    }

    Object current() {
        return current;
    }

    int index0() {
        return index0;
    }

    private @Nullable Object peek() {
        if (after == null && items.hasNext()) {
            after = items.next();
        }
        return after;
    }

    int length() {
        if (length < 0) {
            List<Object> rest = new ArrayList<>();
            while (items.hasNext()) {
                session.steps(1);
                rest.add(items.next());
            }
            items = rest.iterator();
            length = rest.size() + index0 + 1 + (after == null ? 0 : 1);
        }
        return length;
    }

    @Override
    public String name() {
        return "loop";
    }

    @Override
    public Object call(Session ignored, Arguments arguments) {
        return recursion.call(arguments.bind("loop", "iterable").get(0));
    }

    @Nullable
    Object member(String name) {
        return switch (name) {
            case "index" -> index0 + 1L;
            case "index0" -> (long) index0;
            case "first" -> index0 == 0;
            case "last" -> peek() == null;
            case "length" -> (long) length();
            case "revindex" -> (long) length() - index0;
            case "revindex0" -> length() - index0 - 1L;
            case "depth" -> depth0 + 1L;
            case "depth0" -> (long) depth0;
            case "previtem" -> index0 == 0 || before == null ? Undefined.because("there is no previous item") : before;
            case "nextitem" -> {
                Object next = peek();
                yield next == null ? Undefined.because("there is no next item") : next;
            }
            case "cycle" ->
                new Builtin(name, (callSession, arguments) -> {
                    List<Object> choices = arguments.positional();
                    if (choices.isEmpty()) {
                        throw PyError.type("no items for cycling given");
                    }
                    return choices.get(index0 % choices.size());
                });
            case "changed" ->
                new Builtin(name, (callSession, arguments) -> changed(callSession, arguments.positional()));
            default -> null;
        };
    }

    private boolean changed(Session callSession, List<Object> values) {
        TupleValue now = new TupleValue(values);
        boolean changed = lastChanged == null || !Comparison.equal(callSession, lastChanged, now);
        lastChanged = now;
        return changed;
    }
}
