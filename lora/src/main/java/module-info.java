import org.jspecify.annotations.NullMarked;

/** A language model that can be fine-tuned: text, data, transformer, adapter, generation. */
@NullMarked
module org.qlora4j.lora {
    requires static transitive org.jspecify;
    requires static com.google.errorprone.annotations;
    requires transitive org.qlora4j.nf4;
    requires transitive com.fasterxml.jackson.databind;
    requires com.fasterxml.jackson.dataformat.csv;
    requires static dev.hardwood.core;
    requires ai.djl.tokenizers;
    requires ai.djl.api;
    requires org.slf4j;
    requires com.google.gson;

    exports org.qlora4j.lora.adapter;
    exports org.qlora4j.lora.data;
    exports org.qlora4j.lora.export;
    exports org.qlora4j.lora.generate;
    exports org.qlora4j.lora.hub;
    exports org.qlora4j.lora.model;
    exports org.qlora4j.lora.text;
    exports org.qlora4j.lora.text.jinja;
}
