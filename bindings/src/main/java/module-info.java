import org.jspecify.annotations.NullMarked;

/** Raw C calls of the native libraries qlora4j stands on. Knows no tensors. */
@NullMarked
module org.qlora4j.bindings {
    requires static transitive org.jspecify;
    requires static com.google.errorprone.annotations;

    exports org.qlora4j.bindings;
}
