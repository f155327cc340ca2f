package org.qlora4j.samples;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.ModelConfig;
import org.qlora4j.lora.model.ModelFamily;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.QuantType;
import org.qlora4j.nf4.weight.Weight;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.memory.MemorySettings;
import org.qlora4j.optim.train.Trainer;

/** {@code qlora estimate}: the memory {@code sft} would need with the same options, without reading a weight. */
final class Estimate {
    /** As many as show how memory of different lengths is reused, few enough to be counted in a second. */
    private static final int SAMPLED_PASSES = 64;

    private Estimate() {}

    static int run(Arguments a) {
        String model = a.text("model");
        if (!a.has("model")) {
            throw new UserException("--model is missing: a Hugging Face folder, a config.json, a .gguf file, or one of "
                    + String.join(", ", ModelTable.names()));
        }
        int rows = a.integer("per_device_train_batch_size");
        int length = a.integer("max_length");
        Base base = base(model);
        MemorySettings asked = settings(
                a,
                base.config,
                quantization(a, base.stored),
                List.of(MemorySettings.fullBatch(rows, length)),
                List.of());
        boolean json = a.bool("json");
        Checkpointing chosen = Checkpointing.choose(a, asked, 0, json ? sentence -> {} : System.out::println);
        MemorySettings settings = chosen.settings();
        MemoryEstimate estimate = chosen.estimate();
        if (json) {
            System.out.println(json(model, settings, estimate).toPrettyString());
            return 0;
        }
        System.out.printf(
                "%s, %s, rank %d, %d x %d tokens, backward runs %s again%n",
                model,
                Session.described(settings.dtype(), settings.quantization(), settings.int8()),
                settings.lora().r(),
                rows,
                length,
                Checkpointing.described(settings));
        MemoryReport.print(estimate, System.out);
        RuleOfThumb.of(estimate).print(estimate, Devices.isCuda(settings.device()) ? 16 : 32, System.out);
        MemoryReport.requireRoom(settings, estimate, a.text("max_memory"), 0);
        return 0;
    }

    /** What a run's options say about memory. */
    static MemorySettings settings(
            Arguments a,
            ModelConfig config,
            @Nullable Quantization quantization,
            List<Batch> passes,
            List<Batch> evaluation) {
        return new MemorySettings(
                config,
                a.has("torch_dtype") ? DType.ofTorchName(a.text("torch_dtype")) : config.dtype(),
                quantization,
                Session.int8(a, Session.adapterPath(a)),
                LoraOptions.config(a),
                TrainingOptions.optimizer(a),
                Checkpointing.layers(a, config.numLayers()),
                passes,
                evaluation,
                Devices.choose(a.text("device")).device(),
                a.integer("threads"),
                DType.ofTorchName(a.text("bnb_4bit_compute_dtype")),
                TrainingOptions.keptSums(a));
    }

    /** A run with its real rows; refused if it does not fit. Settles which layers of the model backward runs again. */
    static MemoryEstimate before(Arguments a, Session session, LoraConfig lora, Trainer trainer, TrainingData data) {
        List<Batch> evaluation = data.validation().isEmpty()
                ? List.of()
                : List.of(longest(data.validation(), a.integer("per_device_eval_batch_size")));
        MemorySettings settings = settings(
                        a,
                        session.model().config(),
                        loadedQuantization(session.model()),
                        trainer.firstPasses(SAMPLED_PASSES),
                        evaluation)
                .withLora(lora);
        long held = session.model().device().bytesHeld();
        Checkpointing chosen = Checkpointing.choose(a, settings, held, System.out::println);
        MemoryEstimate estimate = chosen.estimate();
        System.out.println("memory this run will need:");
        MemoryReport.print(estimate, System.out);
        MemoryReport.requireRoom(chosen.settings(), estimate, a.text("max_memory"), held);
        session.model().setCheckpointedLayers(chosen.settings().checkpointedLayers());
        return estimate;
    }

    private static Batch longest(List<Batch.Row> rows, int count) {
        return new Batch(rows.stream()
                .sorted(Comparator.comparingInt(r -> -r.ids().length))
                .limit(count)
                .toList());
    }

