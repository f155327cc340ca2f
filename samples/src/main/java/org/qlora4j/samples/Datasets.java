package org.qlora4j.samples;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.qlora4j.bindings.CacheFolder;
import org.qlora4j.lora.data.BrokenRows;
import org.qlora4j.lora.data.DatasetFiles;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.data.ExampleEncoder;
import org.qlora4j.lora.data.LossScale;
import org.qlora4j.lora.data.Names;
import org.qlora4j.lora.data.TokenCache;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.ChatText;

/** The data sets that options name, and how their rows are read. */
final class Datasets {
    /** The Parquet library tells each run which decoders it found. */
    private static final Logger PARQUET = Logger.getLogger("dev.hardwood");

    static {
        PARQUET.setLevel(Level.WARNING);
    }

    private final Arguments a;
    private final DatasetFiles files;
    private final BrokenRows broken;

    Datasets(Arguments a) {
        this.a = a;
        this.files = new DatasetFiles(
                Path.of(System.getProperty("qlora4j.root", "."), "samples", "data"), Hubs.of(a), System.out::println);
        this.broken = new BrokenRows(a.bool("strict"));
    }

    /** The data sets of an option; their files are looked for, before anything slow happens. */
    List<DatasetSpec> specs(String option) {
        List<DatasetSpec> specs =
                a.list(option).stream().map(DatasetSpec::parse).toList();
        specs.forEach(files::find);
        return specs;
    }

    /** A reader for a model. */
    DatasetReader reader(ChatText text, int vocabSize) {
        ChatTemplate template = text.hasChatTemplate() ? text.chatTemplate() : null;
        String system = a.has("system") ? a.text("system") : null;
        LossScale lossScale = LossScale.of(a.text("loss_scale"));
        return new DatasetReader(
                files,
                new ExampleEncoder(text, template, system, lossScale, vocabSize),
                columns(),
                Names.of("model_name", a.list("model_name")),
                Names.of("model_author", a.list("model_author")),
                broken,
                a.bool("load_from_cache_file")
                        ? new TokenCache(CacheFolder.path().resolve("rows"))
                        : null);
    }

    private Map<String, String> columns() {
        JsonNode json = a.json("columns");
        if (!json.isMissingNode() && !json.isObject()) {
            throw new UserException("--columns must be a JSON object like {\"name in the file\": \"query\"}");
        }
        Map<String, String> columns = new HashMap<>();
        json.properties().forEach(e -> columns.put(e.getKey(), e.getValue().asText()));
        return columns;
    }

    /** Says how many rows could not be used, and what was wrong with the first ones. */
    void printBroken() {
        if (broken.count() > 0) {
            System.out.println(broken.count() + " rows could not be used (--strict true stops at the first):");
            broken.first().forEach(row -> System.out.println("  " + row));
        }
    }
}
