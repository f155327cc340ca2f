package org.qlora4j.lora.text.jinja;

import java.util.Iterator;

/** A Python generator: can be walked once, is always true and has no length. */
record LazyValue(String typeName, Iterator<Object> items) {
    static LazyValue generator(Iterator<Object> items) {
        return new LazyValue("generator", items);
    }
}
