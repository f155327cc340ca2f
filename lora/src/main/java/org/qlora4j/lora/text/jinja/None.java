package org.qlora4j.lora.text.jinja;

/** Python's None. */
enum None {
    NONE
}
