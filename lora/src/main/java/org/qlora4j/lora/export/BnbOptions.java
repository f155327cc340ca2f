package org.qlora4j.lora.export;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.nf4.tensor.DType;

/**
 * How a checkpoint is quantized by bitsandbytes.
 *
 * @param quantization of the linear layers
 * @param computeDtype {@code bnb_4bit_compute_dtype}: what transformers computes in when it loads the checkpoint
 * @param quantStorage {@code bnb_4bit_quant_storage}: the element type that packed bytes pretend to have
 */
public record BnbOptions(Quantization quantization, DType computeDtype, DType quantStorage) {
    /**
     * @throws IllegalArgumentException if the compute dtype is not floating point or storage is none bitsandbytes has
     */
    public BnbOptions {
        if (!computeDtype.isFloat()) {
            throw new IllegalArgumentException(
                    "bnb_4bit_compute_dtype must be a floating point type, got " + computeDtype.torchName());
        }
        if (quantStorage != DType.U8 && !quantStorage.isFloat()) {
            throw new IllegalArgumentException(
                    "bnb_4bit_quant_storage must be uint8, float16, bfloat16, float32 or float64, got "
                            + quantStorage.torchName());
        }
    }

    /** The {@code quantization_config} of config.json. */
    ObjectNode toJson() {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.put("_load_in_4bit", true);
        json.put("_load_in_8bit", false);
        json.put("bnb_4bit_compute_dtype", computeDtype.torchName());
        json.put("bnb_4bit_quant_storage", quantStorage.torchName());
        json.put("bnb_4bit_quant_type", quantization.type().bnbName());
        json.put("bnb_4bit_use_double_quant", quantization.doubleQuant());
        json.put("llm_int8_enable_fp32_cpu_offload", false);
        json.put("llm_int8_has_fp16_weight", false);
        if (quantization.skipModules().isEmpty()) {
            json.putNull("llm_int8_skip_modules");
        } else {
            // a list replaces transformers' own, which has the output layer
            ArrayNode skip = json.putArray("llm_int8_skip_modules");
            skip.add("lm_head");
            quantization.skipModules().stream()
                    .filter(module -> !module.equals("lm_head"))
                    .forEach(skip::add);
        }
        json.put("llm_int8_threshold", 6.0);
        json.put("load_in_4bit", true);
        json.put("load_in_8bit", false);
        json.put("quant_method", "bitsandbytes");
        return json;
    }
}
