package org.qlora4j.lora.text.jinja;

import java.util.HashMap;
import java.util.Map;

/** What {@code namespace()} makes: the only object whose attributes a template may set. */
record Namespace(Map<String, Object> attributes) {
    Namespace() {
        this(new HashMap<>());
    }
}
