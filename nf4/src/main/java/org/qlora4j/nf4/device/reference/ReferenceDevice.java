package org.qlora4j.nf4.device.reference;

import com.google.errorprone.annotations.MustBeClosed;
import org.qlora4j.nf4.device.CheckedOps;
import org.qlora4j.nf4.device.HostDevice;
import org.qlora4j.nf4.device.HostScopes;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;

/**
 * The device that defines what the others must compute: double precision, plain loops, one thread. New tensors are full
 * of NaN, so that reading undefined content shows. For tests and gradient checks; a hundred times slower than
 * {@code cpu}.
 */
public final class ReferenceDevice implements HostDevice {
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
    public void close() {
        scopes.close();
    }
}
