package org.qlora4j.nf4.device.cuda;

import org.qlora4j.nf4.tensor.Tensor;

/** The two shapes of launches most kernels have; common.cuh says what they promise. */
final class Launches {
    private static final int BLOCK = 256;

    /** Columns a thread of an elementwise kernel takes at a time. */
    private static final int PIECE = 8;

    /** Waves of blocks that fill a GPU many times over; each goes round the grid. */
    private static final int BLOCKS_PER_MULTIPROCESSOR = 32;

    /** Rows of up to so many columns are one warp's, eight rows to a block. */
    private static final int NARROW = 1024;

    private static final int WARPS = 8;

    /** Shared memory of sums over a block: common.cuh's ROW_SHARED. */
    private static final int ROW_SHARED = 33 * Float.BYTES;

    private final Launcher launcher;
    private final int mostBlocks;

    Launches(Launcher launcher, int multiprocessors) {
        this.launcher = launcher;
        this.mostBlocks = BLOCKS_PER_MULTIPROCESSOR * multiprocessors;
    }

    Launcher begin(CudaKernel kernel) {
        return launcher.begin(kernel);
    }

    /** Launches what was begun over the elements of a matrix. */
    void elementwise(Tensor shape) {
        elementwise(shape, 0);
    }

    /** As above, with shared memory. */
    void elementwise(Tensor shape, int sharedBytes) {
        long pieces = (long) shape.rows() * ((shape.cols() + PIECE - 1) / PIECE);
        launcher.run((int) Math.min((pieces + BLOCK - 1) / BLOCK, mostBlocks), BLOCK, sharedBytes);
    }

    /** Launches what was begun over the rows of a matrix. */
    void rows(Tensor shape) {
        rows(shape.rows(), shape.cols());
    }

    void rows(int rows, int cols) {
        if (cols > NARROW) {
            launcher.run(rows, BLOCK, ROW_SHARED);
        } else {
            launcher.run((rows + WARPS - 1) / WARPS, 1, 1, 32, WARPS, ROW_SHARED);
        }
    }

    /** Launches what was begun. */
    void run(int gridX, int gridY, int blockX, int blockY, int sharedBytes) {
        launcher.run(gridX, gridY, 1, blockX, blockY, sharedBytes);
    }
}
