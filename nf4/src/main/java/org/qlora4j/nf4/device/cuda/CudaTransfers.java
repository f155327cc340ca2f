package org.qlora4j.nf4.device.cuda;

import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.nf4.device.HostTransfers;
import org.qlora4j.nf4.device.ShapeException;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Memory;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Copies between Java arrays and device memory through two page-locked buffers: while the device reads one, the host
 * converts into the other. Conversions are those of {@link HostTransfers}.
 */
final class CudaTransfers implements AutoCloseable {
    /** 8 MiB: 0.3 ms of a PCIe 4 link, long against the 10 µs a copy takes to start. */
    private static final int BUFFER = 8 << 20;

    /** A piece of a tensor in a page-locked buffer. */
    private record HostPiece(String deviceName) implements Memory {
        @Override
        public boolean isOpen() {
            return true;
        }
    }

    /** {@link HostTransfers} for one kind of array. */
    interface Conversion {
        void run(Tensor host, int offset);
    }

    private final HostPiece memory;
    private final long stream;
    private final long[] buffers = new long[2];
    private final long[] events = new long[2];
    private int next;

    CudaTransfers(String deviceName, long stream) {
        this.memory = new HostPiece(deviceName);
        this.stream = stream;
        for (int i = 0; i < buffers.length; i++) {
            buffers[i] = CudaDriver.allocateHost(BUFFER);
            events[i] = CudaDriver.newEvent();
            CudaDriver.record(events[i], stream);
        }
    }

    /** @param conversion fills a host piece from the array, from an offset */
    void upload(Tensor dst, int offset, int arrayLength, Conversion conversion) {
        check("upload", dst, offset, arrayLength);
        forPieces(dst, (piece, done) -> {
            int buffer = next;
            next = 1 - next;
            CudaDriver.synchronizeEvent(events[buffer]);
            Tensor host = host(piece, buffer);
            conversion.run(host, offset + done);
            if (piece.isContiguous()) {
                CudaDriver.copyToDevice(piece.address(), host.address(), host.spanBytes(), stream);
            } else {
                CudaDriver.copyRowsToDevice(
                        piece.address(), pitch(piece), host.address(), pitch(host), pitch(host), piece.rows(), stream);
            }
            CudaDriver.record(events[buffer], stream);
        });
    }

    /** @param conversion fills the array, from an offset, from a host piece */
    void download(Tensor src, int offset, int arrayLength, Conversion conversion) {
        check("download", src, offset, arrayLength);
        forPieces(src, (piece, done) -> {
            int buffer = next;
            next = 1 - next;
            CudaDriver.synchronizeEvent(events[buffer]);
            Tensor host = host(piece, buffer);
            if (piece.isContiguous()) {
                CudaDriver.copyToHost(host.address(), piece.address(), host.spanBytes(), stream);
            } else {
                CudaDriver.copyRowsToHost(
                        host.address(), pitch(host), piece.address(), pitch(piece), pitch(host), piece.rows(), stream);
            }
            CudaDriver.synchronize(stream);
            conversion.run(host, offset + done);
        });
    }

    /** The bytes of a tensor as a tensor of bytes. */
    static Tensor bytes(Tensor t) {
        int size = t.dtype().bytes();
        return new Tensor(
                t.memory(),
                DType.U8,
                t.rows(),
                Math.multiplyExact(t.cols(), size),
                Math.multiplyExact(t.stride(), size),
                t.address());
    }

    private static long pitch(Tensor piece) {
        return (long) piece.stride() * piece.dtype().bytes();
    }

    private Tensor host(Tensor piece, int buffer) {
        return new Tensor(memory, piece.dtype(), piece.rows(), piece.cols(), piece.cols(), buffers[buffer]);
    }

    private interface Piece {
        void run(Tensor piece, int done);
    }

    /** Whole rows as far as the buffer reaches; a row that is longer than the buffer in parts. */
    private static void forPieces(Tensor t, Piece action) {
        if (t.numel() == 0) {
            return;
        }
        int bytes = t.dtype().bytes();
        int cols = Math.min(t.cols(), BUFFER / bytes);
        int rows = Math.max(1, BUFFER / bytes / cols);
        for (int r = 0; r < t.rows(); r += rows) {
            int n = cols < t.cols() ? 1 : Math.min(rows, t.rows() - r);
            Tensor band = t.rows(r, n);
            for (int c = 0; c < t.cols(); c += cols) {
                action.run(band.cols(c, Math.min(cols, t.cols() - c)), r * t.cols() + c);
            }
        }
    }

    private static void check(String what, Tensor t, int offset, int arrayLength) {
        if (!t.memory().isOpen()) {
            throw new IllegalStateException(what + ": the scope of " + t + " is closed");
        }
        if (t.numel() > Integer.MAX_VALUE) {
            throw new ShapeException(what + ": " + t + " has more elements than an array can hold");
        }
        if (offset < 0 || t.numel() > arrayLength - (long) offset) {
            throw new IndexOutOfBoundsException(what + ": " + t + " needs " + t.numel() + " array elements from "
                    + offset + ", the array has " + arrayLength);
        }
    }

    @Override
    public void close() {
        CudaDriver.synchronize(stream);
        for (int i = 0; i < buffers.length; i++) {
            CudaDriver.destroyEvent(events[i]);
            CudaDriver.freeHost(buffers[i]);
        }
    }
}
