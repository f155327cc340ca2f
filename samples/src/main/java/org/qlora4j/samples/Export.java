package org.qlora4j.samples;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.qlora4j.lora.adapter.AdapterMerge;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.LoadedBase;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.nf4.tensor.DType;

/** {@code qlora export --merge_lora true}: base and adapter as one plain Hugging Face folder. */
final class Export {
    private Export() {}

    static int run(Arguments a) {
        if (!a.bool("merge_lora") || !a.has("adapters")) {
            throw new UserException("export needs --merge_lora true and --adapters DIR");
        }
        Path adapters = Adapters.folders(a).values().iterator().next().toAbsolutePath();
        Path output = a.has("output_dir")
                ? Path.of(a.text("output_dir"))
                : adapters.resolveSibling(adapters.getFileName() + "-merged");
        if (Files.exists(output)) {
            throw new UserException(output + " exists already; name another folder with --output_dir");
        }
        try (Session session = Session.open(a, 0);
                ModelSource source = ModelSource.open(session.modelPath())) {
            LoraAdapter adapter = session.adapter();
            if (adapter == null) {
                throw new UserException("export needs --adapters DIR");
            }
            DType dtype = a.has("torch_dtype")
                    ? DType.ofTorchName(a.text("torch_dtype"))
                    : source.config().dtype();
            AdapterMerge.write(adapter, base(a, source, adapter), dtype, output);
            session.text().save(output);
            System.out.println("merged model in " + dtype.torchName() + ": " + output);
            if (a.bool("merge_report")) {
                MergeReport.print(a, session, adapter, source, dtype, output);
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write the merge report's models beside " + output + ": " + e, e);
        }
        return 0;
    }

    /** What the adapter is added to. */
    private static ModelSource base(Arguments a, ModelSource source, LoraAdapter adapter) {
        return switch (a.text("merge_base")) {
            case "original" -> source;
            case "dequantized" -> LoadedBase.of(source, adapter.model());
            default ->
                throw new UserException(
                        "--merge_base must be original or dequantized, got '" + a.text("merge_base") + "'");
        };
    }
}
