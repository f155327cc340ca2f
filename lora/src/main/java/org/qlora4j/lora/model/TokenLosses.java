package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * What a pass says about its labels.
 *
 * @param losses of each label, in the batch's order
 * @param correct labels that no other token had a higher logit than
 */
public record TokenLosses(float[] losses, int correct) {
    /** Σ losses. */
    public double sum() {
        double sum = 0;
        for (float loss : losses) {
            sum += loss;
        }
        return sum;
    }

    static TokenLosses download(Device device, Tensor losses, Tensor correct) {
        float[] values = new float[losses.cols()];
        device.download(correct, values, 0);
        int count = 0;
        for (float one : values) {
            count += (int) one;
        }
        device.download(losses, values, 0);
        return new TokenLosses(values, count);
    }
}
