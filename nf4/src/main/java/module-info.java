import org.jspecify.annotations.NullMarked;

/** Tensors, devices, quantized weights and model files. */
@NullMarked
module org.qlora4j.nf4 {
    requires static transitive org.jspecify;
    requires static com.google.errorprone.annotations;
    requires static jdk.incubator.vector;
    // the tests count allocated bytes
    requires static java.management;
    requires static jdk.management;
    requires transitive org.qlora4j.bindings;
    requires com.fasterxml.jackson.databind;

    exports org.qlora4j.nf4;
    exports org.qlora4j.nf4.device;
    exports org.qlora4j.nf4.device.cpu;
    exports org.qlora4j.nf4.device.cuda;
    exports org.qlora4j.nf4.device.reference;
    exports org.qlora4j.nf4.file;
    exports org.qlora4j.nf4.parallel;
    exports org.qlora4j.nf4.tensor;
    exports org.qlora4j.nf4.weight;
}
