package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.nf4.tensor.Tensor;

/**
 * NEFTune: uniform noise of {@code ±alpha/√(L·C)} on the embeddings of a row of L tokens. A function of the pass's seed
 * and the position, so that it needs no state. The frozen embedding has no gradient, so backward has nothing to do.
 *
 * @see <a href="https://arxiv.org/abs/2310.05914">Jain et al. 2023</a>
 */
final class EmbeddingNoise {
    private EmbeddingNoise() {}

    /** @param x [N, C], changed @param offsets where rows begin, and N */
    static void add(Tensor x, int[] offsets, double alpha, Device device, Step step) {
        int width = x.cols();
        Tensor noise = step.newTensor(x.rows(), width);
        float[] row = new float[width];
        // not a stream that dropout uses
        long seed = Dropout.mix(step.seed(), Long.MIN_VALUE);
        for (int s = 0; s + 1 < offsets.length; s++) {
            double size = alpha / Math.sqrt((double) (offsets[s + 1] - offsets[s]) * width);
            for (int token = offsets[s]; token < offsets[s + 1]; token++) {
                for (int i = 0; i < width; i++) {
                    long bits = Dropout.mix(seed, (long) token * width + i) >>> 40;
                    row[i] = (float) (((bits + 0.5) * 0x1p-23 - 1) * size);
                }
                device.upload(noise.rows(token, 1), row, 0);
            }
        }
        step.ops().add(x, noise, 1);
    }
}
