package org.qlora4j.nf4.device.cuda;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.HostMemory;

/** The GPU's context on this thread, a stream, and arrays in its memory; all of it freed on close. */
final class TestGpu implements AutoCloseable {
    private final long context;
    private final List<Long> allocated = new ArrayList<>();
    private final List<Long> pinned = new ArrayList<>();

    /** Blocking, as the device's compute stream. */
    final long stream;

    TestGpu() {
        CudaSimulator.installUnlessReal();
        CudaDriver.initialize();
        context = CudaDriver.retainContext(CudaDriver.device(0));
        CudaDriver.setCurrent(context);
        stream = CudaDriver.newStream(0);
    }

    /** Device memory, every byte 0xFF. */
    long allocate(long bytes) {
        long address = CudaDriver.allocate(bytes);
        allocated.add(address);
        return address;
    }

    /** Page-locked host memory. */
    long pinned(long bytes) {
        long address = CudaDriver.allocateHost(bytes);
        pinned.add(address);
        return address;
    }

    long upload(float... values) {
        return upload(values, values.length);
    }

    /** @param room elements to allocate, the ones behind the values undefined */
    long upload(float[] values, int room) {
        long host = pinned(4L * values.length);
        for (int i = 0; i < values.length; i++) {
            HostMemory.ALL.set(JAVA_FLOAT_UNALIGNED, host + 4L * i, values[i]);
        }
        return copied(host, 4L * values.length, 4L * room);
    }

    long upload(byte[] values) {
        long host = pinned(values.length);
        for (int i = 0; i < values.length; i++) {
            HostMemory.ALL.set(JAVA_BYTE, host + i, values[i]);
        }
        return copied(host, values.length, values.length);
    }

    private long copied(long host, long bytes, long room) {
        long device = allocate(room);
        CudaDriver.copyToDevice(device, host, bytes, stream);
        CudaDriver.synchronize(stream);
        return device;
    }

    float[] floats(long device, int n) {
        long host = downloaded(device, 4L * n);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = HostMemory.ALL.get(JAVA_FLOAT_UNALIGNED, host + 4L * i);
        }
        return values;
    }

    /** bf16 values. */
    float[] bf16(long device, int n) {
        byte[] bytes = bytes(device, 2 * n);
        float[] values = new float[n];
        for (int i = 0; i < n; i++) {
            values[i] = Float.intBitsToFloat((bytes[2 * i] & 0xFF | bytes[2 * i + 1] << 8) << 16);
        }
        return values;
    }

    byte[] bytes(long device, int n) {
        long host = downloaded(device, n);
        byte[] values = new byte[n];
        for (int i = 0; i < n; i++) {
            values[i] = HostMemory.ALL.get(JAVA_BYTE, host + i);
        }
        return values;
    }

    private long downloaded(long device, long bytes) {
        long host = pinned(bytes);
        CudaDriver.copyToHost(host, device, bytes, stream);
        CudaDriver.synchronize(stream);
        return host;
    }

    @Override
    public void close() {
        allocated.forEach(CudaDriver::free);
        pinned.forEach(CudaDriver::freeHost);
        CudaDriver.destroyStream(stream);
        CudaDriver.setCurrent(0);
        CudaDriver.releaseContext(CudaDriver.device(0));
    }
}
