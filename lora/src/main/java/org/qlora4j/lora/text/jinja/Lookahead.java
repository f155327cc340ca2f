package org.qlora4j.lora.text.jinja;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Predicate;

/** Those items of an iterator that are accepted; tests an item only when it is asked for. */
final class Lookahead implements Iterator<Object> {
    private final Iterator<Object> items;
    private final Predicate<Object> accepts;
    private Object next = None.NONE;
    private boolean ready;

    Lookahead(Iterator<Object> items, Predicate<Object> accepts) {
        this.items = items;
        this.accepts = accepts;
    }

    @Override
    public boolean hasNext() {
        while (!ready && items.hasNext()) {
            next = items.next();
            ready = accepts.test(next);
        }
        return ready;
    }

    @Override
    public Object next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        ready = false;
        return next;
    }
}
