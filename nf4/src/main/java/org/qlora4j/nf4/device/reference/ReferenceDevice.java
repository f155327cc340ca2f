package org.qlora4j.nf4.device.reference;

import com.google.errorprone.annotations.MustBeClosed;
import org.qlora4j.nf4.device.CheckedOps;
import org.qlora4j.nf4.device.HostDevice;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.PooledScopes;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;

/**
 * The device that defines what the others must compute: double precision, plain loops, one thread. New tensors are full
 * of NaN, so that reading undefined content shows. For tests and gradient checks; a hundred times slower than
 * {@code cpu}.
 */
public final class ReferenceDevice implements HostDevice {
    private static final String NAME = "reference";

    private final DType floatType;
    private final PooledScopes scopes;
    private final Ops ops;

    /** Opens the device; all tensors in double. */
    public ReferenceDevice() {
        this(DType.F64);
    }

    /**
     * Opens the device.
     *
     * @param floatType what every operation rounds its results to, the arithmetic itself is in double: BF16 shows what
     *     a GPU's number format costs, without its order of sums
     */
    public ReferenceDevice(DType floatType) {
        this.floatType = floatType;
        scopes = new PooledScopes(NAME, floatType, Long.MAX_VALUE / 2, true);
        ops = new CheckedOps(new ReferenceOps(), NAME, floatType, true);
    }

    @Override
    public String name() {
        return NAME;
    }

    @Override
    public String description() {
        return "reference: plain loops in double precision, 1 thread"
                + (floatType == DType.F64 ? "" : ", results in " + floatType.torchName());
    }

    @Override
    public DType floatType() {
        return floatType;
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
