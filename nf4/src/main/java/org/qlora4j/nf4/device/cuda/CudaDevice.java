package org.qlora4j.nf4.device.cuda;

import com.google.errorprone.annotations.MustBeClosed;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Optional;
import org.qlora4j.bindings.CuBlas;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.CudaNatives;
import org.qlora4j.nf4.device.CheckedOps;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.HostTransfers;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.DeviceCommunicator;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * An NVIDIA GPU: activations in bf16, sums and parameters in fp32; products by cuBLAS, 4-bit products of few rows and
 * optimizer steps by libbitsandbytes, everything else by kernels of this project that NVRTC compiles for the card.
 *
 * <p>All work goes to one stream, in order; the host waits for it only when it downloads. The stream is a blocking one,
 * so that libbitsandbytes' functions without a stream order against it.
 */
public final class CudaDevice implements Device {
    /** NVIDIA's advice for cuBLAS from compute capability 9.0 on, and before. */
    private static final long WORKSPACE_HOPPER = 32L << 20;

    private static final long WORKSPACE = 4L << 20;

    /** The oldest architecture with bf16 products. */
    private static final int OLDEST = 80;

    private final String name;
    private final int ordinal;
    private final int device;
    private final int architecture;
    private final String description;
    private final CudaContext context;
    private final long stream;
    private final PooledScopes scopes;
    private final CudaTransfers transfers;
    private final CheckedOps ops;
    private final boolean concurrentManagedAccess;
    private final Deque<AutoCloseable> parts = new ArrayDeque<>();

    /**
     * Opens a GPU.
     *
     * @param ordinal among those that CUDA_VISIBLE_DEVICES leaves
     * @throws org.qlora4j.bindings.NativeException if the driver or a library is missing, or the GPU is too old; the
     *     message says what was tried
     */
    @SuppressWarnings("MustBeClosedChecker") // what is opened here is closed with this
    public CudaDevice(int ordinal) {
        this.ordinal = ordinal;
        name = "cuda:" + ordinal;
        CudaDriver.initialize();
        int count = CudaDriver.deviceCount();
        if (ordinal < 0 || ordinal >= count) {
            throw new IllegalArgumentException("device " + name + ": this machine has " + count
                    + (count == 1 ? " GPU, cuda:0" : " GPUs, from cuda:0 on"));
        }
        CudaNatives natives = CudaNatives.require();
        device = CudaDriver.device(ordinal);
        architecture = 10 * CudaDriver.attribute(device, CudaDriver.COMPUTE_CAPABILITY_MAJOR)
                + CudaDriver.attribute(device, CudaDriver.COMPUTE_CAPABILITY_MINOR);
        if (architecture < OLDEST) {
            throw new IllegalArgumentException("device " + name + ": " + CudaDriver.name(device)
                    + " has compute capability " + architecture / 10.0 + "; bfloat16 needs 8.0 or newer");
        }
        concurrentManagedAccess = CudaDriver.attribute(device, CudaDriver.CONCURRENT_MANAGED_ACCESS) != 0;
        description = "%s: %s, compute capability %.1f, %.1f GB, CUDA %d.%d, bfloat16, libbitsandbytes %s"
                .formatted(
                        name,
                        CudaDriver.name(device),
                        architecture / 10.0,
                        CudaDriver.totalMemory(device) / 1e9,
                        natives.runtimeVersion() / 1000,
                        natives.runtimeVersion() % 1000 / 10,
                        natives.libraries().getLast().file());
        try {
            context = closedWithThis(new CudaContext(device));
            context.enter();
            long opened = CudaDriver.newStream(0);
            closedWithThis(() -> CudaDriver.destroyStream(opened));
            stream = opened;
            scopes = closedWithThis(new PooledScopes(name, DType.BF16, new CudaMemory()));
            transfers = closedWithThis(new CudaTransfers(name, stream));
            long workspace = CudaDriver.allocate(workspaceBytes());
            closedWithThis(() -> CudaDriver.free(workspace));
            CuBlas blas = closedWithThis(new CuBlas(stream, workspace, workspaceBytes()));
            Launcher launcher = closedWithThis(new Launcher(architecture, context, stream));
            launcher.loadAll();
            CudaOps cuda = closedWithThis(new CudaOps(this, context, scopes, launcher, blas));
            ops = new CheckedOps(cuda, name, DType.BF16, false);
        } catch (RuntimeException | Error e) {
            closeParts();
            throw e;
        }
    }

