package org.qlora4j.lora.data;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.qlora4j.lora.hub.HubClient;
import org.qlora4j.lora.hub.HubId;

/** Finds the files of a data set. */
public final class DatasetFiles {
    /** Data sets that come with the project, by the ids people type. */
    private static final Map<String, String> SAMPLES = Map.of(
            "alpaca-zh", "alpaca-zh",
            "alpaca-en", "alpaca-en",
            "self-cognition", "self-cognition",
            "AI-ModelScope/alpaca-gpt4-data-zh", "alpaca-zh",
            "AI-ModelScope/alpaca-gpt4-data-en", "alpaca-en",
            "swift/self-cognition", "self-cognition");

    private static final int MAX_DEPTH = 5;

    private final Path samples;
    private final HubClient hub;
    private final Consumer<String> say;
    private final Map<DatasetSpec, List<Path>> found = new HashMap<>();

    /**
     * A finder.
     *
     * @param samples folder of the data sets that come with the project
     * @param hub asked for ids
     * @param say told when a data set of the project stands for one of a hub
     */
    public DatasetFiles(Path samples, HubClient hub, Consumer<String> say) {
        this.samples = samples;
        this.hub = hub;
        this.say = say;
    }

    /**
     * The files of a data set.
     *
     * @throws IllegalArgumentException if there is none; says what was looked for
     */
    public List<Path> find(DatasetSpec spec) {
        // a hub is asked, and its answer told, once
        return found.computeIfAbsent(spec, this::look);
    }

    private List<Path> look(DatasetSpec spec) {
        Path path = Path.of(spec.name());
        if (spec.hub() == null && Files.isDirectory(path)) {
            return inFolder(spec, path);
        }
        if (spec.hub() == null && Files.isRegularFile(path)) {
            if (!spec.subsets().isEmpty()) {
                throw new IllegalArgumentException(
                        "dataset '" + spec + "': " + path + " is one file, it has no subsets");
            }
            return List.of(path);
        }
        String sample = SAMPLES.get(spec.name());
        Path file = samples.resolve(sample + ".jsonl");
        if (!HubId.isId(spec.name())) {
            if (sample == null) {
                throw new IllegalArgumentException("dataset '" + spec + "': there is no file " + path
                        + "; expected a data file or folder, an id owner/name of a hub, or one of alpaca-zh, alpaca-en,"
                        + " self-cognition, with #N for N rows");
            }
            return List.of(file);
        }
        try {
            return hub.dataset(HubId.parse(spec.name()), spec.hub(), names -> choose(spec, names));
        } catch (UncheckedIOException e) {
            if (sample == null) {
                throw new IllegalArgumentException("dataset '" + spec + "': " + e.getMessage(), e);
            }
            say.accept(e.getMessage() + ". Rows of " + file + " stand for it");
            return List.of(file);
        }
    }

    private static List<String> choose(DatasetSpec spec, List<String> names) {
        return DataFileNames.choose(spec.toString(), names, spec.subsets());
    }

    private static List<Path> inFolder(DatasetSpec spec, Path folder) {
        try (Stream<Path> walk = Files.walk(folder, MAX_DEPTH)) {
            List<String> names = walk.filter(Files::isRegularFile)
                    .map(file -> folder.relativize(file).toString().replace('\\', '/'))
                    .toList();
            return choose(spec, names).stream().map(folder::resolve).toList();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read the folder " + folder + ": " + e, e);
        }
    }
}
