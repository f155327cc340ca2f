package org.qlora4j.nf4.file;

import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The header of a GGUF file, versions 2 and 3: metadata, then where each tensor lies.
 *
 * @param version 2 or 3
 * @param metadata String, Long, Double, Boolean, or an unmodifiable List of them
 * @param tensors by name, in file order
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md">the format</a>
 */
record GgufHeader(int version, Map<String, Object> metadata, Map<String, StoredTensor> tensors) {
    private static final int MAX_METADATA = 1 << 16;
    private static final int MAX_TENSORS = 1 << 20;
    private static final int MAX_RANK = 4;
    private static final int MAX_ALIGNMENT = 1 << 20;
    private static final int DEFAULT_ALIGNMENT = 32;
    // key length, one type, one byte of value
    private static final int MIN_METADATA_BYTES = 8 + 4 + 1;
    // name length, rank, type, offset
    private static final int MIN_TENSOR_BYTES = 8 + 4 + 4 + 8;

    private record TensorInfo(String name, GgufType type, List<Long> shape, long offset, long byteLength) {}

    static GgufHeader read(Path file, FileChannel channel) {
        GgufInput in = new GgufInput(file, channel);
        int magic = in.i32("magic");
        if (Integer.reverseBytes(magic) != Gguf.MAGIC_BIG_ENDIAN) {
            throw new ModelFormatException(
                    file, "expected the letters GGUF at offset 0, found 0x" + Integer.toHexString(magic));
        }
        int version = version(file, in.i32("version"));
        long tensorCount = in.i64("tensor count");
        long metadataCount = in.i64("metadata count");
        Map<String, Object> metadata = metadata(file, in, metadataCount);
        refuseSplit(file, metadata);
        List<TensorInfo> infos = tensorInfos(file, in, tensorCount);
        long dataStart = alignUp(in.position(), alignment(file, metadata));
        return new GgufHeader(
                version,
                Collections.unmodifiableMap(metadata),
                place(file, infos, dataStart, alignment(file, metadata), TensorReader.size(file, channel)));
    }

    private static int version(Path file, int version) {
        if (version == Integer.reverseBytes(2) || version == Integer.reverseBytes(3)) {
            throw new ModelFormatException(file, "is a big-endian GGUF; convert it to little-endian");
        }
        if (version != 2 && version != 3) {
            throw new ModelFormatException(
                    file, "GGUF version " + Integer.toUnsignedString(version) + " is not supported; supported: 2, 3");
        }
        return version;
    }

    private static Map<String, Object> metadata(Path file, GgufInput in, long stated) {
        int count = in.count("metadata", stated, MIN_METADATA_BYTES, MAX_METADATA);
        Map<String, Object> metadata = new LinkedHashMap<>();
        GgufValues values = new GgufValues(file, in);
        for (int i = 0; i < count; i++) {
            String key = in.string("key of metadata " + i);
            if (metadata.putIfAbsent(key, values.read(key)) != null) {
                throw new ModelFormatException(file, "metadata '" + key + "' is given twice");
            }
        }
        return metadata;
    }

    private static void refuseSplit(Path file, Map<String, Object> metadata) {
        if (metadata.get("split.count") instanceof Long parts && parts > 1) {
            throw new ModelFormatException(
                    file,
                    "is one part of a model split into " + parts + "; merge it with llama.cpp's gguf-split --merge");
        }
    }

    private static long alignment(Path file, Map<String, Object> metadata) {
        Object stated = metadata.getOrDefault("general.alignment", (long) DEFAULT_ALIGNMENT);
        if (stated instanceof Long alignment
                && alignment > 0
                && alignment <= MAX_ALIGNMENT
                && Long.bitCount(alignment) == 1) {
            return alignment;
        }
        throw new ModelFormatException(
                file, "general.alignment must be a power of two up to " + MAX_ALIGNMENT + ", found " + stated);
    }

