package org.qlora4j.nf4.device.reference;

import com.google.errorprone.annotations.MustBeClosed;
import org.qlora4j.nf4.device.CheckedOps;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.HostScopes;
import org.qlora4j.nf4.device.HostTransfers;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The device that defines what the others must compute: double precision, plain loops, one thread. New tensors are full
 * of NaN, so that reading undefined content shows. For tests and gradient checks; a hundred times slower than
 * {@code cpu}.
 */
public final class ReferenceDevice implements Device {
    private static final String NAME = "reference";

    private final HostScopes scopes = new HostScopes(NAME, DType.F64, Long.MAX_VALUE / 2, true);
    private final Ops ops = new CheckedOps(new ReferenceOps(), NAME, DType.F64, true);

    /** Opens the device. */
    public ReferenceDevice() {}

    @Override
    public String name() {
        return NAME;
    }

    @Override
    public String description() {
        return "reference: plain loops in double precision, 1 thread";
    }

    @Override
    public DType floatType() {
        return DType.F64;
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
    public void upload(Tensor dst, float[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    public void upload(Tensor dst, double[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    public void upload(Tensor dst, int[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    public void upload(Tensor dst, byte[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    public void download(Tensor src, float[] values, int offset) {
        HostTransfers.download(src, values, offset);
    }

    @Override
    public void download(Tensor src, double[] values, int offset) {
        HostTransfers.download(src, values, offset);
    }

    @Override
    public void download(Tensor src, byte[] values, int offset) {
        HostTransfers.download(src, values, offset);
    }

    @Override
    public void close() {
        scopes.close();
    }
}
