package org.qlora4j.nf4.device.cuda;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Starts kernels on one stream. Arguments are given one by one and checked against the kernel's signature, so that a
 * wrong call is an exception here and not a wild address on the device; nothing is allocated.
 *
 * <pre>launcher.begin(FILL_F32).pointer(y).i64(n).f32(value).run(grid, 256);</pre>
 */
final class Launcher implements AutoCloseable {
    /** Dynamic shared memory a kernel may have without being told. */
    private static final int SHARED_WITHOUT_ASKING = 48 << 10;

    private static final int MOST_ARGUMENTS = 48;

    private final int architecture;
    private final CudaContext context;
    private final long stream;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment values = arena.allocate(8L * MOST_ARGUMENTS, 8);
    private final MemorySegment addresses = arena.allocate(8L * MOST_ARGUMENTS, 8);
    private final Map<String, Long> modules = new HashMap<>();
    private final long[] functions = new long[CudaKernel.values().length];
    private final int[] sharedAllowed = new int[functions.length];
    private @Nullable CudaKernel kernel;
    private int count;

    /** @param architecture compute capability, e.g. 90 */
    Launcher(int architecture, CudaContext context, long stream) {
        this.architecture = architecture;
        this.context = context;
        this.stream = stream;
        for (int i = 0; i < MOST_ARGUMENTS; i++) {
            addresses.set(JAVA_LONG, 8L * i, values.address() + 8L * i);
        }
    }

    /** Compiles, or takes from the cache, and loads all kernels. */
    void loadAll() {
        for (CudaKernel k : CudaKernel.values()) {
            long module = modules.computeIfAbsent(
                    k.unit(), unit -> CudaDriver.loadModule(KernelCompiler.cubin(unit, architecture)));
            functions[k.ordinal()] = CudaDriver.function(module, k.functionName());
        }
    }

    /** The next launch is of this kernel. */
    Launcher begin(CudaKernel next) {
        kernel = next;
        count = 0;
        return this;
    }

    /** A device address; 0 where the kernel allows it. */
    Launcher pointer(long address) {
        values.set(JAVA_LONG, 8L * next('P'), address);
        return this;
    }

    /** A tensor's first element. */
    Launcher pointer(Tensor t) {
        return pointer(t.address());
    }

    /** A matrix: its first element and its stride. */
    Launcher matrix(Tensor t) {
        return pointer(t.address()).i32(t.stride());
    }

    /** Rows and columns. */
    Launcher size(Tensor t) {
        return i32(t.rows()).i32(t.cols());
    }

    Launcher i32(int value) {
        values.set(JAVA_INT, 8L * next('I'), value);
        return this;
    }

    Launcher i64(long value) {
        values.set(JAVA_LONG, 8L * next('L'), value);
        return this;
    }

    Launcher f32(float value) {
        values.set(JAVA_FLOAT, 8L * next('F'), value);
        return this;
    }

    private int next(char type) {
        CudaKernel k = current();
        if (count >= k.signature().length() || k.signature().charAt(count) != type) {
            throw new IllegalStateException(
                    k + " takes " + k.signature() + "; argument " + count + " is of type " + type);
        }
        return count++;
    }

    private CudaKernel current() {
        CudaKernel k = kernel;
        if (k == null) {
            throw new IllegalStateException("no launch has begun");
        }
        return k;
    }

    /** Launches without dynamic shared memory. */
    void run(int gridX, int block) {
        run(gridX, 1, 1, block, 1, 0);
    }

    /** Launches one dimension of blocks of one dimension. */
    void run(int gridX, int block, int sharedBytes) {
        run(gridX, 1, 1, block, 1, sharedBytes);
    }

    /** Launches three dimensions of blocks of one dimension. */
    void run(int gridX, int gridY, int gridZ, int block, int sharedBytes) {
        run(gridX, gridY, gridZ, block, 1, sharedBytes);
    }

    /** Launches. An empty grid is nothing to do. */
    void run(int gridX, int gridY, int gridZ, int blockX, int blockY, int sharedBytes) {
        CudaKernel k = current();
        kernel = null;
        if (count != k.signature().length()) {
            throw new IllegalStateException(k + " takes " + k.signature() + ", got " + count + " arguments");
        }
        if (gridX == 0 || gridY == 0 || gridZ == 0) {
            return;
        }
        long function = functions[k.ordinal()];
        if (sharedBytes > SHARED_WITHOUT_ASKING && sharedBytes > sharedAllowed[k.ordinal()]) {
            CudaDriver.allowSharedMemory(function, sharedBytes);
            sharedAllowed[k.ordinal()] = sharedBytes;
        }
        context.enter();
        CudaDriver.launch(function, gridX, gridY, gridZ, blockX, blockY, sharedBytes, stream, addresses.address());
    }

    @Override
    public void close() {
        List<Long> loaded = new ArrayList<>(modules.values());
        modules.clear();
        loaded.forEach(CudaDriver::unloadModule);
        arena.close();
    }
}
