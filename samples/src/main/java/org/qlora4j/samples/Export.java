package org.qlora4j.samples;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.export.BnbOptions;
import org.qlora4j.lora.export.GgufAdapterExport;
import org.qlora4j.lora.export.GgufExport;
import org.qlora4j.lora.export.HuggingFaceExport;
import org.qlora4j.lora.model.LoadedBase;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.file.AtomicFolder;
import org.qlora4j.nf4.file.FolderLock;
import org.qlora4j.nf4.file.GgufType;
import org.qlora4j.nf4.tensor.DType;

/**
 * {@code qlora export}: a model, or base and adapter as one ({@code --merge_lora true}), as a plain Hugging Face
 * folder, a 4-bit one ({@code --quant_method bnb --quant_bits 4}) or a GGUF file ({@code --to_gguf true}); or the
 * adapter alone as GGUF.
 */
final class Export {
    private final Arguments arguments;
    private final boolean gguf;
    private final boolean quantized;

    private Export(Arguments arguments) {
        this.arguments = arguments;
        this.gguf = arguments.bool("to_gguf");
        this.quantized = arguments.has("quant_method") || arguments.has("quant_bits");
    }

    static int run(Arguments arguments) {
        Export export = new Export(arguments);
        if (export.arguments.has("adapters")) {
            export.adapter();
        } else {
            export.base();
        }
        return 0;
    }

    private void adapter() {
        boolean merge = arguments.bool("merge_lora") || quantized;
        if (!merge && !gguf) {
            throw new UserException(
                    "export of an adapter needs --merge_lora true, or --to_gguf true for the adapter as GGUF");
        }
        Path adapters = Adapters.folders(arguments).values().iterator().next().toAbsolutePath();
        Path output = output(adapters, merge ? "-merged" : "-lora");
        try (Session session = Session.open(arguments, 0)) {
            LoraAdapter adapter = session.adapter();
            if (adapter == null) {
                throw new UserException("export needs --adapters DIR");
            }
            if (!merge) {
                GgufType type = ggufType(DType.F32);
                GgufAdapterExport.write(adapter, type, adapters.getFileName().toString(), output);
                done("adapter in " + type, output);
                return;
            }
            try (ModelSource source = ModelSource.open(session.modelPath())) {
                write(MergedWeights.of(base(source, adapter), adapter), source, session.text(), output);
                if (!gguf && !quantized && arguments.bool("merge_report")) {
                    MergeReport.print(arguments, session, adapter, source, dtype(source), output);
                }
            } catch (IOException e) {
                throw new UncheckedIOException("cannot write the merge report's models beside " + output + ": " + e, e);
            }
        }
    }

    private void base() {
        if (!arguments.has("model") || (!quantized && !gguf && !arguments.has("output_dir"))) {
            throw new UserException("export needs --adapters DIR with --merge_lora true, or --model MODEL with"
                    + " --quant_method bnb, --to_gguf true or --output_dir DIR");
        }
        Path model = Session.modelPath(arguments, null);
        Path output = output(model.toAbsolutePath(), quantized ? "-4bit" : "");
        try (ModelSource source = ModelSource.open(model)) {
            MergedWeights weights = MergedWeights.of(source);
            try (ChatText text = ChatText.load(model)) {
                write(weights, source, text, output);
            }
        }
    }

    /** Beside what is exported, unless named. */
    private Path output(Path from, String suffix) {
        String option = gguf ? "outfile" : "output_dir";
        String end = gguf ? suffix + ".gguf" : suffix;
        Path output = arguments.has(option)
                ? Path.of(arguments.text(option)).toAbsolutePath()
                : from.resolveSibling(from.getFileName() + end);
        if (Files.exists(output)) {
            throw new UserException(output + " exists already; name another with --" + option);
        }
        if (gguf && !Files.isDirectory(output.getParent())) {
            throw new UserException("there is no folder " + output.getParent() + " for --outfile");
        }
        return output;
    }

    @SuppressWarnings("try") // the lock is held, not used
    private void write(MergedWeights weights, ModelSource source, ChatText text, Path output) {
        try (FolderLock lock = FolderLock.beside(output)) {
            writeLocked(weights, source, text, output);
        }
    }

    private void writeLocked(MergedWeights weights, ModelSource source, ChatText text, Path output) {
        DType dtype = dtype(source);
        if (gguf) {
            if (!text.hasTokenizer()) {
                System.out.println(
                        source.path() + " holds no tokenizer.json: the GGUF file will answer token ids only");
            }
            GgufType type = ggufType(dtype);
            String name = source.path().toAbsolutePath().getFileName().toString();
            AtomicFile.cleanUp(output);
            GgufExport.write(weights, text, type, name.replaceFirst("\\.gguf$", ""), output);
            done("model in " + type, output);
            return;
        }
        Quantization quantization = quantized ? Session.quantization(arguments, null) : null;
        if (quantized && quantization == null) {
            throw new UserException("export quantizes to 4 bits only: --quant_method bnb --quant_bits 4");
        }
        // whole or not at all: nobody opens a model without its tokenizer
        AtomicFolder.write(output, folder -> {
            if (quantization == null) {
                HuggingFaceExport.write(weights, dtype, folder);
            } else {
                HuggingFaceExport.writeBnb4bit(weights, dtype, bnb(quantization), folder);
            }
            text.save(folder);
        });
        done("model in " + describe(quantization, dtype), output);
    }

    private static void done(String what, Path output) {
        System.out.println(what + ": " + output);
    }

    private GgufType ggufType(DType dtype) {
        String name = (arguments.has("outtype") ? arguments.text("outtype") : dtype.name()).toUpperCase(Locale.ROOT);
        try {
            return GgufType.valueOf(name);
        } catch (IllegalArgumentException e) {
            throw new UserException("--outtype " + name + " is not supported; supported: f32, f16, bf16, q8_0, q4_0");
        }
    }

    private BnbOptions bnb(Quantization quantization) {
        return new BnbOptions(
                quantization,
                DType.ofTorchName(arguments.text("bnb_4bit_compute_dtype")),
                DType.ofTorchName(arguments.text("bnb_4bit_quant_storage")));
    }

    private static String describe(@Nullable Quantization quantization, DType dtype) {
        return quantization == null
                ? dtype.torchName()
                : quantization.type().bnbName() + " of " + dtype.torchName()
                        + (quantization.doubleQuant() ? " with double quantization" : "");
    }

    private DType dtype(ModelSource source) {
        return arguments.has("torch_dtype")
                ? DType.ofTorchName(arguments.text("torch_dtype"))
                : source.config().dtype();
    }

    /** What the adapter is added to. */
    private ModelSource base(ModelSource source, LoraAdapter adapter) {
        return switch (arguments.text("merge_base")) {
            case "original" -> source;
            case "dequantized" -> LoadedBase.of(source, adapter.model());
            default ->
                throw new UserException(
                        "--merge_base must be original or dequantized, got '" + arguments.text("merge_base") + "'");
        };
    }
}