    private static List<TensorInfo> tensorInfos(Path file, GgufInput in, long stated) {
        int count = in.count("tensors", stated, MIN_TENSOR_BYTES, MAX_TENSORS);
        List<TensorInfo> infos = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            infos.add(tensorInfo(file, in, i));
        }
        return infos;
    }

    private static TensorInfo tensorInfo(Path file, GgufInput in, int index) {
        String name = in.string("name of tensor " + index);
        String what = "tensor '" + name + "'";
        int rank = in.i32(what);
        if (rank < 0 || rank > MAX_RANK) {
            throw ModelFormatException.ofTensor(
                    file, name, "has " + Integer.toUnsignedString(rank) + " dimensions, the limit is " + MAX_RANK);
        }
        List<Long> shape = new ArrayList<>();
        for (int d = 0; d < rank; d++) {
            long size = in.i64(what);
            if (size < 0) {
                throw ModelFormatException.ofTensor(
                        file, name, "dimension " + Long.toUnsignedString(size) + " overflows 63 bits");
            }
            // GGUF gives the innermost dimension first
            shape.add(0, size);
        }
        int typeNumber = in.i32(what);
        GgufType type = GgufType.ofNumber(typeNumber)
                .orElseThrow(() -> ModelFormatException.ofTensor(
                        file,
                        name,
                        "type " + GgufType.ggmlName(typeNumber) + " is not supported; supported: "
                                + List.of(GgufType.values())));
        long rowLength = rank == 0 ? 1 : shape.get(rank - 1);
        if (rowLength % type.blockSize() != 0) {
            throw ModelFormatException.ofTensor(
                    file, name, "rows of " + rowLength + " are not whole " + type + " blocks of " + type.blockSize());
        }
        try {
            return new TensorInfo(name, type, shape, in.i64(what), StoredTensor.byteLength(type, shape));
        } catch (ArithmeticException e) {
            throw ModelFormatException.ofTensor(file, name, "shape " + shape + " overflows 64 bits");
        }
    }

    private static Map<String, StoredTensor> place(
            Path file, List<TensorInfo> infos, long dataStart, long alignment, long fileBytes) {
        Map<String, StoredTensor> tensors = new LinkedHashMap<>();
        long dataBytes = Math.max(0, fileBytes - dataStart);
        for (TensorInfo info : infos) {
            long offset = info.offset();
            if (offset < 0 || offset > dataBytes || info.byteLength() > dataBytes - offset) {
                throw ModelFormatException.ofTensor(
                        file,
                        info.name(),
                        info.byteLength() + " bytes at data offset " + Long.toUnsignedString(offset)
                                + " are not inside the " + dataBytes
                                + " bytes of data; the file is truncated or damaged");
            }
            if (offset % alignment != 0) {
                throw ModelFormatException.ofTensor(
                        file, info.name(), "data offset " + offset + " is not a multiple of " + alignment);
            }
            StoredTensor tensor = new StoredTensor(
                    info.name(), info.type(), info.shape(), file, dataStart + offset, info.byteLength());
            if (tensors.putIfAbsent(info.name(), tensor) != null) {
                throw ModelFormatException.ofTensor(file, info.name(), "is given twice");
            }
        }
        refuseOverlap(file, tensors);
        return tensors;
    }

    private static void refuseOverlap(Path file, Map<String, StoredTensor> tensors) {
        List<StoredTensor> sorted = new ArrayList<>(tensors.values());
        sorted.sort(Comparator.comparingLong(StoredTensor::offset).thenComparingLong(StoredTensor::byteLength));
        long end = 0;
        for (StoredTensor t : sorted) {
            if (t.offset() < end) {
                throw ModelFormatException.ofTensor(
                        file,
                        t.name(),
                        "starts at file offset " + t.offset() + ", the tensor before it ends at " + end
                                + ": they overlap");
            }
            end = t.offset() + t.byteLength();
        }
    }

    private static long alignUp(long offset, long alignment) {
        return (offset + alignment - 1) / alignment * alignment;
    }
}
