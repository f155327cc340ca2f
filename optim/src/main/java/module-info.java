import org.jspecify.annotations.NullMarked;

/** Optimizers and the training loop. */
@NullMarked
module org.qlora4j.optim {
    requires static transitive org.jspecify;
    requires static com.google.errorprone.annotations;
    requires java.desktop;
    requires transitive org.qlora4j.lora;

    exports org.qlora4j.optim;
    exports org.qlora4j.optim.memory;
    exports org.qlora4j.optim.report;
    exports org.qlora4j.optim.train;
}
