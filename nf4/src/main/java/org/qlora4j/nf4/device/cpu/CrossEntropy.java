package org.qlora4j.nf4.device.cpu;

import static org.qlora4j.nf4.device.cpu.CpuOps.intAt;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.get;
import static org.qlora4j.nf4.device.cpu.ScalarKernels.set;

import org.qlora4j.nf4.tensor.Tensor;

/** The loss of single rows, see {@link org.qlora4j.nf4.device.Ops#crossEntropy}. */
record CrossEntropy(
        Kernels kernels,
        Tensor losses,
        Tensor correct,
        Tensor logits,
        Tensor labels,
        double gradientScale,
        double smoothing) {

    void row(int r) {
        int n = logits.cols();
        long row = logits.rowAddress(r);
        long label = row + 4L * intAt(labels.address(), r);
        float target = get(label);
        float max = kernels.max(row, n);
        double mean = smoothing == 0 ? 0 : kernels.sum(row, n) / n;
        double sum = gradientScale == 0 ? kernels.sumExp(row, max, n) : kernels.exp(row, row, 1, max, n);
        double expected = (1 - smoothing) * target + smoothing * mean;
        set(losses.address() + 4L * r, (float) (Math.log(sum) + max - expected));
        set(correct.address() + 4L * r, target >= max ? 1 : 0);
        if (gradientScale != 0) {
            kernels.axpby(row, (float) (gradientScale / sum), row, 0, n);
            float rest = (float) (gradientScale * smoothing / n);
            if (rest != 0) {
                kernels.addTo(row, -rest, n);
            }
            set(label, get(label) - (float) (gradientScale * (1 - smoothing)));
        }
    }
}
