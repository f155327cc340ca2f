package org.qlora4j.nf4.device.cuda;

import java.util.Objects;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.ShapeException;

/**
 * The attention kernels of one width: they take head sizes up to it. The numbers are those of the units attention.cu,
 * attention_decode.cu and attention_wide.cu.
 */
enum AttentionKernels {
    UP_TO_64(64, new Tiles(64, 64), new Tiles(64, 64), new Tiles(64, 64), 4),
    UP_TO_128(128, new Tiles(64, 64), new Tiles(64, 32), new Tiles(64, 32), 4),
    UP_TO_256(256, new Tiles(64, 32), new Tiles(32, 16), new Tiles(64, 16), 2),
    /** A warp a row, four warps a block, no shared memory. */
    UP_TO_512(512, new Tiles(1, 0), new Tiles(1, 0), new Tiles(1, 0), 0);

    /**
     * @param block rows of a block's own tile
     * @param passing rows of the tiles it passes over
     */
    private record Tiles(int block, int passing) {}

    /** Rows of a tile that decodes: queries with the heads of a group. */
    static final int DECODE_ROWS = 16;

    /** Keys a warp that decodes takes at a time. */
    private static final int DECODE_KEYS = 16;

    private static final int THREADS = 128;
    private static final int WARPS = 4;
    private static final int WARP = 32;

    private final int width;
    private final Tiles forwardTiles;
    private final Tiles keyTiles;
    private final Tiles queryTiles;
    private final int decodeWarps;
    private final CudaKernel forward;
    private final @Nullable CudaKernel decode;
    private final CudaKernel backwardKeys;
    private final CudaKernel backwardQueries;

    AttentionKernels(int width, Tiles forwardTiles, Tiles keyTiles, Tiles queryTiles, int decodeWarps) {
        this.width = width;
        this.forwardTiles = forwardTiles;
        this.keyTiles = keyTiles;
        this.queryTiles = queryTiles;
        this.decodeWarps = decodeWarps;
        forward = CudaKernel.valueOf("ATTENTION_FORWARD_" + width);
        decode = decodeWarps == 0 ? null : CudaKernel.valueOf("ATTENTION_DECODE_" + width);
        backwardKeys = CudaKernel.valueOf("ATTENTION_BACKWARD_KEYS_" + width);
        backwardQueries = CudaKernel.valueOf("ATTENTION_BACKWARD_QUERIES_" + width);
    }

    /**
     * The narrowest that take a head size.
     *
     * @throws ShapeException if none do
     */
    static AttentionKernels of(int headDim) {
        for (AttentionKernels it : values()) {
            if (headDim <= it.width) {
                return it;
            }
        }
        throw new ShapeException("attention on a GPU takes head sizes up to " + UP_TO_512.width + "; got " + headDim
                + ": use device cpu");
    }

    CudaKernel forward() {
        return forward;
    }

    /** For dk and dv. */
    CudaKernel backwardKeys() {
        return backwardKeys;
    }

    /** For dq. */
    CudaKernel backwardQueries() {
        return backwardQueries;
    }

    /** Whether there is a kernel that splits the keys. */
    boolean canDecode() {
        return decode != null;
    }

    CudaKernel decode() {
        return Objects.requireNonNull(decode, "no kernel of this width splits the keys");
    }

    int threads() {
        return THREADS;
    }

    int decodeThreads() {
        return decodeWarps * WARP;
    }

    /** A split has a multiple of so many keys. */
    int decodeKeys() {
        return decodeWarps * DECODE_KEYS;
    }

    int forwardBlocks(int queries, int sequences) {
        return blocks(forwardTiles, queries, sequences);
    }

    int backwardKeysBlocks(int keys, int sequences) {
        return blocks(keyTiles, keys, sequences);
    }

    int backwardQueriesBlocks(int queries, int sequences) {
        return blocks(queryTiles, queries, sequences);
    }

    /** See sequenceOfTile in attention.cuh. */
    private static int blocks(Tiles tiles, int rows, int sequences) {
        int count = rows / tiles.block + sequences;
        return tiles.block == 1 ? (count + WARPS - 1) / WARPS : count;
    }

    /** Bytes of shared memory: q; keys; values. */
    int forwardShared() {
        return rowBytes() * (forwardTiles.passing == 0 ? 0 : forwardTiles.block + 2 * forwardTiles.passing);
    }

    /** Keys and values; twice q and dOut, two fp32 for each of their rows. */
    int backwardKeysShared() {
        return backwardShared(keyTiles) + 16 * keyTiles.passing;
    }

    /** q and dOut; twice keys and values. */
    int backwardQueriesShared() {
        return backwardShared(queryTiles);
    }

    private int backwardShared(Tiles tiles) {
        return tiles.passing == 0 ? 0 : rowBytes() * (2 * tiles.block + 4 * tiles.passing);
    }

    /** q; for each warp twice keys and values. */
    int decodeShared() {
        return rowBytes() * (DECODE_ROWS + 4 * decodeWarps * DECODE_KEYS);
    }

    private int rowBytes() {
        return 2 * (width + 8);
    }
}
