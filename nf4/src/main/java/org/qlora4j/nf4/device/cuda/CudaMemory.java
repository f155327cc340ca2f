package org.qlora4j.nf4.device.cuda;

import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.nf4.device.MemorySource;

/** Memory of the current GPU, from the driver. */
final class CudaMemory implements MemorySource {
    @Override
    public Region allocate(long bytes) {
        long address = CudaDriver.allocate(bytes);
        return MemorySource.region(address, () -> CudaDriver.free(address));
    }
}
