package org.qlora4j.lora.adapter;

import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Embedding;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.TrainedRows;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.file.StoredTensor;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** Start values of an adapter; the same seed gives the same values. */
final class LoraStart {
    private final LoraAdapter adapter;
    private final Transformer model;
    private final Device device;
    private final InitWeights how;
    private final SplittableRandom random;
    private final @Nullable ModelSource source;

    LoraStart(LoraAdapter adapter, long seed, @Nullable ModelSource source) {
        this.adapter = adapter;
        this.model = adapter.model();
        this.device = model.device();
        this.how = adapter.config().initWeights();
        this.random = new SplittableRandom(seed);
        this.source = source;
        if (how instanceof InitWeights.Loftq && source == null) {
            throw new IllegalArgumentException(
                    "init_weights loftq needs the weights before quantization: name the model's files");
        }
    }

    /** Fills all parameters of an attached adapter, in the order of a forward pass. */
    void fill() {
        Embedding embedding = model.embedding();
        if (embedding.lora() != null) {
            // A zero, B normal, as PEFT
            gaussian(embedding.lora().b().value(), 1);
        }
        Parameter trained = embedding.trained();
        if (trained != null) {
            device.ops().dequantize(trained.value(), embedding.frozen());
        }
        copy(embedding.trainedRows(), embedding.frozen());
        for (Linear linear : model.linears()) {
            LoraWeights lora = linear.lora();
            if (lora != null) {
                fill(linear, lora);
            }
            Parameter whole = linear.trained();
            if (whole != null && whole != trained) {
                device.ops().dequantize(whole.value(), linear.frozen());
            }
            copy(linear.trainedRows(), linear.frozen());
        }
    }

    private void copy(@Nullable TrainedRows rows, Weight frozen) {
        if (rows != null) {
            device.ops().embedding(rows.values().value(), rows.ids(), frozen);
        }
    }

    private void fill(Linear linear, LoraWeights weights) {
        Tensor a = weights.a().value();
        Tensor b = weights.b().value();
        switch (how) {
            case InitWeights.Plain p when p.equals(InitWeights.GAUSSIAN) -> gaussian(a, 1.0 / weights.rank());
            case InitWeights.Plain p -> {
                uniform(a, a.cols());
                if (p.equals(InitWeights.FALSE)) {
                    uniform(b, b.cols());
                }
                if (p.equals(InitWeights.FALSE) && weights.bias() != null) {
                    uniform(weights.bias().value(), weights.rank());
                }
            }
            case InitWeights.Pissa p -> {
                LowRankFactors f = TruncatedSvd.of(device, linear.frozen(), weights.rank(), p.iterations(), random)
                        .halves(weights.scale());
                set(linear, weights, f);
            }
            case InitWeights.Olora o -> set(linear, weights, TruncatedQr.of(device, linear.frozen(), weights.rank()));
            case InitWeights.Loftq l -> loftq(linear, weights);
            case InitWeights.Foreign f ->
                throw new IllegalArgumentException("init_weights '" + f.peftName() + "' is not supported");
        }
        LoraWeights.Magnitude magnitude = weights.magnitude();
        if (magnitude != null) {
            lengths(linear, weights, magnitude);
        }
    }

    /** A and B start with the factors, which are taken off the frozen part. */
    private void set(Linear linear, LoraWeights weights, LowRankFactors f) {
        device.upload(weights.a().value(), f.a(), 0);
        device.upload(weights.b().value(), f.b(), 0);
        adapter.takeOff(linear, f.a(), f.b(), weights.rank(), weights.scale());
    }

    private void loftq(Linear linear, LoraWeights weights) {
        if (!(linear.frozen() instanceof Weight.Quantized) || source == null) {
            throw new IllegalArgumentException(
                    "init_weights loftq needs a quantized base (quant_bits 4); " + linear.name() + " is not quantized");
        }
        StoredTensor stored = source.tensors().get(linear.name() + ".weight");
        if (!stored.type().readsAsFloats()) {
            throw new IllegalArgumentException("init_weights loftq needs the weights before quantization, but "
                    + stored.file() + " holds " + linear.name() + " quantized");
        }
        try (Scope scope = device.newScope()) {
            Tensor lost = scope.newPrecise(linear.out(), linear.in());
            float[] row = new float[linear.in()];
            for (int r = 0; r < linear.out(); r++) {
                source.tensors().readFloats(stored, (long) r * row.length, row.length, row, 0);
                device.upload(lost.rows(r, 1), row, 0);
            }
            Tensor kept = scope.newPrecise(linear.out(), linear.in());
            device.ops().dequantize(kept, linear.frozen());
            device.ops().add(lost, kept, -1);
            LowRankFactors f = TruncatedSvd.of(
                            device, new Weight.Dense(lost), weights.rank(), InitWeights.Pissa.CONVERGED, random)
                    .halves(weights.scale());
            device.upload(weights.a().value(), f.a(), 0);
            device.upload(weights.b().value(), f.b(), 0);
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
    private void uniform(Tensor t, int fanIn) {
        double bound = 1 / Math.sqrt(fanIn);
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
