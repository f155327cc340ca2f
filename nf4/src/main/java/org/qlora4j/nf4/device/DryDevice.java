package org.qlora4j.nf4.device;

import com.google.errorprone.annotations.MustBeClosed;
import java.lang.reflect.Array;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * A device without memory and arithmetic: a model's own code runs on it in milliseconds, and what it would hold is
 * counted by the rules of {@link PooledScopes}. Downloads leave the host's arrays as they are, results are 0.
 */
public final class DryDevice implements Device {
    /** Owner of the buffers that products with frozen weights take. */
    public static final String PRODUCTS = "products";
    /** Owner of the buffers that attention takes. */
    public static final String ATTENTION = "attention";
    /** Owner of tensors in paged scopes, which count for no other sum. */
    public static final String PAGED = "paged";

    /** Frames between the code that wants a tensor and the scope that makes it. */
    private static final Set<String> BETWEEN = Set.of("Step");

    /** The buffers a device's kernels take during an operation: they are allocated in the given scopes. */
    public interface Scratch {
        /** What the device keeps from its start on. */
        void tables(Scope scope);

        /**
         * For {@link Ops#matmul(Tensor, Tensor, Weight, boolean, double)}.
         *
         * @param inner opened within the other one
         */
        void product(Scope scope, Scope inner, Tensor x, Weight w, boolean transW);

        /** For {@link Ops#attention}. */
        void attention(Scope scope, AttentionShape shape);

        /** For {@link Ops#attentionBackward}. */
        void attentionBackward(Scope scope, AttentionShape shape);
    }

    private final String name;
    private final DType floatType;
    private final PooledScopes scopes;
    private final PooledScopes paged;
    private final Scratch scratch;
    private final Ops ops;
    private final Scope tables;
    private final Map<String, Long> live = new HashMap<>();
    private final Map<String, Long> peaks = new HashMap<>();

    /** @param floatType of the device it stands for */
    public DryDevice(String name, DType floatType, Scratch scratch) {
        this.name = name;
        this.floatType = floatType;
        this.scratch = scratch;
        scopes = PooledScopes.dry(name, floatType);
        paged = PooledScopes.dry(name, floatType);
        // a proxy, not a class: whatever the operation, there is nothing to do but to take its buffers
        Ops dry = (Ops) Proxy.newProxyInstance(
                Ops.class.getClassLoader(), new Class<?>[] {Ops.class}, (proxy, method, arguments) -> {
                    takeBuffers(method.getName(), arguments);
                    return zero(method.getReturnType());
                });
        ops = new CheckedOps(dry, name, floatType, false);
        tables = new OwnedScope("tables");
        scratch.tables(tables);
    }

    private static @Nullable Object zero(Class<?> type) {
        // an array's elements start as zeros, whatever their type
        return type == void.class ? null : Array.get(Array.newInstance(type, 1), 0);
    }

    private void takeBuffers(String operation, Object[] arguments) {
        boolean product = operation.equals("matmul") && arguments[2] instanceof Weight;
        String owner = product ? PRODUCTS : ATTENTION;
        try (Scope buffers = new OwnedScope(owner);
                Scope inner = new OwnedScope(owner)) {
            if (product) {
                scratch.product(buffers, inner, (Tensor) arguments[1], (Weight) arguments[2], (Boolean) arguments[3]);
            } else if (operation.equals("attention")) {
                scratch.attention(buffers, (AttentionShape) arguments[5]);
            } else if (operation.equals("attentionBackward")) {
                scratch.attentionBackward(buffers, (AttentionShape) arguments[9]);
            }
        }
    }

    /** Bytes in open scopes now, by the simple name of the class that asked for them. */
    public Map<String, Long> bytesByOwner() {
        return Map.copyOf(live);
    }

    /** The most each class held at any time; not all at the same time. */
    public Map<String, Long> peakBytesByOwner() {
        return Map.copyOf(peaks);
    }

    /** A scope that knows who holds how much. */
    private final class OwnedScope implements Scope {
        private final @Nullable String fixedOwner;
        private final Map<String, Long> mine = new HashMap<>();
        private final Scope scope;

        @SuppressWarnings("MustBeClosedChecker") // closed with this one
        OwnedScope(@Nullable String fixedOwner) {
            this.fixedOwner = fixedOwner;
            this.scope = PAGED.equals(fixedOwner) ? paged.newScope() : scopes.newScope();
        }

        @Override
        public Tensor newTensor(DType dtype, int rows, int cols) {
            long before = scope.bytes();
            Tensor t = scope.newTensor(dtype, rows, cols);
            long bytes = scope.bytes() - before;
            String owner = fixedOwner == null ? caller() : fixedOwner;
            mine.merge(owner, bytes, Long::sum);
            long now = live.merge(owner, bytes, Long::sum);
            peaks.merge(owner, now, Math::max);
            return t;
        }

        @Override
        public Tensor newTensor(int rows, int cols) {
            return newTensor(floatType, rows, cols);
        }

        @Override
        public Tensor newPrecise(int rows, int cols) {
            return newTensor(floatType.precise(), rows, cols);
        }

        @Override
        public long bytes() {
            return scope.bytes();
        }

        @Override
        public String deviceName() {
            return scope.deviceName();
        }

        @Override
        public boolean isOpen() {
            return scope.isOpen();
        }

        @Override
        public void close() {
            if (isOpen()) {
                mine.forEach((owner, bytes) -> live.merge(owner, -bytes, Long::sum));
                scope.close();
            }
        }
    }

    private static String caller() {
        return StackWalker.getInstance()
                .walk(frames -> frames.map(f -> {
                            String c = f.getClassName();
                            String simple = c.substring(c.lastIndexOf('.') + 1);
                            return c.startsWith(DryDevice.class.getPackageName()) || BETWEEN.contains(simple)
                                    ? ""
                                    : simple;
                        })
                        .filter(c -> !c.isEmpty())
                        .findFirst()
                        .orElse(""));
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public String description() {
        return name + ": counts memory, computes nothing";
    }

    @Override
    public DType floatType() {
        return floatType;
    }

    @Override
    @MustBeClosed
    public Scope newScope() {
        return new OwnedScope(null);
    }

    @Override
    @MustBeClosed
    public Scope newPagedScope(Path folder) {
        return new OwnedScope(PAGED);
    }

    @Override
    public Ops ops() {
        return ops;
    }

    @Override
    public long bytesHeld() {
        return scopes.bytesHeld();
    }

    @Override
    public long peakBytes() {
        return scopes.peakBytes();
    }

    @Override
    public void upload(Tensor dst, float[] values, int offset) {}

    @Override
    public void upload(Tensor dst, double[] values, int offset) {}

    @Override
    public void upload(Tensor dst, int[] values, int offset) {}

    @Override
    public void upload(Tensor dst, byte[] values, int offset) {}

    @Override
    public void download(Tensor src, float[] values, int offset) {}

    @Override
    public void download(Tensor src, double[] values, int offset) {}

    @Override
    public void download(Tensor src, int[] values, int offset) {}

    @Override
    public void download(Tensor src, byte[] values, int offset) {}

    @Override
    public void close() {
        tables.close();
        scopes.close();
        paged.close();
    }
}
