package org.qlora4j.lora.adapter;

import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/** The first columns of Q and rows of R of a weight's QR decomposition. */
final class TruncatedQr {
    private TruncatedQr() {}

    /** OLoRA's start: A is R's rows, B is Q's columns. */
    static LowRankFactors of(Device device, Weight w, int rank) {
        TruncatedSvd.requireRank(w, rank);
        double[] unit = new double[Math.multiplyExact(rank, w.cols())];
        for (int i = 0; i < rank; i++) {
            unit[i * w.cols() + i] = 1;
        }
        double[] q = new double[Math.multiplyExact(rank, w.rows())];
        float[] a = new float[unit.length];
        try (Scope scope = device.newScope()) {
            Tensor x = scope.newPrecise(rank, w.cols());
            Tensor z = scope.newPrecise(rank, w.rows());
            device.upload(x, unit, 0);
            device.ops().matmul(z, x, w, true, 0);
            device.download(z, q, 0);
            OrthonormalRows.make(q, rank, w.rows());
            device.upload(z, q, 0);
            device.ops().matmul(x, z, w, false, 0);
            device.download(x, a, 0);
        }
        float[] b = new float[q.length];
        for (int i = 0; i < rank; i++) {
            for (int j = 0; j < w.rows(); j++) {
                b[j * rank + i] = (float) q[i * w.rows() + j];
            }
        }
        return new LowRankFactors(a, b);
    }
}
