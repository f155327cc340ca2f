package org.qlora4j.optim.train;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.Communicator.Reduction;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Sums the gradients of a step's passes, on this rank and over all: afterwards the flat gradient buffer of every rank
 * holds the same sum. With {@link Reduction#TREE} by the tree of {@link Passes}: each rank adds up a slice of the
 * buffer for all, so that every rank sends and receives about twice the buffer, as in a ring.
 */
final class GradientSum implements AutoCloseable {
    /** Numbers that are exchanged at once. */
    private static final int PIECE = 1 << 20;

    private final Device device;
    private final Tensor gradients;
    private final Communicator communicator;
    private final Reduction reduction;
    private final Scope scope;
    private final Arena arena = Arena.ofShared();
    private final List<Tensor> buffers = new ArrayList<>();
    private final List<Passes.Node> nodes = new ArrayList<>();
    private MemorySegment sent = MemorySegment.NULL;
    private MemorySegment received = MemorySegment.NULL;
    private final byte[] host;

    @SuppressWarnings("MustBeClosedChecker") // the scope is a field, closed with this
    GradientSum(LoraAdapter adapter, Communicator communicator, Reduction reduction) {
        this.device = adapter.model().device();
        this.gradients = adapter.parameters().gradients();
        this.communicator = communicator;
        this.reduction = reduction;
        this.scope = device.newScope();
        this.host = new byte[communicator.size() == 1 ? 0 : Math.min(PIECE, gradients.cols()) * bytes()];
    }

    void start() {
        nodes.clear();
        device.ops().fill(gradients, 0);
    }

    /** A pass has added its gradients. @param last whether it is this rank's last one */
    void add(int pass, boolean last) {
        if (reduction == Reduction.FAST) {
            return;
        }
        Passes.Node node = new Passes.Node(pass, 1);
        while (!nodes.isEmpty() && nodes.getLast().isLeftOf(node)) {
            Passes.Node left = nodes.removeLast();
            device.ops().add(gradients, buffers.get(nodes.size()), 1);
            node = left.with(node);
        }
        if (!last) {
            if (buffers.size() == nodes.size()) {
                buffers.add(scope.newPrecise(1, gradients.cols()));
            }
            device.ops().copy(buffers.get(nodes.size()), gradients);
            device.ops().fill(gradients, 0);
        }
        nodes.add(node);
    }

    /** All ranks have added their passes. */
    void finish(Passes passes) {
        if (communicator.size() == 1) {
            // the blocks are those of the binary digits of the count: from right to left, as the tree has it
            for (int i = nodes.size() - 2; i >= 0; i--) {
                device.ops().add(gradients, buffers.get(i), 1);
            }
            return;
        }
        for (int from = 0; from < gradients.cols(); from += PIECE) {
            int count = Math.min(PIECE, gradients.cols() - from);
            if (reduction == Reduction.FAST) {
                sum(from, count);
            } else {
                sumByTree(passes, from, count);
            }
        }
    }

    private int bytes() {
        return gradients.dtype().bytes();
    }

    private void sum(int from, int count) {
        int length = count * bytes();
        sent = room(sent, length);
        device.download(gradients.cols(from, count), host, 0);
        MemorySegment numbers = sent.asSlice(0, length);
        MemorySegment.copy(host, 0, numbers, JAVA_BYTE, 0, length);
        communicator.sum(numbers, bytes());
        MemorySegment.copy(numbers, JAVA_BYTE, 0, host, 0, length);
        device.upload(gradients.cols(from, count), host, 0);
    }

    private void sumByTree(Passes passes, int from, int count) {
        int ranks = communicator.size();
        int[] slice = new int[ranks];
        int[] sendWords = new int[ranks];
        int[] receiveWords = new int[ranks];
        List<Passes.Node> all = new ArrayList<>();
        int mine = (int) slice(count, communicator.rank() + 1) - (int) slice(count, communicator.rank());
        int words = bytes() / 4;
        for (int r = 0; r < ranks; r++) {
            slice[r] = (int) (slice(count, r + 1) - slice(count, r)) * words;
            sendWords[r] = Math.multiplyExact(slice[r], nodes.size());
            List<Passes.Node> theirs = passes.nodes(r);
            receiveWords[r] = Math.multiplyExact(mine * words, theirs.size());
            all.addAll(theirs);
        }
        sent = room(sent, (long) count * bytes() * Math.max(1, nodes.size()));
        received = room(received, Math.max((long) all.size() * mine, count) * bytes());
        for (int k = 0; k < nodes.size(); k++) {
            Tensor node = k == nodes.size() - 1 ? gradients : buffers.get(k);
            device.download(node.cols(from, count), host, 0);
            for (int r = 0; r < ranks; r++) {
                long first = slice(count, r);
                int length = slice[r] * 4;
                long at = first * bytes() * nodes.size() + (long) k * length;
                MemorySegment.copy(host, (int) first * bytes(), sent, JAVA_BYTE, at, length);
            }
        }
        communicator.exchange(sent, sendWords, received, receiveWords);
        long sum = sum(all, 0, Integer.highestOneBit(Math.max(1, 2 * passes.count() - 1)), mine);
        MemorySegment.copy(received, sum * mine * bytes(), sent, 0, (long) mine * bytes());
        communicator.collect(sent, received, slice);
        MemorySegment.copy(received, JAVA_BYTE, 0, host, 0, count * bytes());
        device.upload(gradients.cols(from, count), host, 0);
    }

    private long slice(int count, int rank) {
        return (long) count * rank / communicator.size();
    }

    /**
     * Adds up a block of the tree.
     *
     * @param all the blocks that were received, in their order
     * @return which of them holds the sum now; -1 if the block has no pass
     */
    private int sum(List<Passes.Node> all, int from, int size, int count) {
        int index = all.indexOf(new Passes.Node(from, size));
        if (index >= 0 || size == 1) {
            return index;
        }
        int left = sum(all, from, size / 2, count);
        int right = sum(all, from + size / 2, size / 2, count);
        if (left >= 0 && right >= 0) {
            addReceived(left, right, count);
        }
        return left >= 0 ? left : right;
    }

    /** {@code to += from} of received slices: one rounding each, as the device adds. */
    private void addReceived(int to, int from, int count) {
        long y = (long) to * count * bytes();
        long x = (long) from * count * bytes();
        if (gradients.dtype() == DType.F64) {
            for (long i = 0; i < 8L * count; i += 8) {
                double sum = received.get(JAVA_DOUBLE_UNALIGNED, y + i) + received.get(JAVA_DOUBLE_UNALIGNED, x + i);
                received.set(JAVA_DOUBLE_UNALIGNED, y + i, sum);
            }
        } else {
            for (long i = 0; i < 4L * count; i += 4) {
                float sum = received.get(JAVA_FLOAT_UNALIGNED, y + i) + received.get(JAVA_FLOAT_UNALIGNED, x + i);
                received.set(JAVA_FLOAT_UNALIGNED, y + i, sum);
            }
        }
    }

    private MemorySegment room(MemorySegment present, long bytes) {
        return present.byteSize() >= bytes ? present : arena.allocate(bytes, 8);
    }

    @Override
    public void close() {
        scope.close();
        arena.close();
    }
}
