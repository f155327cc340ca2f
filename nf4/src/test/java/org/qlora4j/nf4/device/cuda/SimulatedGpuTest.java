package org.qlora4j.nf4.device.cuda;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.qlora4j.bindings.CudaBitsAndBytes;
import org.qlora4j.bindings.CudaBitsAndBytes.FourBit;
import org.qlora4j.bindings.CudaBitsAndBytes.Scales;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.bindings.NativeException;

/**
 * The simulated GPU finds the mistakes it is there for: streams do not wait for each other but where they must, copies
 * are late, and the driver refuses what NVIDIA's refuses. What ends the process is in {@link CrashTest}.
 */
class SimulatedGpuTest {
    private static final int INVALID_VALUE = 1;
    private static final int INVALID_CONTEXT = 201;
    private static final int INVALID_HANDLE = 400;
    private static final int NOT_FOUND = 500;

    private TestGpu gpu;
    private long x;
    private long host;

    @BeforeEach
    void open() {
        gpu = new TestGpu();
        x = gpu.upload(1);
        host = gpu.pinned(4);
    }

    @AfterEach
    void close() {
        gpu.close();
    }

    private float host() {
        return HostMemory.ALL.get(JAVA_FLOAT_UNALIGNED, host);
    }

    private void host(float value) {
        HostMemory.ALL.set(JAVA_FLOAT_UNALIGNED, host, value);
    }

    /** Bytes that make a float: 0x3F3F3F3F and so on. */
    private static float repeated(int value) {
        return Float.intBitsToFloat(value * 0x01010101);
    }

    private void fill(int value, long stream) {
        CudaDriver.fillBytes(x, value, 4, stream);
    }

    /** What a stream sees of x. */
    private float seenBy(long stream) {
        CudaDriver.copyToHost(host, x, 4, stream);
        CudaDriver.synchronize(stream);
        return host();
    }

    @Test
    void aBufferThatIsReusedTooEarlyIsFoundOut() {
        host(5);
        CudaDriver.copyToDevice(x, host, 4, gpu.stream);
        host(6);
        CudaDriver.synchronize(gpu.stream);
        assertEquals(6, seenBy(gpu.stream));
    }

    @Test
    void aCopyToTheHostIsNotThereBeforeItIsWaitedFor() {
        host(5);
        CudaDriver.copyToHost(host, x, 4, gpu.stream);
        assertTrue(Float.isNaN(host()));
        CudaDriver.synchronize(gpu.stream);
        assertEquals(1, host());
    }

    @Test
    void aMissingEventBetweenTwoStreamsIsFoundOut() {
        for (int flags : new int[] {0, CudaDriver.NON_BLOCKING}) {
            long other = CudaDriver.newStream(flags);
            fill(3, gpu.stream);
            assertEquals(1, seenBy(other), "the other stream must not have waited");
            CudaDriver.synchronize(gpu.stream);
            fill(4, gpu.stream);
            long event = CudaDriver.newEvent();
            CudaDriver.record(event, gpu.stream);
            // behind the event: the other stream does not wait for this
            fill(5, gpu.stream);
            CudaDriver.waitFor(other, event);
            assertEquals(repeated(4), seenBy(other));
            host(1);
            CudaDriver.copyToDevice(x, host, 4, gpu.stream);
            CudaDriver.synchronize(gpu.stream);
            CudaDriver.destroyEvent(event);
            CudaDriver.destroyStream(other);
        }
    }

    @Test
    void theHostWaitsForAnEventAndNotForWhatIsBehindIt() {
        fill(3, gpu.stream);
        CudaDriver.copyToHost(host, x, 4, gpu.stream);
        long event = CudaDriver.newEvent();
        CudaDriver.record(event, gpu.stream);
        long later = gpu.pinned(4);
        CudaDriver.copyToHost(later, x, 4, gpu.stream);
        CudaDriver.synchronizeEvent(event);
        assertEquals(repeated(3), host());
        assertTrue(Float.isNaN(HostMemory.ALL.get(JAVA_FLOAT_UNALIGNED, later)));
        CudaDriver.destroyEvent(event);
    }

    @Test
    void theLegacyStreamOrdersAgainstBlockingStreamsBothWays() {
        fill(3, gpu.stream);
        fill(4, 0);
        assertEquals(repeated(4), seenBy(gpu.stream));
        fill(5, gpu.stream);
        assertEquals(repeated(5), seenBy(0));
    }

    @Test
    void theLegacyStreamDoesNotOrderAgainstOthers() {
        long other = CudaDriver.newStream(CudaDriver.NON_BLOCKING);
        fill(3, 0);
        assertEquals(1, seenBy(other));
        fill(4, other);
        assertEquals(repeated(3), seenBy(0));
        CudaDriver.synchronize(other);
        CudaDriver.destroyStream(other);
    }

    private static void refused(int code, Executable call) {
        assertEquals(code, assertThrows(NativeException.class, call).code());
    }

