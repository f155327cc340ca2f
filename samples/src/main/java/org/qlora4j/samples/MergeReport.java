package org.qlora4j.samples;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.qlora4j.lora.adapter.LogitDifference;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.MergedWeights;
import org.qlora4j.lora.export.HuggingFaceExport;
import org.qlora4j.lora.model.LoadedBase;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.Message;
import org.qlora4j.nf4.file.AtomicFolder;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.Weight;

/**
 * What merging changes: the predictions of the adapter on the base it was trained on against those of the merged model,
 * once merged into the original weights and once into the dequantized ones.
 */
final class MergeReport {
    private static final List<String> PROMPTS =
            List.of("Who are you?", "What is the capital of Italy?", "你是谁?", "Write two sentences about the sea.");

    private MergeReport() {}

    /**
     * Prints a line for each base. Each merged model is written to a folder of its own for a while.
     *
     * @param dtype of the merged weights
     * @param output the folders are beside it
     */
    static void print(Arguments a, Session session, LoraAdapter adapter, ModelSource source, DType dtype, Path output)
            throws IOException {
        boolean quantized =
                adapter.model().linears().stream().anyMatch(linear -> linear.frozen() instanceof Weight.Quantized);
        long needed = parameters(adapter.model()) * dtype.bytes();
        if (needed > MemoryReport.available()) {
            System.out.printf(
                    Locale.ROOT,
                    "no merge report: the merged model takes %.1f GB in memory, there are %.1f%n",
                    needed / 1e9,
                    MemoryReport.available() / 1e9);
            return;
        }
        List<int[]> prompts = prompts(a, session);
        List<float[]> reference = logits(adapter.model(), prompts);
        System.out.printf(
                "merge report: the adapter on %s against the merged model in %s, on %d prompts%n",
                quantized ? "its quantized base" : "its base", dtype.torchName(), prompts.size());
        Path folder = Files.createDirectories(output.resolveSibling("." + output.getFileName() + ".report"));
        try {
            if (!isStoredIn4Bits(source)) {
                compare("original base", source, adapter, dtype, prompts, reference, folder);
            }
            if (quantized) {
                ModelSource base = LoadedBase.of(source, adapter.model());
                compare("dequantized base", base, adapter, dtype, prompts, reference, folder);
            }
        } finally {
            AtomicFolder.deleteTree(folder);
        }
    }

    /** Then the original weights are not there. */
    static boolean isStoredIn4Bits(ModelSource source) {
        return source.configJson()
                .path("quantization_config")
                .path("load_in_4bit")
                .asBoolean();
    }

    private static long parameters(Transformer model) {
        return numel(model.embedding().frozen())
                + model.linears().stream().mapToLong(l -> numel(l.frozen())).sum();
    }

    private static long numel(Weight w) {
        return (long) w.rows() * w.cols();
    }

    /** Without a tokenizer, sequences of random tokens. */
    private static List<int[]> prompts(Arguments a, Session session) {
        if (!session.text().hasTokenizer()) {
            SplittableRandom random = new SplittableRandom(1);
            int vocabulary = session.model().config().vocabSize();
            return Stream.generate(() -> random.ints(32, 0, vocabulary).toArray())
                    .limit(PROMPTS.size())
                    .toList();
        }
        List<String> texts = a.has("report_prompts") ? a.list("report_prompts") : PROMPTS;
        List<int[]> prompts = new ArrayList<>();
        for (String text : texts) {
            String rendered = session.text().hasChatTemplate()
                    ? session.text().chatTemplate().render(List.of(Message.user(text)), true)
                    : text;
            prompts.add(session.text().tokenizer().encode(rendered));
        }
        return prompts;
    }

    private static void compare(
            String name,
            ModelSource base,
            LoraAdapter adapter,
            DType dtype,
            List<int[]> prompts,
            List<float[]> reference,
            Path folder) {
        Path merged = folder.resolve(name.replace(' ', '-'));
        HuggingFaceExport.write(MergedWeights.of(base, adapter), dtype, merged);
        ModelLoader.Options options =
                new ModelLoader.Options(dtype, null, Runtime.getRuntime().availableProcessors());
        LogitDifference d;
        try (ModelSource source = ModelSource.open(merged);
                Transformer model = ModelLoader.load(
                        source,
                        adapter.model().device(),
                        options,
                        (done, all) -> Progress.bar("loading the merged model, " + name, done, all))) {
            Progress.end();
            d = LogitDifference.of(
                    reference, logits(model, prompts), model.config().vocabSize());
        }
        System.out.printf(
                Locale.ROOT,
                "  %-17s logits differ by %.4f at most, %.4f on average; KL %.6f nats; same first choice at %.1f %% of %d positions%n",
                name,
                d.largest(),
                d.mean(),
                d.kl(),
                100 * d.sameChoice(),
                d.positions());
    }

    private static List<float[]> logits(Transformer model, List<int[]> prompts) {
        return prompts.stream().map(model::logits).toList();
    }
}
