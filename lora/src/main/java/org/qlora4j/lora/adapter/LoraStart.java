package org.qlora4j.lora.adapter;

import java.util.SplittableRandom;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.Tensor;

/** Start values of an adapter; the same seed gives the same values. */
final class LoraStart {
    private final Device device;
    private final LoraConfig.InitWeights how;
    private final SplittableRandom random;

    LoraStart(Device device, LoraConfig.InitWeights how, long seed) {
        this.device = device;
        this.how = how;
        this.random = new SplittableRandom(seed);
    }

    /** Fills A, B and the magnitudes of one layer; to be called in the order of a forward pass. */
    void fill(Linear linear, LoraWeights weights) {
        switch (how) {
            case TRUE -> uniform(weights.a().value());
            case FALSE -> {
                uniform(weights.a().value());
                uniform(weights.b().value());
            }
            case GAUSSIAN -> gaussian(weights.a().value(), 1.0 / weights.rank());
        }
        LoraWeights.Magnitude magnitude = weights.magnitude();
        if (magnitude != null) {
            lengths(linear, weights, magnitude);
        }
    }

    private void gaussian(Tensor t, double deviation) {
        double[] values = new double[(int) t.numel()];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) (random.nextGaussian() * deviation);
        }
        device.upload(t, values, 0);
    }

    /**
     * kaiming_uniform with a = √5 is uniform in ±1/√(fan in); rounded to fp32 so that every device starts from the same
     * values.
     */
    private void uniform(Tensor t) {
        double bound = 1 / Math.sqrt(t.cols());
        double[] values = new double[(int) t.numel()];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) ((2 * random.nextDouble() - 1) * bound);
        }
        device.upload(t, values, 0);
    }

    /** The lengths the rows have now, so that DoRA changes nothing at the start. */
    private void lengths(Linear linear, LoraWeights l, LoraWeights.Magnitude magnitude) {
        device.ops()
                .inverseRowNorms(magnitude.inverseNorms(), linear.frozen(), l.a().value(), l.b().value(), l.scale());
        double[] lengths = new double[linear.out()];
        device.download(magnitude.inverseNorms(), lengths, 0);
        for (int i = 0; i < lengths.length; i++) {
            lengths[i] = lengths[i] == 0 ? 0 : 1 / lengths[i];
        }
        device.upload(magnitude.m().value(), lengths, 0);
    }
}
