package org.qlora4j.lora.model;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.TensorFiles;

/**
 * A base model on disk: its tensors under Hugging Face's names, and its config.json (made from the metadata for a GGUF
 * file).
 *
 * @param path the folder or file that was opened
 * @param tensors the weights
 * @param configJson config.json
 * @param config what it says
 */
public record ModelSource(Path path, TensorFiles tensors, ObjectNode configJson, ModelConfig config)
        implements AutoCloseable {
    private static final String QUANTIZATION = "quantization_config";
    private static final ObjectMapper JSON = new ObjectMapper();

    /**
     * Opens a Hugging Face folder or a GGUF file; reads the headers only.
     *
     * @throws ModelFormatException if the content is damaged
     * @throws UnsupportedModelException if the model is not supported
     * @throws IllegalArgumentException if there is no model at that path
     */
    public static ModelSource open(Path path) {
        if (!Files.exists(path)) {
            throw new IllegalArgumentException(
                    "there is no model at " + path + ": expected a folder with config.json, or a .gguf file");
        }
        if (!Files.isDirectory(path)) {
            return openGguf(path);
        }
        Path file = path.resolve("config.json");
        if (!Files.isRegularFile(file)) {
            throw new IllegalArgumentException(
                    path + " holds no config.json; expected a Hugging Face model folder, or name a .gguf file");
        }
        ObjectNode json = readObject(file);
        refuseOtherQuantization(file, json);
        ModelConfig config = ModelFamily.read(file, json);
        return new ModelSource(path, TensorFiles.open(path), json, config);
    }

    private static void refuseOtherQuantization(Path file, ObjectNode json) {
        JsonNode quantization = json.path(QUANTIZATION);
        String method = quantization.path("quant_method").asText("bitsandbytes");
        if (quantization.isObject() && !method.equals("bitsandbytes")) {
            throw new UnsupportedModelException(file + ": quant_method '" + method
                    + "' is not supported; supported: bitsandbytes (4-bit, LLM.int8); or use the model before it was"
                    + " quantized");
        }
    }

    /** Whether this is a bitsandbytes 4-bit checkpoint. */
    public boolean isBnb4bit() {
        return configJson.path(QUANTIZATION).path("load_in_4bit").asBoolean();
    }

    /** The layers that an LLM.int8 checkpoint kept in floating point; none if it is no such checkpoint. */
    List<String> skippedIn8bit() {
        JsonNode quantization = configJson.path(QUANTIZATION);
        List<String> skipped = new ArrayList<>();
        if (quantization.path("load_in_8bit").asBoolean()) {
            quantization.path("llm_int8_skip_modules").forEach(module -> skipped.add(module.asText()));
        }
        return skipped;
    }

    private static ModelSource openGguf(Path path) {
        TensorFiles files = TensorFiles.open(path);
        try {
            if (!(files instanceof Gguf gguf)) {
                throw new ModelFormatException(
                        path, "is no GGUF file; for safetensors name the folder that holds config.json");
            }
            ObjectNode json = GgufConfigReader.read(gguf);
            ModelConfig config = ModelFamily.read(path, json);
            return new ModelSource(path, new GgufModel(gguf, config), json, config);
        } catch (RuntimeException e) {
            files.close();
            throw e;
        }
    }

    /**
     * Reads a JSON object from a file.
     *
     * @throws ModelFormatException if it is none
     */
    public static ObjectNode readObject(Path file) {
        try {
            JsonNode node = JSON.readTree(Files.readAllBytes(file));
            if (node instanceof ObjectNode object) {
                return object;
            }
            throw new ModelFormatException(file, "must hold a JSON object");
        } catch (JsonProcessingException e) {
            throw new ModelFormatException(file, "is not JSON: " + e.getOriginalMessage(), e);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + file + ": " + e, e);
        }
    }

    @Override
    public void close() {
        tensors.close();
    }
}
