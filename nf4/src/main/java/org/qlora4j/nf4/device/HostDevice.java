package org.qlora4j.nf4.device;

import com.google.errorprone.annotations.MustBeClosed;
import java.nio.file.Path;
import org.qlora4j.nf4.tensor.Tensor;

/** A device whose tensors lie in host memory: transfers are copies, the same for all of them. */
public interface HostDevice extends Device {
    @Override
    @MustBeClosed
    default Scope newPagedScope(Path folder) {
        return new PagedScope(name(), floatType(), folder);
    }

    @Override
    default void upload(Tensor dst, float[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    default void upload(Tensor dst, double[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    default void upload(Tensor dst, int[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    default void upload(Tensor dst, byte[] values, int offset) {
        HostTransfers.upload(dst, values, offset);
    }

    @Override
    default void download(Tensor src, float[] values, int offset) {
        HostTransfers.download(src, values, offset);
    }

    @Override
    default void download(Tensor src, double[] values, int offset) {
        HostTransfers.download(src, values, offset);
    }

    @Override
    default void download(Tensor src, int[] values, int offset) {
        HostTransfers.download(src, values, offset);
    }

    @Override
    default void download(Tensor src, byte[] values, int offset) {
        HostTransfers.download(src, values, offset);
    }
}
