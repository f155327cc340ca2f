package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * Several products of one input, {@code q, k, v} or {@code gate, up}: by a linear layer each, or by one layer whose
 * outputs lie side by side (Phi-3's {@code qkv_proj} and {@code gate_up_proj}).
 */
final class Projection {
    private final List<Linear> linears;
    private final int[] widths;

    /**
     * @param linears one for each width, or one for all
     * @param widths columns of each product
     */
    Projection(List<Linear> linears, int... widths) {
        this.linears = List.copyOf(linears);
        this.widths = widths;
    }

    List<Linear> linears() {
        return linears;
    }

    /** One output per layer, and the products, which are columns of it where layers are fused. */
    record Outputs(List<Tensor> written, List<Tensor> products) {}

    /** What backward needs. */
    record Saved(Outputs outputs, List<Linear.Saved> layers) {
        Tensor product(int i) {
            return outputs.products.get(i);
        }
    }

    /** Room for the products of n tokens, or for their gradients. */
    Outputs newOutputs(int n, Step step) {
        List<Tensor> written = new ArrayList<>(linears.size());
        List<Tensor> products = new ArrayList<>(widths.length);
        for (Linear linear : linears) {
            written.add(step.newTensor(n, linear.out()));
        }
        if (linears.size() == widths.length) {
            return new Outputs(written, written);
        }
        int column = 0;
        for (int width : widths) {
            products.add(written.getFirst().cols(column, width));
            column += width;
        }
        return new Outputs(written, products);
    }

    /** Forward. @param x [N, C] */
    Saved forward(Tensor x, Step step) {
        Outputs outputs = newOutputs(x.rows(), step);
        StackedLora lora = StackedLora.of(linears, step);
        List<Tensor> u = lora == null ? null : lora.split(lora.forward(x, step));
        List<Linear.Saved> saved = new ArrayList<>(linears.size());
        for (int i = 0; i < linears.size(); i++) {
            saved.add(linears.get(i).forward(outputs.written.get(i), x, 0, u == null ? null : u.get(i), step));
        }
        return new Saved(outputs, saved);
    }

    /**
     * Backward.
     *
     * @param dx result [N, C]; null if nobody needs it
     * @param d gradients of the products
     * @param x the forward's input
     */
    void backward(@Nullable Tensor dx, Outputs d, Tensor x, Saved saved, Step step) {
        StackedLora lora = StackedLora.of(linears, step);
        Tensor du = lora == null ? null : lora.newInput(x.rows(), step);
        List<Tensor> parts = lora == null || du == null ? null : lora.split(du);
        for (int i = 0; i < linears.size(); i++) {
            Tensor part = parts == null ? null : parts.get(i);
            linears.get(i).backward(dx, i == 0 ? 0 : 1, d.written.get(i), x, saved.layers.get(i), part, step);
        }
        if (lora != null && du != null) {
            lora.backward(dx, du, x, step);
        }
    }

    boolean isTrained() {
        return linears.stream().anyMatch(Linear::isTrained);
    }
}
