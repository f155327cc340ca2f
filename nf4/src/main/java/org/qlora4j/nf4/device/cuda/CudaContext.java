package org.qlora4j.nf4.device.cuda;

import org.qlora4j.bindings.CudaDriver;

/**
 * The primary context of a GPU. CUDA keeps the current context by operating system thread, so every entry into the
 * device makes it current first: some 40 ns, against a thread of its own that every call would have to be handed to
 * (some 10 µs, with 7,000 calls in a step). A virtual thread cannot change its carrier between that and the native
 * call.
 */
final class CudaContext implements AutoCloseable {
    private final int device;
    private final long context;

    CudaContext(int device) {
        this.device = device;
        this.context = CudaDriver.retainContext(device);
    }

    void enter() {
        CudaDriver.setCurrent(context);
    }

    @Override
    public void close() {
        CudaDriver.setCurrent(0);
        CudaDriver.releaseContext(device);
    }
}
