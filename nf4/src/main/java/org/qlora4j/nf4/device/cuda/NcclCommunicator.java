package org.qlora4j.nf4.device.cuda;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import org.qlora4j.bindings.CudaDriver;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.bindings.Nccl;
import org.qlora4j.nf4.device.ShapeException;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.DeviceCommunicator;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/** The GPUs of all ranks, joined by NCCL on the devices' streams. The ranks' MPI tells them how to find each other. */
final class NcclCommunicator implements DeviceCommunicator {
    private final String deviceName;
    private final CudaContext context;
    private final long stream;
    private final Nccl nccl;

    private NcclCommunicator(String deviceName, CudaContext context, long stream, Nccl nccl) {
        this.deviceName = deviceName;
        this.context = context;
        this.stream = stream;
        this.nccl = nccl;
    }

    /** @return nothing on all ranks, and why in the log, if any rank is not on a GPU or lacks the library */
    static Optional<DeviceCommunicator> join(Communicator ranks, String deviceName, CudaContext context, long stream) {
        String problem = "";
        try {
            Nccl.require();
        } catch (NativeException e) {
            problem = "rank " + ranks.rank() + ": " + e.getMessage();
        }
        for (byte[] theirs : ranks.allGather(problem.getBytes(StandardCharsets.UTF_8))) {
            if (theirs.length > 0) {
                if (ranks.isRoot()) {
                    System.getLogger(NcclCommunicator.class.getName())
                            .log(
                                    System.Logger.Level.WARNING,
                                    "gradients go through the hosts' memory: "
                                            + new String(theirs, StandardCharsets.UTF_8));
                }
                return Optional.empty();
            }
        }
        context.enter();
        byte[] id = ranks.broadcast(ranks.isRoot() ? Nccl.newId() : new byte[0]);
        return Optional.of(
                new NcclCommunicator(deviceName, context, stream, Nccl.join(id, ranks.rank(), ranks.size())));
    }

    @Override
    public void exchange(List<Part> send, List<Part> receive) {
        // all of them before the first call: a group that was begun cannot be taken back
        send.forEach(part -> check("send", part));
        receive.forEach(part -> check("receive", part));
        context.enter();
        nccl.startGroup();
        for (Part part : send) {
            if (part.tensor().numel() > 0) {
                nccl.send(part.tensor().address(), part.tensor().numel(), part.rank(), stream);
            }
        }
        for (Part part : receive) {
            if (part.tensor().numel() > 0) {
                nccl.receive(part.tensor().address(), part.tensor().numel(), part.rank(), stream);
            }
        }
        nccl.endGroup();
    }

    @Override
    public void sum(Tensor numbers) {
        check("sum", numbers);
        context.enter();
        nccl.sum(numbers.address(), numbers.numel(), stream);
    }

    private void check(String what, Part part) {
        if (part.rank() < 0 || part.rank() >= nccl.size()) {
            throw new IllegalArgumentException(
                    what + ": rank must be from 0 to " + (nccl.size() - 1) + ", got " + part.rank());
        }
        check(what, part.tensor());
    }

    /** NCCL reads and writes whatever it is told. */
    private void check(String what, Tensor t) {
        if (t.dtype() != DType.F32 || t.rows() != 1) {
            throw new ShapeException(what + ": one row of F32 is exchanged between GPUs, got " + t);
        }
        if (!t.memory().isOpen()) {
            throw new IllegalStateException(what + ": the scope of " + t + " is closed");
        }
        if (!t.memory().deviceName().equals(deviceName)) {
            throw new IllegalArgumentException(
                    what + ": " + t + " lies on " + t.memory().deviceName() + ", this is " + deviceName);
        }
    }

    @Override
    public void close() {
        context.enter();
        CudaDriver.synchronize(stream);
        nccl.close();
    }
}
