package org.qlora4j.nf4.device.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.bindings.Nccl;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.device.ShapeException;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.DeviceCommunicator;
import org.qlora4j.nf4.parallel.DeviceCommunicator.Part;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** NCCL on the simulated GPU, by one rank with itself; several ranks are in the tests of samples. */
class NcclCommunicatorTest {
    private CudaDevice device;
    private Scope scope;
    private DeviceCommunicator joined;

    @BeforeEach
    void open() {
        CudaSimulator.install();
        device = new CudaDevice(0);
        scope = device.newScope();
        joined = device.join(Communicator.SINGLE).orElseThrow();
    }

    @AfterEach
    void close() {
        joined.close();
        scope.close();
        device.close();
    }

    private Tensor row(float... values) {
        Tensor row = scope.newPrecise(1, values.length);
        device.upload(row, values, 0);
        return row;
    }

    private float[] values(Tensor row) {
        float[] values = new float[row.cols()];
        device.download(row, values, 0);
        return values;
    }

    @Test
    void whatIsSentIsReceivedInOrder() {
        Tensor a = row(1, 2, 3);
        Tensor b = row(4, 5);
        Tensor out = row(0, 0, 0, 0, 0);
        joined.exchange(
                List.of(new Part(0, a.cols(1, 2)), new Part(0, a.cols(0, 0)), new Part(0, b)),
                List.of(new Part(0, out.cols(3, 2)), new Part(0, out.cols(0, 0)), new Part(0, out.cols(0, 2))));
        joined.sum(a);
        assertArrayEquals(new float[] {4, 5, 0, 2, 3}, values(out));
        assertArrayEquals(new float[] {1, 2, 3}, values(a));
    }

    /** NCCL would take each of these and end the process, hang, or write where nobody asked it to. */
    @Test
    void whatCannotBeExchangedIsRefusedBeforeNcclSeesIt() {
        Tensor good = row(1, 2);
        Tensor half = scope.newTensor(DType.BF16, 1, 2);
        assertThrows(ShapeException.class, () -> joined.sum(half));
        assertThrows(ShapeException.class, () -> joined.sum(scope.newPrecise(2, 2)));
        Tensor gone;
        try (Scope other = device.newScope()) {
            gone = other.newPrecise(1, 2);
        }
        List<Part> none = List.of();
        assertThrows(IllegalStateException.class, () -> joined.exchange(none, List.of(new Part(0, gone))));
        assertThrows(IllegalArgumentException.class, () -> joined.exchange(List.of(new Part(1, good)), none));
    }

    @Test
    void numbersAreProven() {
        byte[] id = Nccl.newId();
        assertEquals(Nccl.ID_BYTES, id.length);
        assertTrue(Nccl.version() > 20000);
        assertThrows(IllegalArgumentException.class, () -> Nccl.join(new byte[5], 0, 1));
        assertThrows(IllegalArgumentException.class, () -> Nccl.join(id, 1, 1));
        NativeException e = assertThrows(NativeException.class, () -> Nccl.join(new byte[Nccl.ID_BYTES], 0, 1));
        assertTrue(String.valueOf(e.getMessage()).contains("each rank needs a GPU of its own"), e.getMessage());
        Nccl nccl = Nccl.join(id, 0, 1);
        assertThrows(IllegalArgumentException.class, () -> nccl.sum(0, 1, device.stream()));
        assertThrows(IllegalArgumentException.class, () -> nccl.sum(6, 1, device.stream()));
        assertThrows(IllegalArgumentException.class, () -> nccl.sum(8, 0, device.stream()));
        assertThrows(IllegalArgumentException.class, () -> nccl.send(8, 1, 1, device.stream()));
        nccl.close();
        assertThrows(IllegalStateException.class, nccl::startGroup);
    }
}