    /** Refuses, before anything is loaded, a base that does not fit even with the shortest rows. */
    static void requireRoomForModel(Arguments a, Path model) {
        Base base = base(model.toString());
        Quantization asked = Session.quantization(a, Session.adapterPath(a));
        MemorySettings settings = settings(
                a,
                base.config,
                base.stored == null ? asked : base.stored,
                List.of(MemorySettings.fullBatch(1, 16)),
                List.of());
        MemoryReport.requireRoom(settings, MemoryEstimate.of(settings), a.text("max_memory"), 0);
    }

    /** @param stored how the base's linear layers are quantized on disk; null if they are not */
    private record Base(ModelConfig config, @Nullable Quantization stored) {}

    private static Base base(String model) {
        Path path = Path.of(model);
        if (Files.isDirectory(path) && Files.isRegularFile(path.resolve("config.json"))) {
            path = path.resolve("config.json");
        }
        if (path.toString().endsWith(".json") && Files.isRegularFile(path)) {
            ObjectNode json = ModelSource.readObject(path);
            return new Base(ModelFamily.read(path, json), storedQuantization(json.path("quantization_config")));
        }
        if (!Files.exists(path)) {
            return ModelTable.find(model)
                    .map(config -> new Base(config, null))
                    .orElseThrow(() -> new UserException("there is no model at " + model
                            + ", and no built-in configuration of that name; there are: "
                            + String.join(", ", ModelTable.names())));
        }
        try (ModelSource source = ModelSource.open(path)) {
            return new Base(source.config(), null);
        }
    }

    private static @Nullable Quantization storedQuantization(JsonNode bnb) {
        return bnb.path("load_in_4bit").asBoolean()
                ? new Quantization(
                        QuantType.ofBnbName(bnb.path("bnb_4bit_quant_type").asText("fp4")),
                        64,
                        bnb.path("bnb_4bit_use_double_quant").asBoolean())
                : null;
    }

    private static @Nullable Quantization loadedQuantization(Transformer model) {
        return model.linears().stream()
                .map(Linear::frozen)
                .filter(Weight.Quantized.class::isInstance)
                .map(Weight.Quantized.class::cast)
                .findFirst()
                .map(w -> new Quantization(w.type(), w.blockSize(), w.absmax() instanceof Weight.AbsMax.Nested))
                .orElse(null);
    }

    /** QLoRA's unless options or files say otherwise; {@code quant_bits 0} for a base that is not quantized. */
    private static @Nullable Quantization quantization(Arguments a, @Nullable Quantization stored) {
        if (stored != null) {
            return stored;
        }
        return a.has("quant_bits") || a.has("quant_method") || a.has("adapters")
                ? Session.quantization(a, Session.adapterPath(a))
                : Quantization.NF4_DOUBLE;
    }

    private static ObjectNode json(String model, MemorySettings settings, MemoryEstimate estimate) {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.put("model", model);
        json.put("checkpointed_layers", settings.checkpointedLayers());
        ObjectNode items = json.putObject("items");
        estimate.items().forEach(i -> items.put(i.name(), i.bytes()));
        json.put("base_bytes", estimate.baseBytes());
        json.put("device_bytes", estimate.deviceBytes());
        json.put("total_bytes", estimate.totalBytes());
        MemoryEstimate.Parameters p = estimate.parameters();
        ObjectNode parameters = json.putObject("parameters");
        parameters.put("base", p.all());
        parameters.put("quantized", p.quantized());
        parameters.put("lora", p.trained());
        if (p.quantized() > 0) {
            json.put("bits_per_quantized_weight", p.bitsPerQuantizedWeight());
        }
        RuleOfThumb rule = RuleOfThumb.of(estimate);
        json.put("full_finetuning_adam_bytes", rule.fullAdamBytes());
        ObjectNode thumb = json.putObject("rule_of_thumb");
        thumb.put("weights_bytes", rule.weightBytes());
        thumb.put("low_bytes", rule.lowBytes());
        thumb.put("high_bytes", rule.highBytes());
        return json;
    }
}
