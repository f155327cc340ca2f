package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * What a pass says about its labels.
 *
 * @param losses of each label, in the batch's order
 * @param correct labels that no other token had a higher logit than
 */
public record TokenLosses(double[] losses, int correct) {
    /** Σ losses. */
    public double sum() {
        double sum = 0;
        for (double loss : losses) {
            sum += loss;
        }
        return sum;
    }

    static TokenLosses download(Device device, Tensor losses, Tensor correct) {
        double[] values = new double[losses.cols()];
        device.download(correct, values, 0);
        int count = 0;
        for (double one : values) {
            count += (int) one;
        }
        device.download(losses, values, 0);
        return new TokenLosses(values, count);
    }
}
