package org.qlora4j.samples.bench;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.HostDevice;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** A device that notes how long each of its operations takes, and how many multiply-adds the products are. */
public final class ProfiledDevice {
    private final Device device;
    private final Map<String, Entry> entries = new LinkedHashMap<>();
    private long started = System.nanoTime();

    private static final class Entry {
        private int calls;
        private long nanos;
        private double flops;
    }

    public ProfiledDevice(Device measured) {
        Ops ops = (Ops) Proxy.newProxyInstance(
                Ops.class.getClassLoader(),
                new Class<?>[] {Ops.class},
                (proxy, method, args) -> timed(measured.ops(), method, args));
        Class<?> type = measured instanceof HostDevice ? HostDevice.class : Device.class;
        device = (Device) Proxy.newProxyInstance(
                Device.class.getClassLoader(),
                new Class<?>[] {type},
                (proxy, method, args) -> method.getName().equals("ops") ? ops : call(measured, method, args));
    }

    /** What the model is loaded on. */
    public Device device() {
        return device;
    }

    /** Forgets all that was measured. */
    public void reset() {
        entries.clear();
        started = System.nanoTime();
    }

    private Object timed(Ops ops, Method method, Object[] args) throws Throwable {
        String name = method.getName();
        double flops = 0;
        if (name.equals("matmul")) {
            Tensor out = (Tensor) args[0];
            boolean frozen = args[2] instanceof Weight;
            long inner;
            if (args[2] instanceof Weight w) {
                inner = (boolean) args[3] ? w.cols() : w.rows();
                name += (boolean) args[3] ? " x·Wᵀ" : " dy·W";
            } else {
                Tensor a = (Tensor) args[1];
                inner = (boolean) args[2] ? a.rows() : a.cols();
                name = lora((boolean) args[2], (boolean) args[4], out, inner);
            }
            name += frozen && out.cols() > 16384 || frozen && inner > 16384 ? " (head)" : "";
            flops = 2.0 * out.rows() * out.cols() * inner;
        }
        long start = System.nanoTime();
        Object result = call(ops, method, args);
        Entry entry = entries.computeIfAbsent(name, n -> new Entry());
        entry.calls++;
        entry.nanos += System.nanoTime() - start;
        entry.flops += flops;
        return result;
    }

    /** Which of LoRA's products this is: told apart by what is transposed and by where the rank stands. */
    private static String lora(boolean transA, boolean transB, Tensor out, long inner) {
        if (transA) {
            return out.cols() < out.rows() ? "LoRA dB += dyᵀ·u" : "LoRA dA += duᵀ·x";
        }
        if (transB) {
            return out.cols() < inner ? "LoRA u = x·Aᵀ" : "LoRA y += u·Bᵀ";
        }
        return out.cols() < inner ? "LoRA du = dy·B" : "LoRA dx += du·A";
    }

    private static @Nullable Object call(Object target, Method method, Object @Nullable [] args) throws Throwable {
        try {
            return method.invoke(target, args);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    /** What happened since the last {@link #reset}: a line for each operation, the longest first. */
    public String table() {
        double seconds = (System.nanoTime() - started) / 1e9;
        StringBuilder out = new StringBuilder("| operation | calls | s | share | GFLOP/s |\n|---|---|---|---|---|\n");
        double sum = 0;
        for (Map.Entry<String, Entry> e : entries.entrySet().stream()
                .sorted(Comparator.comparingLong(x -> -x.getValue().nanos))
                .toList()) {
            Entry v = e.getValue();
            double s = v.nanos / 1e9;
            sum += s;
            out.append(String.format(
                    Locale.ROOT,
                    "| %s | %d | %.3f | %.1f %% | %s |%n",
                    e.getKey(),
                    v.calls,
                    s,
                    100 * s / seconds,
                    v.flops == 0 ? "" : String.format(Locale.ROOT, "%.0f", v.flops / v.nanos)));
        }
        return out.append(String.format(
                        Locale.ROOT, "| all else | | %.3f | %.1f %% | |%n", seconds - sum, 100 * (1 - sum / seconds)))
                .toString();
    }
}
