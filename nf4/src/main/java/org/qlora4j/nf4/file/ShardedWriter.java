package org.qlora4j.nf4.file;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Writes a model as transformers does: {@code model.safetensors} if it fits, else numbered shards and an index. */
public final class ShardedWriter {
    private static final JsonFactory JSON = new JsonFactory();

    private ShardedWriter() {}

    private record Shard(String fileName, List<TensorSpec> tensors) {}

    /**
     * Writes a model. All shards are complete on disk before the first gets its name; the index comes last.
     *
     * @param folder created if missing
     * @param maxShardBytes limit of the data of a shard; a larger tensor gets a shard of its own
     * @param metadata the {@code __metadata__} strings of each shard
     * @param tensors what to write; split in this order
     * @param source called once per tensor, shard by shard
     * @throws IllegalArgumentException if two tensors have the same name or maxShardBytes is not positive
     * @throws IllegalStateException if the folder holds other model weights, which a reader would mix with these
     * @throws UncheckedIOException if writing fails; it names the file, and no new shard stays
     */
    public static void write(
            Path folder,
            long maxShardBytes,
            Map<String, String> metadata,
            List<TensorSpec> tensors,
            SafetensorsWriter.Source source) {
        SafetensorsWriter.checkNames(tensors);
        List<Shard> shards = split(tensors, maxShardBytes);
        refuseOtherWeights(folder, shards);
        Map<Path, Path> temporaries = new LinkedHashMap<>();
        try {
            Files.createDirectories(folder);
            for (Shard shard : shards) {
                Path file = folder.resolve(shard.fileName());
                temporaries.put(SafetensorsWriter.writeTemporary(file, metadata, shard.tensors(), source), file);
            }
            temporaries.forEach(AtomicFile::rename);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot create " + folder + ": " + e, e);
        } finally {
            // after success the temporary names are gone already
            temporaries.keySet().forEach(AtomicFile::deleteQuietly);
        }
        if (shards.size() > 1) {
            AtomicFile.writeString(folder.resolve(Safetensors.INDEX_FILE), index(shards));
        }
    }

    private static List<Shard> split(List<TensorSpec> tensors, long maxShardBytes) {
        if (maxShardBytes < 1) {
            throw new IllegalArgumentException("maxShardBytes must be at least 1, got " + maxShardBytes);
        }
        List<List<TensorSpec>> parts = new ArrayList<>();
        List<TensorSpec> part = new ArrayList<>();
        long bytes = 0;
        for (TensorSpec tensor : tensors) {
            if (!part.isEmpty() && tensor.byteLength() > maxShardBytes - bytes) {
                parts.add(part);
                part = new ArrayList<>();
                bytes = 0;
            }
            part.add(tensor);
            bytes += tensor.byteLength();
        }
        parts.add(part);
        if (parts.size() == 1) {
            return List.of(new Shard(Safetensors.SINGLE_FILE, part));
        }
        List<Shard> shards = new ArrayList<>();
        for (List<TensorSpec> each : parts) {
            String name = String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", shards.size() + 1, parts.size());
            shards.add(new Shard(name, each));
        }
        return shards;
    }

    private static void refuseOtherWeights(Path folder, List<Shard> shards) {
        if (!Files.isDirectory(folder)) {
            return;
        }
        Set<String> ours = shards.stream().map(Shard::fileName).collect(Collectors.toSet());
        if (shards.size() > 1) {
            ours.add(Safetensors.INDEX_FILE);
        }
        try (Stream<Path> files = Files.list(folder)) {
            List<String> others = files.map(file -> file.getFileName().toString())
                    .filter(name -> name.startsWith("model") && !ours.contains(name))
                    .filter(name -> name.endsWith(".safetensors") || name.equals(Safetensors.INDEX_FILE))
                    .sorted()
                    .toList();
            if (!others.isEmpty()) {
                throw new IllegalStateException(
                        folder + " already holds model weights (" + others.get(0) + "); choose an empty folder");
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot list " + folder + ": " + e, e);
        }
    }

    /** The index as transformers writes it: total_size and names in alphabetical order. */
    private static String index(List<Shard> shards) {
        Map<String, String> weightMap = new TreeMap<>();
        long totalBytes = 0;
        for (Shard shard : shards) {
            for (TensorSpec tensor : shard.tensors()) {
                weightMap.put(tensor.name(), shard.fileName());
                totalBytes = Math.addExact(totalBytes, tensor.byteLength());
            }
        }
        StringWriter text = new StringWriter();
        try (JsonGenerator out = JSON.createGenerator(text)) {
            out.setPrettyPrinter(new DefaultPrettyPrinter());
            out.writeStartObject();
            out.writeObjectFieldStart("metadata");
            out.writeNumberField("total_size", totalBytes);
            out.writeEndObject();
            out.writeObjectFieldStart("weight_map");
            for (Map.Entry<String, String> entry : weightMap.entrySet()) {
                out.writeStringField(entry.getKey(), entry.getValue());
            }
            out.writeEndObject();
            out.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException("cannot make the index: " + e, e);
        }
        return text.append('\n').toString();
    }
}
