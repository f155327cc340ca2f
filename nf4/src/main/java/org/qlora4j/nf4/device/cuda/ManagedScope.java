package org.qlora4j.nf4.device.cuda;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.bindings.CudaBitsAndBytes;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.nf4.device.OutOfDeviceMemoryException;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Memory that the driver moves between GPU and host as it is used, as libbitsandbytes' paged optimizers have it; each
 * tensor starts as zeros. Where the driver cannot do that, ordinary memory of the GPU.
 */
final class ManagedScope implements Scope {
    private final String deviceName;
    private final DType floatType;
    private final long stream;
    private final boolean managed;
    private final List<Long> addresses = new ArrayList<>();
    private long bytes;
    private boolean open = true;

    /** @param managed false for ordinary memory of the GPU */
    ManagedScope(String deviceName, DType floatType, long stream, boolean managed) {
        this.deviceName = deviceName;
        this.floatType = floatType;
        this.stream = stream;
        this.managed = managed;
    }

    @Override
    public Tensor newTensor(DType dtype, int rows, int cols) {
        if (!open) {
            throw new IllegalStateException(
                    deviceName + ": cannot allocate [" + rows + ", " + cols + "], the scope is closed");
        }
        long size = Math.max(1, Math.multiplyExact((long) rows * cols, dtype.bytes()));
        long address = allocate(size);
        addresses.add(address);
        bytes += size;
        CudaDriver.fillBytes(address, 0, size, stream);
        CudaDriver.synchronize(stream);
        return new Tensor(this, dtype, rows, cols, cols, address);
    }

    private long allocate(long size) {
        try {
            return managed ? CudaBitsAndBytes.allocateManaged(size) : CudaDriver.allocate(size);
        } catch (OutOfMemoryError e) {
            OutOfDeviceMemoryException full = new OutOfDeviceMemoryException(deviceName, size, bytes);
            full.initCause(e);
            throw full;
        }
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
        return bytes;
    }

    @Override
    public String deviceName() {
        return deviceName;
    }

    @Override
    public boolean isOpen() {
        return open;
    }

    @Override
    public boolean isPaged() {
        return managed;
    }

    @Override
    public void close() {
        if (open) {
            open = false;
            CudaDriver.synchronize(stream);
            addresses.forEach(CudaDriver::free);
        }
    }
}
