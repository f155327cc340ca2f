package org.qlora4j.lora.adapter;

import java.util.SplittableRandom;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * The largest singular values of a weight and their vectors: randomized subspace iteration with products by the device
 * (the weight is never decoded as a whole), then Jacobi rotations in double.
 *
 * @param u [rank, out features]: left vectors
 * @param s descending
 * @param v [rank, in features]: right vectors
 * @see <a href="https://arxiv.org/abs/0909.4061">Halko, Martinsson and Tropp 2011</a>
 */
record TruncatedSvd(double[] u, double[] s, double[] v) {
    /** Vectors beyond the rank: the error of the last one wanted falls with the gap to the first one left out. */
    private static final int OVERSAMPLING = 10;

    /** Until the singular values stand still, this often at most. */
    private static final int MOST_ITERATIONS = 60;

    private static final double STILL = 1e-7;
    private static final int MOST_SWEEPS = 40;

    /** @param iterations of the subspace; {@link InitWeights.Pissa#CONVERGED} until nothing changes */
    static TruncatedSvd of(Device device, Weight w, int rank, int iterations, SplittableRandom random) {
        requireRank(w, rank);
        int k = Math.min(rank + OVERSAMPLING, Math.min(w.rows(), w.cols()));
        double[] right = new double[Math.multiplyExact(k, w.cols())];
        double[] left = new double[Math.multiplyExact(k, w.rows())];
        for (int i = 0; i < right.length; i++) {
            right[i] = random.nextGaussian();
        }
        boolean converge = iterations == InitWeights.Pissa.CONVERGED;
        try (Scope scope = device.newScope()) {
            Tensor x = scope.newPrecise(k, w.cols());
            Tensor z = scope.newPrecise(k, w.rows());
            double[] before = new double[k];
            for (int i = 0; i <= (converge ? MOST_ITERATIONS : iterations); i++) {
                OrthonormalRows.make(right, k, w.cols());
                device.upload(x, right, 0);
                device.ops().matmul(z, x, w, true, 0);
                device.download(z, left, 0);
                OrthonormalRows.make(left, k, w.rows());
                device.upload(z, left, 0);
                device.ops().matmul(x, z, w, false, 0);
                device.download(x, right, 0);
                double[] s = diagonalize(left, right, k, w.rows(), w.cols());
                if (converge && still(before, s, rank)) {
                    break;
                }
                before = s;
            }
        }
        double[] s = new double[rank];
        double[] u = java.util.Arrays.copyOf(left, rank * w.rows());
        double[] v = java.util.Arrays.copyOf(right, rank * w.cols());
        for (int i = 0; i < rank; i++) {
            s[i] = Math.sqrt(OrthonormalRows.dot(right, i, right, i, w.cols()));
            for (int j = 0; j < w.cols(); j++) {
                v[i * w.cols() + j] = s[i] == 0 ? 0 : v[i * w.cols() + j] / s[i];
            }
        }
        return new TruncatedSvd(u, s, v);
    }

    static void requireRank(Weight w, int rank) {
        if (rank > Math.min(w.rows(), w.cols())) {
            throw new IllegalArgumentException("a layer [" + w.rows() + ", " + w.cols() + "] has no " + rank
                    + " singular values: lower the rank (rank_pattern), or take init_weights true");
        }
    }

    private static boolean still(double[] before, double[] s, int rank) {
        for (int i = 0; i < rank; i++) {
            if (Math.abs(s[i] - before[i]) > STILL * s[0]) {
                return false;
            }
        }
        return true;
    }

    /**
     * One-sided Jacobi: turns the rows of {@code right} until they are orthogonal, and those of {@code left} with them,
     * so that leftᵀ·right stays; then sorts them by length.
     *
     * @return the lengths
     */
    private static double[] diagonalize(double[] left, double[] right, int k, int rows, int cols) {
        boolean turned = true;
        for (int sweep = 0; turned && sweep < MOST_SWEEPS; sweep++) {
            turned = false;
            for (int p = 0; p < k; p++) {
                for (int q = p + 1; q < k; q++) {
                    double pp = OrthonormalRows.dot(right, p, right, p, cols);
                    double qq = OrthonormalRows.dot(right, q, right, q, cols);
                    double pq = OrthonormalRows.dot(right, p, right, q, cols);
                    if (Math.abs(pq) <= 1e-14 * Math.sqrt(pp * qq)) {
                        continue;
                    }
                    double tau = (qq - pp) / (2 * pq);
                    double t = Math.copySign(1, tau) / (Math.abs(tau) + Math.sqrt(1 + tau * tau));
                    double c = 1 / Math.sqrt(1 + t * t);
                    rotate(right, p, q, cols, c, c * t);
                    rotate(left, p, q, rows, c, c * t);
                    turned = true;
                }
            }
        }
        double[] s = new double[k];
        for (int i = 0; i < k; i++) {
            s[i] = OrthonormalRows.dot(right, i, right, i, cols);
        }
        for (int i = 0; i < k; i++) {
            int best = i;
            for (int j = i + 1; j < k; j++) {
                best = s[j] > s[best] ? j : best;
            }
            if (best != i) {
                double swap = s[i];
                s[i] = s[best];
                s[best] = swap;
                rotate(right, i, best, cols, 0, 1);
                rotate(left, i, best, rows, 0, 1);
            }
        }
        for (int i = 0; i < k; i++) {
            s[i] = Math.sqrt(s[i]);
        }
        return s;
    }

    private static void rotate(double[] m, int p, int q, int n, double cos, double sin) {
        for (int i = 0; i < n; i++) {
            double a = m[p * n + i];
            double b = m[q * n + i];
            m[p * n + i] = cos * a - sin * b;
            m[q * n + i] = sin * a + cos * b;
        }
    }

    /** PiSSA's start: {@code A = √(s/scale)·vᵀ, B = u·√(s/scale)}, so that scale·B·A is what was found. */
    LowRankFactors halves(double scale) {
        int rank = s.length;
        int in = v.length / rank;
        int out = u.length / rank;
        float[] a = new float[v.length];
        float[] b = new float[u.length];
        for (int i = 0; i < rank; i++) {
            double root = Math.sqrt(s[i] / scale);
            for (int j = 0; j < in; j++) {
                a[i * in + j] = (float) (root * v[i * in + j]);
            }
            for (int j = 0; j < out; j++) {
                b[j * rank + i] = (float) (root * u[i * out + j]);
            }
        }
        return new LowRankFactors(a, b);
    }
}