    private <T extends AutoCloseable> T closedWithThis(T part) {
        parts.push(part);
        return part;
    }

    private long workspaceBytes() {
        return architecture >= 90 ? WORKSPACE_HOPPER : WORKSPACE;
    }

    int multiprocessors() {
        return CudaDriver.attribute(device, CudaDriver.MULTIPROCESSOR_COUNT);
    }

    long stream() {
        return stream;
    }

    /** Ordinal in libbitsandbytes' eyes. */
    int ordinal() {
        return ordinal;
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public String description() {
        return description;
    }

    @Override
    public DType floatType() {
        return DType.BF16;
    }

    @Override
    @MustBeClosed
    public Scope newScope() {
        context.enter();
        return scopes.newScope();
    }

    /** In managed memory, where the GPU can have it; else in ordinary memory of the GPU. */
    @Override
    @MustBeClosed
    @SuppressWarnings("MustBeClosedChecker")
    public Scope newPagedScope(Path folder) {
        context.enter();
        if (!concurrentManagedAccess) {
            System.getLogger(CudaDevice.class.getName())
                    .log(
                            System.Logger.Level.WARNING,
                            name + ": this driver cannot page memory between GPU and host (concurrentManagedAccess is"
                                    + " 0); the optimizer's state stays on the GPU");
        }
        return new ManagedScope(name, DType.BF16, stream, concurrentManagedAccess);
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
    public void upload(Tensor dst, float[] values, int offset) {
        context.enter();
        transfers.upload(dst, offset, values.length, (host, from) -> HostTransfers.upload(host, values, from));
    }

    @Override
    public void upload(Tensor dst, double[] values, int offset) {
        context.enter();
        transfers.upload(dst, offset, values.length, (host, from) -> HostTransfers.upload(host, values, from));
    }

    @Override
    public void upload(Tensor dst, int[] values, int offset) {
        context.enter();
        transfers.upload(dst, offset, values.length, (host, from) -> HostTransfers.upload(host, values, from));
    }

    @Override
    public void upload(Tensor dst, byte[] values, int offset) {
        context.enter();
        Tensor bytes = CudaTransfers.bytes(dst);
        transfers.upload(bytes, offset, values.length, (host, from) -> HostTransfers.upload(host, values, from));
    }

    @Override
    public void download(Tensor src, float[] values, int offset) {
        context.enter();
        transfers.download(src, offset, values.length, (host, to) -> HostTransfers.download(host, values, to));
    }

    @Override
    public void download(Tensor src, double[] values, int offset) {
        context.enter();
        transfers.download(src, offset, values.length, (host, to) -> HostTransfers.download(host, values, to));
    }

    @Override
    public void download(Tensor src, int[] values, int offset) {
        context.enter();
        transfers.download(src, offset, values.length, (host, to) -> HostTransfers.download(host, values, to));
    }

    @Override
    public void download(Tensor src, byte[] values, int offset) {
        context.enter();
        Tensor bytes = CudaTransfers.bytes(src);
        transfers.download(bytes, offset, values.length, (host, to) -> HostTransfers.download(host, values, to));
    }

    @Override
    public Optional<DeviceCommunicator> join(Communicator ranks) {
        return NcclCommunicator.join(ranks, name, context, stream);
    }

    @Override
    public void close() {
        context.enter();
        CudaDriver.synchronize(stream);
        closeParts();
    }

    /** The last opened first. */
    private void closeParts() {
        while (!parts.isEmpty()) {
            try {
                parts.pop().close();
            } catch (RuntimeException e) {
                throw e;
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }
    }
}
