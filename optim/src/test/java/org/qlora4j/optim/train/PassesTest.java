package org.qlora4j.optim.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.errorprone.annotations.MustBeClosed;
import java.lang.foreign.MemorySegment;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.nf4.parallel.Communicator.Reduction;
import org.qlora4j.nf4.parallel.DeviceCommunicator;
import org.qlora4j.nf4.parallel.DeviceCommunicator.Part;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.optim.TinyModel;

/** Dividing passes among ranks, and the sum that does not depend on it. */
class PassesTest {
    @BeforeAll
    static void fetch() {
        TinyModel.openDevice().close();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 5, 8, 13, 16, 24})
    void theRanksNodesCoverAllPassesOnce(int count) {
        for (int ranks = 1; ranks <= 20; ranks++) {
            Passes passes = new Passes(count, ranks);
            int next = 0;
            for (int r = 0; r < ranks; r++) {
                assertEquals(next, passes.from(r));
                for (Passes.Node node : passes.nodes(r)) {
                    assertEquals(next, node.from());
                    assertEquals(0, node.from() % node.size(), "aligned");
                    next += node.size();
                }
                assertEquals(next, passes.to(r));
            }
            assertEquals(count, next);
        }
    }

    /** Gradients whose sum depends on its order: the tree written down as one expression, on every number of ranks. */
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4, 5, 7})
    void theSumIsTheTreesOnAnyNumberOfRanks(int ranks) throws Exception {
        float[][] one = gradients(7);
        float[] expected = new float[one[0].length];
        boolean orderMatters = false;
        for (int i = 0; i < expected.length; i++) {
            expected[i] = one[0][i] + one[1][i] + (one[2][i] + one[3][i]) + (one[4][i] + one[5][i] + one[6][i]);
            float inOrder = 0;
            for (float[] g : one) {
                inOrder += g[i];
            }
            orderMatters |= inOrder != expected[i];
        }
        assertEquals(true, orderMatters, "the test sees no difference between orders");
        for (boolean onDevices : new boolean[] {false, true}) {
            for (float[] sum : sums(one, ranks, onDevices)) {
                assertArrayEquals(expected, sum, "on devices: " + onDevices);
            }
        }
    }

    @Test
    void moreRanksThanPassesAgreeToo() throws Exception {
        float[][] one = gradients(2);
        float[] expected = new float[one[0].length];
        for (int i = 0; i < expected.length; i++) {
            expected[i] = one[0][i] + one[1][i];
        }
        for (boolean onDevices : new boolean[] {false, true}) {
            for (float[] sum : sums(one, 5, onDevices)) {
                assertArrayEquals(expected, sum, "on devices: " + onDevices);
            }
        }
    }

    private static float[][] gradients(int passes) {
        SplittableRandom random = new SplittableRandom(3);
        float[][] gradients = new float[passes][];
        try (Device device = Devices.open("cpu", 1);
                Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7)) {
            for (int p = 0; p < passes; p++) {
                gradients[p] = new float[adapter.parameters().gradients().cols()];
                for (int i = 0; i < gradients[p].length; i++) {
                    gradients[p][i] = (float) random.nextGaussian();
                }
            }
        }
        return gradients;
    }

    /** What each rank has in the end; the ranks are threads. */
    private static List<float[]> sums(float[][] one, int ranks, boolean onDevices) throws Exception {
        Threads threads = new Threads(ranks);
        try (ExecutorService pool = Executors.newFixedThreadPool(ranks)) {
            List<Future<float[]>> futures = new ArrayList<>();
            for (int r = 0; r < ranks; r++) {
                int rank = r;
                futures.add(pool.submit(() -> sum(
                        one,
                        new Passes(one.length, ranks),
                        threads.rank(rank),
                        onDevices ? threads.joined(rank) : null)));
            }
            List<float[]> sums = new ArrayList<>();
            for (Future<float[]> future : futures) {
                sums.add(future.get());
            }
            return sums;
        }
    }

    /** The CPU, with what a GPU has: a way to the other ranks' tensors. */
    @MustBeClosed
    private static Device open(@Nullable DeviceCommunicator joined) {
        Device cpu = Devices.open("cpu", 1);
        return joined == null
                ? cpu
                : (Device) Proxy.newProxyInstance(
                        Device.class.getClassLoader(),
                        new Class<?>[] {Device.class},
                        (proxy, method, arguments) ->
                                method.getName().equals("join") ? Optional.of(joined) : method.invoke(cpu, arguments));
    }

    private static float[] sum(
            float[][] one, Passes passes, Communicator communicator, @Nullable DeviceCommunicator joined) {
        try (Device device = open(joined);
                Transformer model = TinyModel.load(device);
                LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                GradientSum sum = new GradientSum(adapter, communicator, Reduction.TREE)) {
            Tensor gradients = adapter.parameters().gradients();
            for (int twice = 0; twice < 2; twice++) {
                sum.start();
                int to = passes.to(communicator.rank());
                for (int p = passes.from(communicator.rank()); p < to; p++) {
                    device.upload(gradients, one[p], 0);
                    sum.add(p, p == to - 1);
                }
                sum.finish(passes);
            }
            float[] host = new float[gradients.cols()];
            device.download(gradients, host, 0);
            return host;
        }
    }

    /** Ranks that are threads of this process. */
    private static final class Threads {
        private final CyclicBarrier barrier;
        private final MemorySegment[] sent;
        private final int[][] words;
        private final byte[][] gathered;
        private final List<List<Part>> parts;

        Threads(int ranks) {
            barrier = new CyclicBarrier(ranks);
            sent = new MemorySegment[ranks];
            words = new int[ranks][];
            gathered = new byte[ranks][];
            parts = new ArrayList<>(Collections.nCopies(ranks, List.of()));
        }

        private void await() {
            try {
                barrier.await();
            } catch (InterruptedException | java.util.concurrent.BrokenBarrierException e) {
                throw new IllegalStateException(e);
            }
        }

        private static long before(int[] words, int rank) {
            long sum = 0;
            for (int r = 0; r < rank; r++) {
                sum += words[r];
            }
            return 4 * sum;
        }

        /** Tensors of the CPU, exchanged where they lie. */
        DeviceCommunicator joined(int rank) {
            return new DeviceCommunicator() {
                @Override
                public void exchange(List<Part> send, List<Part> receive) {
                    parts.set(rank, send);
                    await();
                    for (int r = 0; r < sent.length; r++) {
                        int from = r;
                        List<Part> theirs = parts.get(r).stream()
                                .filter(part -> part.rank() == rank)
                                .toList();
                        List<Part> mine = receive.stream()
                                .filter(part -> part.rank() == from)
                                .toList();
                        assertEquals(theirs.size(), mine.size());
                        for (int i = 0; i < mine.size(); i++) {
                            Tensor out = theirs.get(i).tensor();
                            Tensor in = mine.get(i).tensor();
                            assertEquals(out.numel(), in.numel());
                            MemorySegment.copy(
                                    HostMemory.ALL, out.address(), HostMemory.ALL, in.address(), 4 * in.numel());
                        }
                    }
                    await();
                }

                @Override
                public void sum(Tensor numbers) {
                    throw new UnsupportedOperationException();
                }

                @Override
                public void close() {}
            };
        }

        Communicator rank(int rank) {
            return new Communicator() {
                @Override
                public int rank() {
                    return rank;
                }

                @Override
                public int size() {
                    return sent.length;
                }

                @Override
                public int localRank() {
                    return rank;
                }

                @Override
                public byte[] broadcast(byte[] bytes) {
                    throw new UnsupportedOperationException();
                }

                @Override
                public byte[][] allGather(byte[] bytes) {
                    gathered[rank] = bytes;
                    await();
                    byte[][] all = gathered.clone();
                    await();
                    return all;
                }

                @Override
                public void exchange(MemorySegment send, int[] sendWords, MemorySegment receive, int[] receiveWords) {
                    sent[rank] = send;
                    words[rank] = sendWords;
                    await();
                    for (int r = 0; r < sent.length; r++) {
                        assertEquals(words[r][rank], receiveWords[r]);
                        long at = before(words[r], rank);
                        MemorySegment.copy(sent[r], at, receive, before(receiveWords, r), 4L * receiveWords[r]);
                    }
                    await();
                }

                @Override
                public void collect(MemorySegment mine, MemorySegment all, int[] counts) {
                    sent[rank] = mine;
                    await();
                    for (int r = 0; r < sent.length; r++) {
                        MemorySegment.copy(sent[r], 0, all, before(counts, r), 4L * counts[r]);
                    }
                    await();
                }

                @Override
                public void sum(MemorySegment numbers, int bytes) {
                    throw new UnsupportedOperationException();
                }

                @Override
                public void abort(int status) {
                    throw new UnsupportedOperationException();
                }

                @Override
                public void close() {}
            };
        }
    }
}
