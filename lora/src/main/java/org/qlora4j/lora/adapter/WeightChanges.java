package org.qlora4j.lora.adapter;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Embedding;
import org.qlora4j.lora.model.Linear;
import org.qlora4j.lora.model.LoraWeights;
import org.qlora4j.lora.model.LowRank;
import org.qlora4j.lora.model.TrainedRows;
import org.qlora4j.nf4.tensor.Parameter;
import org.qlora4j.nf4.tensor.Tensor;

/** What an adapter changes in the tensors of its base, by their names; the values are copies on the host. */
final class WeightChanges {
    private final LoraAdapter adapter;
    private final Map<String, List<WeightChange>> changes = new LinkedHashMap<>();

    private WeightChanges(LoraAdapter adapter) {
        this.adapter = adapter;
    }

    /** In the order in which they apply to a tensor. An empty list: a tensor of its own where the base shares one. */
    static Map<String, List<WeightChange>> of(LoraAdapter adapter) {
        WeightChanges changes = new WeightChanges(adapter);
        changes.collect();
        return changes.changes;
    }

    private void collect() {
        Embedding embedding = adapter.model().embedding();
        Linear output = adapter.model().outputLayer();
        LoraWeights lookup = embedding.lora();
        String embeddingWeight = embedding.name() + ".weight";
        if (lookup != null) {
            // [V, rank]·[rank, C]: A's rows stand where B's stand in a linear layer
            change(
                    embeddingWeight,
                    product(transposed(lookup.b()), adapter.parameters().download(lookup.a()), lookup));
        }
        addTrained(embeddingWeight, embedding.trained(), embedding.trainedRows());
        boolean tiedModel = output.frozen() == embedding.frozen();
        if (tiedModel
                && changes.containsKey(embeddingWeight)
                && !adapter.parts().tied()) {
            // the output layer keeps the frozen embedding
            changes.put(output.name() + ".weight", new ArrayList<>());
        }
        for (Linear linear : adapter.model().linears()) {
            String weight = linear.name() + ".weight";
            LoraWeights lora = linear.lora();
            Parameter bias = linear.trainedBias();
            if (bias != null) {
                change(
                        linear.name() + ".bias",
                        new WeightChange.Whole(adapter.parameters().download(bias)));
            }
            if (lora != null) {
                lowRank(linear, lora, weight);
            }
            boolean follows = linear == output && adapter.parts().tied();
            if (!follows) {
                addTrained(weight, linear.trained(), linear.trainedRows());
            }
        }
    }

    private void lowRank(Linear linear, LoraWeights lora, String weight) {
        TrainableParameters parameters = adapter.parameters();
        LowRank start = linear.takenOff();
        if (start != null) {
            change(
                    weight,
                    new WeightChange.LowRankProduct(
                            download(start.a()), download(start.b()), lora.rank(), (float) -start.scale()));
        }
        change(weight, product(parameters.download(lora.a()), parameters.download(lora.b()), lora));
        if (lora.magnitude() != null) {
            change(
                    weight,
                    new WeightChange.Lengths(
                            parameters.download(lora.magnitude().m())));
        }
        if (lora.bias() != null) {
            change(linear.name() + ".bias", new WeightChange.Sum(parameters.download(lora.bias()), (float)
                    lora.scale()));
        }
    }

    private static WeightChange product(float[] a, float[] b, LoraWeights lora) {
        return new WeightChange.LowRankProduct(a, b, lora.rank(), (float) lora.scale());
    }

    private void addTrained(String weight, @Nullable Parameter whole, @Nullable TrainedRows rows) {
        if (whole != null) {
            change(weight, new WeightChange.Whole(adapter.parameters().download(whole)));
        }
        if (rows != null) {
            change(
                    weight,
                    new WeightChange.Rows(rows.tokens(), adapter.parameters().download(rows.values())));
        }
    }

    private void change(String tensor, WeightChange change) {
        changes.computeIfAbsent(tensor, t -> new ArrayList<>()).add(change);
    }

    private float[] download(Tensor t) {
        float[] values = new float[Math.toIntExact(t.numel())];
        adapter.model().device().download(t, values, 0);
        return values;
    }

    private float[] transposed(Parameter p) {
        return FileTensor.transposed(
                adapter.parameters().download(p), p.value().rows(), p.value().cols());
    }
}
