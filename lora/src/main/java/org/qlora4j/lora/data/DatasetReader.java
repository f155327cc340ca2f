package org.qlora4j.lora.data;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Batch;

/** Reads data sets: rows of files, understood and tokenized. Only rows that are taken are tokenized. */
public final class DatasetReader {
    private final DatasetFiles files;
    private final RowParser parser;
    private final ExampleEncoder encoder;
    private final BrokenRows broken;
    private final @Nullable TokenCache cache;

    /** Rows to learn from and rows held back. */
    public record Rows(List<Batch.Row> train, List<Batch.Row> validation) {}

    /**
     * A reader.
     *
     * @param columns names of columns in the files, each with the name it stands for
     * @param modelName what {{NAME}} stands for; null to refuse rows with it
     * @param modelAuthor what {{AUTHOR}} stands for, likewise
     * @param broken takes note of rows that cannot be used
     * @param cache where tokenized rows are kept for the next run; null for nowhere
     */
    public DatasetReader(
            DatasetFiles files,
            ExampleEncoder encoder,
            Map<String, String> columns,
            @Nullable Names modelName,
            @Nullable Names modelAuthor,
            BrokenRows broken,
            @Nullable TokenCache cache) {
        this.cache = cache;
        this.files = files;
        this.parser = new RowParser(columns, modelName, modelAuthor);
        this.encoder = encoder;
        this.broken = broken;
    }

    /**
     * Reads a data set. Of more rows than were asked for some are drawn, or the first are taken; where there are fewer,
     * all come as often as they fit in and some once more.
     *
     * @param shuffle whether rows are drawn at random
     * @param validationRatio share of the rows that is held back; none of them is among the others
     * @throws IllegalArgumentException if there is no such data set, or no row of it can be used
     */
    public Rows read(DatasetSpec spec, boolean shuffle, long seed, double validationRatio) {
        List<RawRow> raw = new ArrayList<>();
        for (Path file : files.find(spec)) {
            raw.addAll(RowFiles.read(file, broken));
        }
        int wanted = spec.count() < 0 ? raw.size() : spec.count();
        List<Batch.Row> rows = encode(raw, Math.min(wanted, raw.size()), shuffle && wanted < raw.size(), seed);
        if (rows.isEmpty()) {
            throw new IllegalArgumentException("dataset '" + spec + "' holds no row that can be used"
                    + (broken.first().isEmpty() ? "" : "; " + broken.first().getFirst()));
        }
        int total = spec.count() < 0 ? rows.size() : spec.count();
        int held = Math.min((int) Math.round(total * validationRatio), rows.size() - 1);
        List<Batch.Row> train = new ArrayList<>();
        List<Batch.Row> validation = new ArrayList<>();
        if (held > 0) {
            int[] order = Permutation.of(rows.size(), new SplittableRandom(seed));
            for (int i = 0; i < order.length; i++) {
                (i < held ? validation : train).add(rows.get(order[i]));
            }
        } else {
            train.addAll(rows);
        }
        return new Rows(repeated(train, total - validation.size(), shuffle, seed), validation);
    }

    /** The first rows that can be used, in the files' order or a random one. */
    private List<Batch.Row> encode(List<RawRow> raw, int wanted, boolean shuffle, long seed) {
        if (cache == null) {
            return tokenize(raw, wanted, shuffle, seed, broken);
        }
        String selection = wanted + (shuffle ? " by seed " + seed : " in order");
        String key = TokenCache.key(List.of(encoder.settings(), parser.settings(), selection), raw);
        Optional<TokenCache.Content> stored = cache.read(key);
        if (stored.isPresent()) {
            broken.addAll(stored.get().brokenRows(), stored.get().broken());
            return stored.get().rows();
        }
        BrokenRows here = broken.fresh();
        List<Batch.Row> rows = tokenize(raw, wanted, shuffle, seed, here);
        broken.addAll(here.count(), here.first());
        cache.write(key, new TokenCache.Content(rows, here.count(), here.first()));
        return rows;
    }

    private List<Batch.Row> tokenize(List<RawRow> raw, int wanted, boolean shuffle, long seed, BrokenRows notes) {
        int[] order = shuffle ? Permutation.of(raw.size(), new SplittableRandom(seed)) : null;
        List<Batch.Row> rows = new ArrayList<>();
        for (int i = 0; i < raw.size() && rows.size() < wanted; i++) {
            RawRow row = raw.get(order == null ? i : order[i]);
            try {
                rows.add(encoder.encode(parser.parse(row.json())));
            } catch (IllegalArgumentException e) {
                notes.add(row.where(), String.valueOf(e.getMessage()));
            }
        }
        return rows;
    }

    private static List<Batch.Row> repeated(List<Batch.Row> rows, int wanted, boolean shuffle, long seed) {
        if (wanted <= rows.size()) {
            return rows;
        }
        List<Batch.Row> taken = new ArrayList<>();
        for (int i = 0; i < wanted / rows.size(); i++) {
            taken.addAll(rows);
        }
        int[] order = shuffle ? Permutation.of(rows.size(), new SplittableRandom(seed)) : null;
        for (int i = 0; taken.size() < wanted; i++) {
            taken.add(rows.get(order == null ? i : order[i]));
        }
        return taken;
    }
}
