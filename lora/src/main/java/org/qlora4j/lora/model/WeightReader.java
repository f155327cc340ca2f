package org.qlora4j.lora.model;

import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** Where a model's weights come from. */
interface WeightReader {
    /** A weight read and quantized on the host, ready to be uploaded. */
    interface Prepared {
        /** Brings it to the device, on the device's thread. */
        Weight upload(Device device, Scope scope);
    }

    /**
     * Reads a matrix.
     *
     * @param name of the tensor, e.g. {@code lm_head.weight}
     * @param rows expected out features
     * @param cols expected in features
     * @param quantization null to keep floating point
     */
    Prepared read(String name, int rows, int cols, @Nullable Quantization quantization);

    /** A matrix in LLM.int8's storage, made from floating point. Parameters as for {@link #read}. */
    Prepared readInt8(String name, int rows, int cols);

    /**
     * A vector in the device's floating point type: a norm's weight or a bias.
     *
     * @param plus added to each value after rounding to torch_dtype, as transformers does for norms of 1 + w
     */
    Tensor vector(Device device, Scope scope, String name, int length, float plus);
}
