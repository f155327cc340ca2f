package org.qlora4j.optim;

import org.qlora4j.lora.adapter.TrainableParameters;
import org.qlora4j.nf4.device.AdamWStep;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * AdamW in torch's order (decoupled decay first), one call for all parameters. Owns its moments.
 *
 * @see <a href="https://arxiv.org/abs/1711.05101">Loshchilov and Hutter 2017</a>
 */
public final class AdamW implements AutoCloseable {
    private final Device device;
    private final TrainableParameters parameters;
    private final Options options;
    private final Scope scope;
    private final Tensor firstMoment;
    private final Tensor secondMoment;
    private long steps;

    /**
     * Constants.
     *
     * @param weightDecay {@code weight_decay}, applied to every parameter
     * @param maxGradNorm gradients are scaled down to this joint norm; 0 for no limit
     */
    public record Options(double beta1, double beta2, double epsilon, double weightDecay, double maxGradNorm) {
        public Options {
            if (!(beta1 >= 0
                    && beta1 < 1
                    && beta2 >= 0
                    && beta2 < 1
                    && epsilon > 0
                    && weightDecay >= 0
                    && maxGradNorm >= 0)) {
                throw new IllegalArgumentException(
                        "adam_beta1 and adam_beta2 must be in [0, 1), adam_epsilon positive, weight_decay and max_grad_norm 0 or more; got "
                                + beta1 + ", " + beta2 + ", " + epsilon + ", " + weightDecay + ", " + maxGradNorm);
            }
        }
    }

    // the moments' scope is a field, closed with the optimizer
    @SuppressWarnings("MustBeClosedChecker")
    public AdamW(Device device, TrainableParameters parameters, Options options) {
        this.device = device;
        this.parameters = parameters;
        this.options = options;
        scope = device.newScope();
        int n = parameters.values().cols();
        firstMoment = scope.newTensor(1, n);
        secondMoment = scope.newTensor(1, n);
        device.ops().fill(firstMoment, 0);
        device.ops().fill(secondMoment, 0);
    }

    /**
     * One step; the gradients stay as they are.
     *
     * @return the gradients' joint norm before clipping
     * @throws ArithmeticException if the norm is not finite; no parameter has changed then
     */
    public double step(double learningRate) {
        double norm = Math.sqrt(device.ops().sumOfSquares(parameters.gradients()));
        if (!Double.isFinite(norm)) {
            throw new ArithmeticException("the gradients' norm is " + norm);
        }
        double clip = options.maxGradNorm == 0 ? 1 : Math.min(1, options.maxGradNorm / (norm + 1e-6));
        steps++;
        device.ops()
                .adamW(
                        parameters.values(),
                        parameters.gradients(),
                        firstMoment,
                        secondMoment,
                        new AdamWStep(
                                steps,
                                learningRate,
                                options.beta1,
                                options.beta2,
                                options.epsilon,
                                options.weightDecay,
                                clip));
        return norm;
    }

    /** Steps taken. */
    public long steps() {
        return steps;
    }

    /** First moments [1, padded count], in the layout of the parameters. */
    public Tensor firstMoment() {
        return firstMoment;
    }

    /** Second moments [1, padded count]. */
    public Tensor secondMoment() {
        return secondMoment;
    }

    /** Takes up the count of a saved run; the moments are uploaded by the caller. */
    public void resume(long stepsTaken) {
        steps = stepsTaken;
    }

    @Override
    public void close() {
        scope.close();
    }
}
