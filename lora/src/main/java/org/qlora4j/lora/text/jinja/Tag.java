package org.qlora4j.lora.text.jinja;

/** What a range of text is marked with while it travels through the template. Tags are compared by identity. */
sealed interface Tag permits Source, Tag.Generation, Tag.Iteration {
    /** Text written inside one execution of a generation block. */
    final class Generation implements Tag {}

    /** Text written while a loop's variable was {@code item}, an object of the context. */
    final class Iteration implements Tag {
        private final Source item;

        Iteration(Source item) {
            this.item = item;
        }

        Source item() {
            return item;
        }
    }
}
