package org.qlora4j.lora.model;

import java.util.Optional;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.file.TensorFiles;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.QuantState;
import org.qlora4j.nf4.weight.QuantType;

/** A matrix that bitsandbytes quantized, in the files of a checkpoint. */
sealed interface BnbWeight permits Bnb4bitWeight, BnbInt8Weight {

    /**
     * The quantized matrix with this name, if it is one.
     *
     * @throws org.qlora4j.nf4.file.ModelFormatException if what lies beside it does not fit
     */
    static Optional<BnbWeight> find(TensorFiles files, String name) {
        for (QuantType type : QuantType.values()) {
            Optional<StoredTensor> state = files.find(name + "." + QuantState.key(type));
            if (state.isPresent()) {
                return Optional.of(Bnb4bitWeight.open(files, files.get(name), state.get(), type));
            }
        }
        if (name.endsWith(".weight")) {
            Optional<StoredTensor> scb = files.find(BnbInt8Weight.beside(name, "SCB"));
            if (scb.isPresent()) {
                return Optional.of(BnbInt8Weight.open(files, files.get(name), scb.get()));
            }
        }
        return Optional.empty();
    }

    /** Whether a tensor is no weight of the model but part of a quantized one. */
    static boolean isPart(String name) {
        return name.contains(".weight.") || name.endsWith(".SCB") || name.endsWith(".weight_format");
    }

    /** Output features. */
    int rows();

    /** Input features. */
    int cols();

    /** What the values were before quantization, as far as the checkpoint says. */
    DType dtype();

    /** Reads a range of elements as bitsandbytes dequantizes them, rounded to {@link #dtype()}. */
    void dequantize(TensorFiles files, long firstElement, int count, float[] dst, int dstOffset);
}
