package org.qlora4j.optim.train;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.qlora4j.lora.data.LengthGrouping;
import org.qlora4j.lora.data.Permutation;
import org.qlora4j.nf4.device.Dropout;

/**
 * Which samples the passes of each optimizer step take: a function of seed and step alone, so that a resumed run sees
 * what it would have seen.
 */
final class DataOrder {
    private final TrainingConfig.Steps config;
    private final long seed;
    private final int samples;
    private final int[] lengths;
    private int epoch = -1;
    private int[] order = {};

    /** @param lengths tokens of each sample */
    DataOrder(TrainingConfig.Steps config, long seed, int[] lengths) {
        this.config = config;
        this.seed = seed;
        this.samples = lengths.length;
        this.lengths = lengths.clone();
    }

    int stepsPerEpoch() {
        return config.perEpoch(samples);
    }

    int totalSteps() {
        return config.total(samples);
    }

    /** Numbers of the samples of each pass; the last pass of an epoch may have fewer, its last step fewer passes. */
    List<int[]> passes(int step) {
        int perEpoch = stepsPerEpoch();
        turnTo(step / perEpoch);
        List<int[]> passes = new ArrayList<>();
        for (int i = 0; i < config.gradientAccumulationSteps(); i++) {
            int from = (step % perEpoch * config.gradientAccumulationSteps() + i) * config.trainBatchSize();
            int to = Math.min(samples, from + config.trainBatchSize());
            if (from < to) {
                int[] pass = new int[to - from];
                System.arraycopy(order, from, pass, 0, pass.length);
                passes.add(pass);
            }
        }
        return passes;
    }

    private void turnTo(int next) {
        if (epoch == next) {
            return;
        }
        epoch = next;
        SplittableRandom random = new SplittableRandom(Dropout.mix(seed, ~epoch));
        if (config.groupByLength()) {
            int batch = Math.multiplyExact(config.trainBatchSize(), config.gradientAccumulationSteps());
            order = LengthGrouping.order(lengths, batch, random);
        } else if (config.shuffle()) {
            order = Permutation.of(samples, random);
        } else if (order.length != samples) {
            order = new int[samples];
            for (int i = 0; i < samples; i++) {
                order[i] = i;
            }
        }
    }
}
