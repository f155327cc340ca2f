package org.qlora4j.optim.train;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;
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
    static final int PIECE = 1 << 20;

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
    /** Between GPUs; null where gradients go through the host's memory. */
    private final @Nullable DeviceSum onDevices;

    @SuppressWarnings("MustBeClosedChecker") // the scope is a field, closed with this
    GradientSum(LoraAdapter adapter, Communicator communicator, Reduction reduction) {
        this.device = adapter.model().device();
        this.gradients = adapter.parameters().gradients();
        this.communicator = communicator;
        this.reduction = reduction;
        this.scope = device.newScope();
        this.onDevices = areAlike(device, communicator)
                ? device.join(communicator)
                        .map(joined -> new DeviceSum(device, scope, gradients, communicator, joined, reduction))
                        .orElse(null)
                : null;
        boolean throughHost = communicator.size() > 1 && onDevices == null;
        this.host = new byte[throughHost ? Math.min(PIECE, gradients.cols()) * bytes() : 0];
    }

    /** Whether there are several ranks, on devices of one kind; GPUs cannot join with a CPU. */
    private static boolean areAlike(Device device, Communicator ranks) {
        byte[] kind = device.name().replaceFirst(":.*", "").getBytes(StandardCharsets.UTF_8);
        return ranks.size() > 1 && Arrays.stream(ranks.allGather(kind)).allMatch(theirs -> Arrays.equals(kind, theirs));
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
        if (onDevices != null) {
            onDevices.finish(passes, mine());
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

    /** What this rank has of the tree: the last one lies in the gradient buffer. */
    private List<Tensor> mine() {
        List<Tensor> mine = new ArrayList<>(buffers.subList(0, Math.max(0, nodes.size() - 1)));
        if (!nodes.isEmpty()) {
            mine.add(gradients);
        }
        return mine;
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
        List<Passes.Node> all = passes.nodes();
        List<Tensor> blocks = mine();
        int mine = slice(count, communicator.rank() + 1) - slice(count, communicator.rank());
        int words = bytes() / 4;
        for (int r = 0; r < ranks; r++) {
            slice[r] = (slice(count, r + 1) - slice(count, r)) * words;
            sendWords[r] = Math.multiplyExact(slice[r], nodes.size());
            receiveWords[r] = Math.multiplyExact(mine * words, passes.nodes(r).size());
        }
        sent = room(sent, (long) count * bytes() * Math.max(1, nodes.size()));
        received = room(received, Math.max((long) all.size() * mine, count) * bytes());
        for (int k = 0; k < nodes.size(); k++) {
            device.download(blocks.get(k).cols(from, count), host, 0);
            for (int r = 0; r < ranks; r++) {
                int first = slice(count, r);
                int length = slice[r] * 4;
                long at = (long) first * bytes() * nodes.size() + (long) k * length;
                MemorySegment.copy(host, first * bytes(), sent, JAVA_BYTE, at, length);
            }
        }
        communicator.exchange(sent, sendWords, received, receiveWords);
        long sum = passes.sum(all, (to, other) -> addReceived(to, other, mine));
        MemorySegment.copy(received, sum * mine * bytes(), sent, 0, (long) mine * bytes());
        communicator.collect(sent, received, slice);
        MemorySegment.copy(received, JAVA_BYTE, 0, host, 0, count * bytes());
        device.upload(gradients.cols(from, count), host, 0);
    }

    private int slice(int count, int rank) {
        return Passes.start(count, rank, communicator.size());
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
        if (onDevices != null) {
            onDevices.close();
        }
        scope.close();
        arena.close();
    }
}
