package org.qlora4j.optim.train;

import java.nio.ByteBuffer;
import org.qlora4j.lora.model.TokenLosses;
import org.qlora4j.nf4.parallel.Communicator;

/**
 * What the passes of a step or an evaluation gave: each rank fills in its own, then all get all, so that sums run over
 * the passes in their order whatever rank they were on.
 */
final class PassResults {
    private final double[] losses;
    private final long[] correct;
    private boolean cutShort;

    PassResults(int passes) {
        losses = new double[passes];
        correct = new long[passes];
    }

    void set(int pass, TokenLosses result) {
        losses[pass] = result.sum();
        correct[pass] = result.correct();
    }

    /** This rank was asked to stop before it had done its passes. */
    void cutShort() {
        cutShort = true;
    }

    /** Whether any rank was; after {@link #share}. */
    boolean isCutShort() {
        return cutShort;
    }

    /** All ranks exchange what they have. */
    void share(Communicator communicator, Passes passes) {
        if (communicator.size() == 1) {
            return;
        }
        int from = passes.from(communicator.rank());
        int to = passes.to(communicator.rank());
        ByteBuffer mine = ByteBuffer.allocate(1 + (to - from) * 16);
        mine.put((byte) (cutShort ? 1 : 0));
        for (int i = from; i < to; i++) {
            mine.putDouble(losses[i]).putLong(correct[i]);
        }
        byte[][] all = communicator.allGather(mine.array());
        for (int r = 0; r < all.length; r++) {
            ByteBuffer theirs = ByteBuffer.wrap(all[r]);
            cutShort |= theirs.get() != 0;
            for (int i = passes.from(r); i < passes.to(r); i++) {
                losses[i] = theirs.getDouble();
                correct[i] = theirs.getLong();
            }
        }
    }

    double loss() {
        double sum = 0;
        for (double loss : losses) {
            sum += loss;
        }
        return sum;
    }

    long correct() {
        long sum = 0;
        for (long count : correct) {
            sum += count;
        }
        return sum;
    }
}
