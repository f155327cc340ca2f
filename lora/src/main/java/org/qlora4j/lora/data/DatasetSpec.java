package org.qlora4j.lora.data;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/**
 * One entry of {@code --dataset}: {@code path-or-id[#N]}. A path that exists wins, even if it contains a '#'.
 *
 * @param path the file
 * @param count rows to take, or -1 for all
 */
public record DatasetSpec(Path path, int count) {
    /** Data sets that come with the project, by the ids people type. */
    private static final Map<String, String> KNOWN = Map.of(
            "alpaca-zh", "alpaca-zh",
            "alpaca-en", "alpaca-en",
            "self-cognition", "self-cognition",
            "AI-ModelScope/alpaca-gpt4-data-zh", "alpaca-zh",
            "AI-ModelScope/alpaca-gpt4-data-en", "alpaca-en",
            "swift/self-cognition", "self-cognition");

    /**
     * Reads an entry.
     *
     * @param samples folder of the data sets that come with the project
     * @throws IllegalArgumentException if there is no such file or id, or N is no positive number
     */
    public static DatasetSpec parse(String text, Path samples) {
        Path whole = Path.of(text);
        if (Files.isRegularFile(whole)) {
            return new DatasetSpec(whole, -1);
        }
        int hash = text.lastIndexOf('#');
        String name = hash < 0 ? text : text.substring(0, hash);
        int count = -1;
        if (hash >= 0) {
            try {
                count = Integer.parseInt(text.substring(hash + 1));
            } catch (NumberFormatException e) {
                throw new IllegalArgumentException(
                        "dataset '" + text + "': what follows '#' must be a number of rows", e);
            }
            if (count < 1) {
                throw new IllegalArgumentException("dataset '" + text + "': the number of rows must be at least 1");
            }
        }
        String known = KNOWN.get(name);
        Path path = known == null ? Path.of(name) : samples.resolve(known + ".jsonl");
        if (!Files.isRegularFile(path)) {
            throw new IllegalArgumentException("dataset '" + text + "': there is no file " + path
                    + "; expected a .jsonl file, or one of alpaca-zh, alpaca-en, self-cognition, with #N for N rows");
        }
        return new DatasetSpec(path, count);
    }
}
