package org.qlora4j.nf4.device.cpu;

import com.google.errorprone.annotations.MustBeClosed;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.qlora4j.bindings.OneDnn;
import org.qlora4j.nf4.device.CheckedOps;
import org.qlora4j.nf4.device.HostDevice;
import org.qlora4j.nf4.device.HostScopes;
import org.qlora4j.nf4.device.HostTransfers;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;

/** The processor: fp32 by oneDNN and the Vector API, frozen weights in NF4, FP4, BF16, F16 or F32. */
public final class CpuDevice implements HostDevice {
    private static final String NAME = "cpu";

    private final HostScopes scopes = new HostScopes(NAME, DType.F32);
    private final Scope tableScope;
    private final Workers workers;
    private final CheckedOps ops;

    /**
     * Opens the device.
     *
     * @param threads number of threads, the caller's included, at least 1; results depend on it in the last bits
     * @throws org.qlora4j.bindings.NativeException if oneDNN cannot be opened
     */
    // the scope of the tables is a field, closed with the device
    @SuppressWarnings("MustBeClosedChecker")
    public CpuDevice(int threads) {
        if (threads < 1 || threads > 1024) {
            throw new IllegalArgumentException("threads must be in 1 … 1024, got " + threads);
        }
        OneDnn.require();
        tableScope = scopes.newScope();
        QuantType[] types = QuantType.values();
        long[] tables = new long[types.length];
        for (QuantType type : types) {
            Tensor table = tableScope.newTensor(DType.F32, 1, 16);
            HostTransfers.upload(table, type.codebook().decodedValues(), 0);
            tables[type.ordinal()] = table.address();
        }
        workers = new Workers(threads);
        ops = new CheckedOps(new CpuOps(workers, Kernels.best(), scopes, tables), NAME, DType.F32, true);
    }

    @Override
    public String name() {
        return NAME;
    }

    @Override
    public String description() {
        return "cpu: " + workers.count() + (workers.count() == 1 ? " thread" : " threads") + ", "
                + String.join(" ", features()) + ", fp32, oneDNN " + OneDnn.version();
    }

    /** The instruction sets that matter here. */
    static List<String> features() {
        List<String> found = new ArrayList<>();
        try {
            Set<String> flags = new HashSet<>();
            for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"))) {
                if (line.startsWith("flags")) {
                    flags.addAll(Arrays.asList(
                            line.substring(line.indexOf(':') + 1).strip().split(" ")));
                    break;
                }
            }
            for (String flag : List.of("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")) {
                if (flags.contains(flag)) {
                    found.add(flag);
                }
            }
        } catch (IOException e) {
            found.add("unknown instruction sets (" + e.getMessage() + ")");
        }
        return found;
    }

    @Override
    public DType floatType() {
        return DType.F32;
    }

    @Override
    @MustBeClosed
    public Scope newScope() {
        return scopes.newScope();
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
    public void close() {
        workers.close();
        tableScope.close();
        scopes.close();
    }
}
