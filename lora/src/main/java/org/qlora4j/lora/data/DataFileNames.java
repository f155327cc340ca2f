package org.qlora4j.lora.data;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Which files of a folder or repository are the data set: those of one format, of the subsets that were asked for, and
 * of the split {@code train} if there are splits. No loading script is run.
 */
final class DataFileNames {
    /** Where several formats have as many files, the first of these is taken. */
    private static final List<String> PREFERRED = List.of("jsonl", "json", "parquet", "csv", "tsv", "txt");

    private static final Set<String> NO_DATA =
            Set.of("dataset_infos.json", "dataset_info.json", "state.json", "configuration.json", "license.txt");
    private static final Set<String> HELD_BACK = Set.of("test", "validation", "valid", "val", "dev", "eval");

    private DataFileNames() {}

    /**
     * Chooses files.
     *
     * @param what the data set, for the message
     * @param names paths relative to the folder, with '/'
     * @throws IllegalArgumentException if none is left; says what there is
     */
    static List<String> choose(String what, List<String> names, List<String> subsets) {
        List<String> data =
                names.stream().filter(DataFileNames::isData).sorted().toList();
        if (data.isEmpty()) {
            throw new IllegalArgumentException("dataset '" + what + "' has no file that ends with one of "
                    + new TreeSet<>(RowFiles.EXTENSIONS) + "; found " + shown(names));
        }
        List<String> chosen = data;
        if (!subsets.isEmpty()) {
            chosen = new ArrayList<>();
            for (String subset : subsets) {
                List<String> of = data.stream().filter(n -> belongs(n, subset)).toList();
                if (of.isEmpty()) {
                    throw new IllegalArgumentException(
                            "dataset '" + what + "' has no subset '" + subset + "'; its files are " + shown(data));
                }
                chosen.addAll(of);
            }
        }
        return train(oneFormat(chosen));
    }

    private static boolean isData(String name) {
        String last = name.substring(name.lastIndexOf('/') + 1).toLowerCase(Locale.ROOT);
        boolean hidden = ("/" + name).contains("/.");
        return !hidden && !NO_DATA.contains(last) && RowFiles.reads(Path.of(last));
    }

    /** In a folder of that name, or in a file whose name is that or begins with it. */
    private static boolean belongs(String name, String subset) {
        for (String part : name.split("/")) {
            if (part.equals(subset) || part.matches(Pattern.quote(subset) + "[-_.].*")) {
                return true;
            }
        }
        return false;
    }

    private static List<String> oneFormat(List<String> names) {
        Map<String, List<String>> byFormat = names.stream()
                .collect(Collectors.groupingBy(
                        n -> n.substring(n.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT),
                        TreeMap::new,
                        Collectors.toList()));
        return byFormat.entrySet().stream()
                .max(Comparator.<Map.Entry<String, List<String>>>comparingInt(
                                e -> e.getValue().size())
                        .thenComparing(e -> -PREFERRED.indexOf(e.getKey())))
                .map(Map.Entry::getValue)
                .orElse(names);
    }

    private static List<String> train(List<String> names) {
        List<String> train =
                names.stream().filter(n -> hasWord(n, Set.of("train"))).toList();
        if (!train.isEmpty()) {
            return train;
        }
        List<String> rest = names.stream().filter(n -> !hasWord(n, HELD_BACK)).toList();
        return rest.isEmpty() ? names : rest;
    }

    private static boolean hasWord(String name, Set<String> words) {
        for (String word : name.toLowerCase(Locale.ROOT).split("[^a-z0-9]+")) {
            if (words.contains(word)) {
                return true;
            }
        }
        return false;
    }

    private static String shown(List<String> names) {
        return names.isEmpty()
                ? "no file"
                : names.stream().limit(10).collect(Collectors.joining(", "))
                        + (names.size() > 10 ? ", … (" + names.size() + ")" : "");
    }
}
