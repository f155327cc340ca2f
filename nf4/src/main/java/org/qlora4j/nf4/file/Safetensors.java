package org.qlora4j.nf4.file;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Reads safetensors: one file, or the shards that an index names.
 *
 * @see <a href="https://github.com/huggingface/safetensors#format">the format</a>
 */
public final class Safetensors implements TensorFiles {
    static final String SINGLE_FILE = "model.safetensors";
    static final String INDEX_FILE = "model.safetensors.index.json";

    private final Path location;
    private final TensorReader reader;
    private final Map<String, StoredTensor> tensors;
    private final Map<String, String> metadata;

    private Safetensors(
            Path location, TensorReader reader, Map<String, StoredTensor> tensors, Map<String, String> metadata) {
        this.location = location;
        this.reader = reader;
        this.tensors = Collections.unmodifiableMap(tensors);
        this.metadata = Collections.unmodifiableMap(metadata);
    }

    /**
     * Opens a file, an index or a folder. In a folder {@code model.safetensors} goes before
     * {@code model.safetensors.index.json}, as in transformers. Of sharded files the index decides which tensors exist;
     * a shard may hold more.
     *
     * @param path a .safetensors file, a .index.json file, or a folder
     * @throws ModelFormatException if the content is damaged, or the folder holds no safetensors
     * @throws java.io.UncheckedIOException if it cannot be read
     */
    public static Safetensors open(Path path) {
        Path file = path;
        if (Files.isDirectory(path)) {
            file = path.resolve(SINGLE_FILE);
            if (!Files.exists(file)) {
                file = path.resolve(INDEX_FILE);
            }
            if (!Files.exists(file)) {
                throw new ModelFormatException(
                        path,
                        "expected " + SINGLE_FILE + " or " + INDEX_FILE
                                + " in this folder, found neither; pickled weights"
                                + " (pytorch_model.bin) are not read, convert them to safetensors");
            }
        }
        TensorReader reader = new TensorReader();
        try {
            return file.toString().endsWith(".json") ? openIndex(path, file, reader) : openSingle(path, file, reader);
        } catch (RuntimeException | Error e) {
            reader.close();
            throw e;
        }
    }

    private static Safetensors openSingle(Path location, Path file, TensorReader reader) {
        SafetensorsHeader header = SafetensorsHeader.read(file, reader.add(file));
        return new Safetensors(location, reader, header.tensors(), header.metadata());
    }

    private static Safetensors openIndex(Path location, Path file, TensorReader reader) {
        ShardIndex index = ShardIndex.read(file);
        Map<String, StoredTensor> tensors = new LinkedHashMap<>();
        Map<String, String> metadata = new LinkedHashMap<>();
        for (String shardName : index.shards()) {
            Path shard = file.resolveSibling(shardName);
            if (!Files.exists(shard)) {
                throw new ModelFormatException(
                        file, "names the shard '" + shardName + "', which is missing; download it");
            }
            SafetensorsHeader header = SafetensorsHeader.read(shard, reader.add(shard));
            header.metadata().forEach(metadata::putIfAbsent);
            header.tensors().forEach((name, tensor) -> {
                if (shardName.equals(index.weightMap().get(name))) {
                    tensors.put(name, tensor);
                }
            });
        }
        index.weightMap().forEach((name, shardName) -> {
            if (!tensors.containsKey(name)) {
                throw ModelFormatException.ofTensor(
                        file, name, "the index places it in '" + shardName + "', which does not hold it");
            }
        });
        return new Safetensors(location, reader, tensors, metadata);
    }

    /** The {@code __metadata__} strings, e.g. {@code format=pt}; of shards, the first value of each key. */
    public Map<String, String> metadata() {
        return metadata;
    }

    @Override
    public Path location() {
        return location;
    }

    @Override
    public Set<String> names() {
        return tensors.keySet();
    }

    @Override
    public Optional<StoredTensor> find(String name) {
        return Optional.ofNullable(tensors.get(name));
    }

    @Override
    public void readFloats(StoredTensor t, long firstElement, int count, float[] dst, int dstOffset) {
        reader.readFloats(t, firstElement, count, dst, dstOffset);
    }

    @Override
    public byte[] readBytes(StoredTensor t) {
        return reader.readBytes(t);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, ByteBuffer dst) {
        reader.readBytes(t, offset, dst);
    }

    @Override
    public void readBytes(StoredTensor t, long offset, MemorySegment dst) {
        reader.readBytes(t, offset, dst);
    }

    @Override
    public void close() {
        reader.close();
    }
}
