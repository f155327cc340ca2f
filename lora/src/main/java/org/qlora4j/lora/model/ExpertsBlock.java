package org.qlora4j.lora.model;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * The feed-forward half of a layer as a mixture of experts: {@code y = x + Σ w[e]·expert[e](h)} over the experts that
 * the router chose for a token, with {@code h = norm(x)} and w the softmax of {@code router(h)}.
 *
 * <pre>
 * backward   dw[e] = dy·expert[e](h)     d expert[e] = w[e]·dy     dh = Σ expert[e]ᵀ + routerᵀ·softmaxᵀ(dw)
 * </pre>
 *
 * Which experts are chosen is a constant of the gradient. There is no auxiliary loss.
 */
final class ExpertsBlock implements FeedForward {
    private final ExpertsConfig config;
    private final Device device;
    private final Norm inputNorm;
    private final Linear router;
    private final List<Expert> experts;

    ExpertsBlock(ExpertsConfig config, Device device, Norm inputNorm, Linear router, List<Expert> experts) {
        this.config = config;
        this.device = device;
        this.inputNorm = inputNorm;
        this.router = router;
        this.experts = List.copyOf(experts);
    }

    /**
     * What backward needs. S = N·k rows are sorted by expert.
     *
     * @param probabilities of all experts [N, E]
     * @param weights of the chosen ones [N, k]
     * @param chosen I32 [1, S]
     * @param weight of each row [1, S]
     * @param inputs of the experts [S, C]
     * @param outputs of the experts [S, C]
     * @param byExpert null for an expert that no token chose
     */
    record Saved(
            Norm.Saved input,
            Linear.Saved router,
            Tensor probabilities,
            Tensor weights,
            Tensor chosen,
            Routes routes,
            Tensor weight,
            Tensor inputs,
            Tensor outputs,
            List<Expert.@Nullable Saved> byExpert)
            implements FeedForward.Saved {}

    @Override
    public Saved forward(@Nullable Tensor y, Tensor x, Step step) {
        var ops = step.ops();
        int k = config.numExpertsPerTok();
        Norm.Saved input = inputNorm.forward(x, step);
        Tensor probabilities = step.newPrecise(x.rows(), config.numExperts());
        Linear.Saved routed = router.forward(probabilities, input.y(), 0, step);
        Tensor weights = step.newPrecise(x.rows(), k);
        Tensor chosen = step.scope().newTensor(DType.I32, 1, Math.multiplyExact(x.rows(), k));
        ops.topKSoftmax(weights, chosen, probabilities, config.normTopkProb());

        Routes routes = Routes.of(chosen, k, config.numExperts(), device, step);
        int rows = routes.rows();
        Tensor weight = step.newPrecise(rows, 1);
        ops.gatherRows(weight, weights.reshape(rows, 1), routes.pairs());
        Tensor inputs = step.newTensor(rows, x.cols());
        ops.gatherRows(inputs, input.y(), routes.tokens());
        Tensor outputs = step.newTensor(rows, x.cols());
        List<Expert.@Nullable Saved> byExpert = new ArrayList<>(experts.size());
        for (int e = 0; e < experts.size(); e++) {
            Tensor mine = routes.of(e, inputs);
            byExpert.add(mine.rows() == 0 ? null : experts.get(e).forward(routes.of(e, outputs), mine, step));
        }
        if (y != null) {
            Tensor weighted = step.newTensor(rows, x.cols());
            ops.scaleRows(weighted, outputs, weight.reshape(1, rows));
            ops.copy(y, x);
            addToTokens(y, weighted, routes, step);
        }
        return new Saved(
                input,
                routed,
                probabilities,
                weights,
                chosen,
                routes,
                weight.reshape(1, rows),
                inputs,
                outputs,
                byExpert);
    }

    /** {@code y[token of row] += rows}, as a table's gradient is summed. */
    private static void addToTokens(Tensor y, Tensor rows, Routes routes, Step step) {
        step.ops().embeddingBackward(y, routes.tokens(), rows);
    }

    /** The saved probabilities become the gradients of the router's logits. */
    @Override
    public void backward(Tensor d, boolean needInput, FeedForward.Saved saved, Step step) {
        Saved s = (Saved) saved;
        var ops = step.ops();
        Routes routes = s.routes;
        Tensor dOutputs = step.newTensor(routes.rows(), d.cols());
        ops.gatherRows(dOutputs, d, routes.tokens());
        Tensor dh = needInput ? step.newTensor(d.rows(), d.cols()) : null;
        if (needInput || router.isTrained()) {
            routerBackward(dh, dOutputs, s, step);
        }
        ops.scaleRows(dOutputs, dOutputs, s.weight);
        Tensor dInputs = needInput ? step.newTensor(routes.rows(), d.cols()) : null;
        for (int e = 0; e < experts.size(); e++) {
            Expert.Saved own = s.byExpert.get(e);
            if (own != null) {
                Tensor dx = dInputs == null ? null : routes.of(e, dInputs);
                experts.get(e).backward(dx, routes.of(e, dOutputs), routes.of(e, s.inputs), own, step);
            }
        }
        if (dh != null && dInputs != null) {
            addToTokens(dh, dInputs, routes, step);
            inputNorm.backward(d, 1, dh, s.input, step);
        }
    }

    private void routerBackward(@Nullable Tensor dh, Tensor dy, Saved s, Step step) {
        var ops = step.ops();
        int rows = s.routes.rows();
        Tensor dWeight = step.newPrecise(1, rows);
        ops.rowDots(dWeight, dy, s.outputs);
        Tensor dWeights = step.newPrecise(s.weights.rows(), s.weights.cols());
        ops.scatterRows(dWeights.reshape(rows, 1), dWeight.reshape(rows, 1), s.routes.pairs());
        Tensor dLogits = s.probabilities;
        ops.topKSoftmaxBackward(dLogits, dWeights, s.weights, s.chosen, s.probabilities, config.normTopkProb());
        router.backward(dh, 0, dLogits, s.input.y(), s.router, step);
    }

    @Override
    public boolean isTrained() {
        return router.isTrained() || experts.stream().anyMatch(Expert::isTrained);
    }

    @Override
    public List<Linear> linears() {
        List<Linear> linears = new ArrayList<>();
        linears.add(router);
        experts.forEach(expert -> linears.addAll(expert.linears()));
        return linears;
    }
}
