package org.qlora4j.optim.train;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.Communicator.Reduction;
import org.qlora4j.nf4.parallel.DeviceCommunicator;
import org.qlora4j.nf4.parallel.DeviceCommunicator.Part;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * What {@link GradientSum} does across ranks, on GPUs that reach each other: each adds up a slice of the buffer for
 * all, by the same tree and with the same roundings as on the host, and gives it to the others.
 */
final class DeviceSum implements AutoCloseable {
    private final Device device;
    private final Scope scope;
    private final Tensor gradients;
    private final Communicator ranks;
    private final DeviceCommunicator joined;
    private final Reduction reduction;
    /** [blocks of all ranks, this rank's slice of a piece] */
    private @Nullable Tensor received;

    private final List<Part> send = new ArrayList<>();
    private final List<Part> receive = new ArrayList<>();

    DeviceSum(
            Device device,
            Scope scope,
            Tensor gradients,
            Communicator ranks,
            DeviceCommunicator joined,
            Reduction reduction) {
        this.device = device;
        this.scope = scope;
        this.gradients = gradients;
        this.ranks = ranks;
        this.joined = joined;
        this.reduction = reduction;
    }

    /** @param mine this rank's blocks of the tree; the sum goes to the gradient buffer */
    void finish(Passes passes, List<Tensor> mine) {
        if (reduction == Reduction.FAST) {
            joined.sum(gradients);
            return;
        }
        List<Passes.Node> all = passes.nodes();
        for (int from = 0; from < gradients.cols(); from += GradientSum.PIECE) {
            int count = Math.min(GradientSum.PIECE, gradients.cols() - from);
            Tensor blocks = collect(passes, mine, all.size(), from, count);
            int sum = passes.sum(all, (to, other) -> device.ops().add(blocks.rows(to, 1), blocks.rows(other, 1), 1));
            spread(blocks.rows(sum, 1), from, count);
        }
    }

    /** This rank's slice of every block. */
    private Tensor collect(Passes passes, List<Tensor> mine, int blocks, int from, int count) {
        int most = slice(GradientSum.PIECE, 1) + 1;
        Tensor room = received;
        if (room == null || room.rows() < blocks) {
            room = scope.newPrecise(blocks, Math.min(most, gradients.cols()));
            received = room;
        }
        Tensor slices = room.cols(0, length(count, ranks.rank()));
        send.clear();
        receive.clear();
        int at = 0;
        for (int r = 0; r < ranks.size(); r++) {
            for (Tensor block : mine) {
                send.add(new Part(r, block.cols(from + slice(count, r), length(count, r))));
            }
            for (int k = passes.nodes(r).size(); k > 0; k--) {
                receive.add(new Part(r, slices.rows(at++, 1)));
            }
        }
        joined.exchange(send, receive);
        return slices;
    }

    /** Every rank's slice of the sum to every rank. */
    private void spread(Tensor sum, int from, int count) {
        send.clear();
        receive.clear();
        for (int r = 0; r < ranks.size(); r++) {
            send.add(new Part(r, sum));
            receive.add(new Part(r, gradients.cols(from + slice(count, r), length(count, r))));
        }
        joined.exchange(send, receive);
    }

    private int slice(int count, int rank) {
        return Passes.start(count, rank, ranks.size());
    }

    private int length(int count, int rank) {
        return slice(count, rank + 1) - slice(count, rank);
    }

    @Override
    public void close() {
        joined.close();
    }
}
