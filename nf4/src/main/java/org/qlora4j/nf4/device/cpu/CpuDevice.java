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
import org.qlora4j.bindings.BitsAndBytes;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.bindings.OneDnn;
import org.qlora4j.nf4.device.CheckedOps;
import org.qlora4j.nf4.device.HostDevice;
import org.qlora4j.nf4.device.HostTransfers;
import org.qlora4j.nf4.device.Nf4Kernels;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.QuantType;

/** The processor: fp32 by oneDNN and the Vector API, frozen weights in NF4, FP4, BF16, F16 or F32. */
public final class CpuDevice implements HostDevice {
    private static final String NAME = "cpu";

    private final PooledScopes scopes = new PooledScopes(NAME, DType.F32);
    private final Scope tableScope;
    private final Workers workers;
    private final CheckedOps ops;
    private final DType computeType;
    private final boolean byLibrary;

    /** Opens the device; products in fp32. */
    public CpuDevice(int threads) {
        this(threads, DType.F32, Nf4Kernels.AUTO);
    }

    /**
     * Opens the device.
     *
     * @param threads number of threads, the caller's included, at least 1; results depend on it in the last bits
     * @param computeType what the operands of products with frozen weights are rounded to, F32 or BF16; sums and
     *     results are fp32, and products of one or two rows use fp32 operands
     * @param nf4Kernels who decodes 4-bit weights; the bits are the same
     * @throws IllegalArgumentException if BF16 is asked for and {@link #hasBf16} is false
     * @throws org.qlora4j.bindings.NativeException if oneDNN, or libbitsandbytes if it was asked for, cannot be opened
     */
    // the scope of the tables is a field, closed with the device
    @SuppressWarnings("MustBeClosedChecker")
    public CpuDevice(int threads, DType computeType, Nf4Kernels nf4Kernels) {
        if (threads < 1 || threads > 1024) {
            throw new IllegalArgumentException("threads must be in 1 … 1024, got " + threads);
        }
        OneDnn.require();
        if (computeType != DType.F32 && !(computeType == DType.BF16 && hasBf16())) {
            throw new IllegalArgumentException("this CPU computes in float32" + (hasBf16() ? " or bfloat16" : "")
                    + ", not in " + computeType.torchName());
        }
        this.computeType = computeType;
        Kernels kernels = Kernels.best();
        byLibrary = decodedByLibrary(nf4Kernels, kernels);
        tableScope = scopes.newScope();
        QuantType[] types = QuantType.values();
        long[] tables = new long[types.length];
        for (QuantType type : types) {
            Tensor table = tableScope.newTensor(DType.F32, 1, 16);
            HostTransfers.upload(table, type.codebook().decodedValues(), 0);
            tables[type.ordinal()] = table.address();
        }
        workers = new Workers(threads);
        ops = new CheckedOps(
                new CpuOps(workers, kernels, scopes, tables, byLibrary, computeType == DType.BF16),
                NAME,
                DType.F32,
                true);
    }

    private static boolean decodedByLibrary(Nf4Kernels chosen, Kernels kernels) {
        boolean wanted = chosen == Nf4Kernels.BITSANDBYTES;
        if (!wanted && (chosen == Nf4Kernels.VECTOR || !(kernels instanceof ScalarKernels))) {
            return false;
        }
        try {
            BitsAndBytes.require();
            return true;
        } catch (NativeException e) {
            if (wanted) {
                throw e;
            }
            return false;
        }
    }

    @Override
    public String name() {
        return NAME;
    }

    @Override
    public String description() {
        return "cpu: " + workers.count() + (workers.count() == 1 ? " thread" : " threads") + ", "
                + String.join(" ", features()) + ", " + (Kernels.best() instanceof ScalarKernels ? "scalar" : "vector")
                + " loops" + (byLibrary ? ", 4-bit weights decoded by libbitsandbytes" : "") + ", products in "
                + computeType.torchName() + ", oneDNN " + OneDnn.version();
    }

    /** True if products can be computed in bf16: AVX-512 bf16 or AMX. */
    public static boolean hasBf16() {
        return OneDnn.hasBf16Gemm();
    }

    /**
     * True if products in bf16 are likely to be faster than in fp32. On an Intel Xeon whose AMX a virtual machine
     * hides, AVX-512 bf16 had half the speed of fp32 (oneDNN, one core of model 207: 85 and 167 GFLOP/s), so Intel's
     * CPUs are asked for AMX, which has not been measured; another machine with AVX-512 bf16 trained 1.4 times as fast
     * in it.
     */
    public static boolean gainsByBf16() {
        try {
            return hasBf16()
                    && (!cpuInfo("vendor_id").equals("GenuineIntel")
                            || features().contains("amx_bf16"));
        } catch (IOException e) {
            return false;
        }
    }

    /** The first value of a key in /proc/cpuinfo; empty if it has none. */
    private static String cpuInfo(String key) throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"))) {
            if (line.startsWith(key)) {
                return line.substring(line.indexOf(':') + 1).strip();
            }
        }
        return "";
    }

    /** The instruction sets that matter here. */
    static List<String> features() {
        List<String> found = new ArrayList<>();
        try {
            Set<String> flags = new HashSet<>(Arrays.asList(cpuInfo("flags").split(" ")));
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
    public DType computeType() {
        return computeType;
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