    @Test
    void unknownAndFreedHandlesAreRefused() {
        long address = CudaDriver.allocate(64);
        CudaDriver.free(address);
        refused(INVALID_VALUE, () -> CudaDriver.free(address));
        long stream = CudaDriver.newStream(0);
        CudaDriver.destroyStream(stream);
        refused(INVALID_HANDLE, () -> fill(1, stream));
        refused(INVALID_HANDLE, () -> CudaDriver.synchronize(stream));
        refused(INVALID_HANDLE, () -> CudaDriver.destroyStream(stream));
        long event = CudaDriver.newEvent();
        CudaDriver.destroyEvent(event);
        refused(INVALID_HANDLE, () -> CudaDriver.record(event, gpu.stream));
        long module = CudaDriver.loadModule("any image".getBytes(UTF_8));
        refused(NOT_FOUND, () -> CudaDriver.function(module, "no_such_kernel"));
        CudaDriver.unloadModule(module);
    }

    @Test
    void sharedMemoryOfMoreThan48KibIsToBeAskedFor() {
        long module = CudaDriver.loadModule("any image".getBytes(UTF_8));
        long fill = CudaDriver.function(module, "rms_norm_backward");
        refused(INVALID_VALUE, () -> CudaDriver.launch(fill, 1, 1, 1, 32, 1, (48 << 10) + 1, gpu.stream, host));
        refused(INVALID_VALUE, () -> CudaDriver.allowSharedMemory(fill, 1 << 20));
        CudaDriver.unloadModule(module);
    }

    @Test
    void aThreadWithoutTheContextIsRefused() throws InterruptedException {
        AtomicReference<Throwable> thrown = new AtomicReference<>();
        Thread.ofPlatform()
                .start(() -> thrown.set(assertThrows(NativeException.class, () -> CudaDriver.allocate(64))))
                .join();
        assertEquals(INVALID_CONTEXT, ((NativeException) thrown.get()).code());
    }

    @Test
    void memoryIsCountedAndEnds() {
        int before = CudaSimulator.allocations();
        long address = CudaDriver.allocate(3 << 20);
        assertEquals(before + 1, CudaSimulator.allocations());
        CudaSimulator.setMemory(4);
        try {
            assertThrows(OutOfMemoryError.class, () -> CudaDriver.allocate(3 << 20));
            CudaDriver.free(address);
            CudaDriver.free(CudaDriver.allocate(3 << 20));
        } finally {
            CudaSimulator.setMemory(0);
        }
        assertEquals(before, CudaSimulator.allocations());
    }

    /** Paged state: the two functions of libbitsandbytes that launch nothing. */
    @Test
    void managedMemoryIsTheHostsOnceAllWorkIsDone() {
        long bytes = 4096;
        long managed = CudaBitsAndBytes.allocateManaged(bytes);
        // attached to the host: 2
        assertEquals("cudaMallocManaged %d flags 2".formatted(bytes), CudaSimulator.lastLaunch());
        CudaBitsAndBytes.prefetch(managed, bytes, 0);
        assertEquals(
                "cudaMemPrefetchAsync 0x%x bytes %d location 1 0 flags 0 stream 0x0".formatted(managed, bytes),
                CudaSimulator.lastLaunch());
        CudaDriver.fillBytes(managed, 7, bytes, gpu.stream);
        CudaDriver.synchronize(gpu.stream);
        CudaDriver.synchronize(0);
        assertEquals(repeated(7), HostMemory.ALL.get(JAVA_FLOAT_UNALIGNED, managed + bytes - 4));
        HostMemory.ALL.set(JAVA_FLOAT_UNALIGNED, managed, 2);
        assertArrayEquals(new float[] {2, repeated(7)}, gpu.floats(managed, 2));
        CudaDriver.free(managed);
    }

    /**
     * The fused product does not look for errors: the library's next call would end the process over one. Errors are a
     * thread's own, so this one has a thread of its own.
     */
    @Test
    void anErrorThatIsPendingIsAnExceptionAndNotTheEnd() throws InterruptedException {
        byte[] bytes = new byte[256];
        long a = gpu.upload(bytes);
        long b = gpu.upload(bytes);
        long gone = CudaDriver.newStream(0);
        CudaDriver.destroyStream(gone);
        AtomicReference<NativeException> first = new AtomicReference<>();
        AtomicReference<NativeException> second = new AtomicReference<>();
        Thread.ofPlatform()
                .start(() -> {
                    first.set(assertThrows(
                            NativeException.class,
                            () -> CudaBitsAndBytes.gemm4Bit(
                                    FourBit.NF4, a, b, new Scales.Plain(a), b, 1, 1, 64, 64, gone)));
                    second.set(assertThrows(
                            NativeException.class, () -> CudaBitsAndBytes.quantize4Bit(FourBit.NF4, a, b, b, 64, 64)));
                })
                .join();
        assertEquals(INVALID_HANDLE, first.get().code());
        assertEquals(INVALID_HANDLE, second.get().code());
    }
}
