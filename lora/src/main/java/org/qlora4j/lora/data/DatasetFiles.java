package org.qlora4j.lora.data;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

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

    /** @param samples folder of the data sets that come with the project */
    public DatasetFiles(Path samples) {
        this.samples = samples;
    }

    /**
     * The files of a data set.
     *
     * @throws IllegalArgumentException if there is none; says what was looked for
     */
    public List<Path> find(DatasetSpec spec) {
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
        if (sample == null) {
            throw new IllegalArgumentException("dataset '" + spec + "': there is no file " + path
                    + "; expected a data file or folder, or one of alpaca-zh, alpaca-en, self-cognition, with #N for N"
                    + " rows");
        }
        return List.of(samples.resolve(sample + ".jsonl"));
    }

    private static List<Path> inFolder(DatasetSpec spec, Path folder) {
        try (Stream<Path> walk = Files.walk(folder, MAX_DEPTH)) {
            List<String> names = walk.filter(Files::isRegularFile)
                    .map(file -> folder.relativize(file).toString().replace('\\', '/'))
                    .toList();
            return DataFileNames.choose(spec.toString(), names, spec.subsets()).stream()
                    .map(folder::resolve)
                    .toList();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read the folder " + folder + ": " + e, e);
        }
    }
}
