package org.qlora4j.nf4.device.reference;

import static org.qlora4j.nf4.device.HostElements.get;
import static org.qlora4j.nf4.device.HostElements.index;
import static org.qlora4j.nf4.device.HostElements.set;

import org.qlora4j.nf4.device.AttentionShape;
import org.qlora4j.nf4.device.Dropout;
import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.device.OptimizerState;
import org.qlora4j.nf4.device.OptimizerStep;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.Weight;

/**
 * The definition of every operation: plain loops in double, in the order of the formulas. Other devices are tested
 * against it. Arguments are checked by {@link org.qlora4j.nf4.device.CheckedOps}.
 */
final class ReferenceOps implements Ops {
    @Override
    public void matmul(Tensor out, Tensor a, boolean transA, Tensor b, boolean transB, double alpha, double beta) {
        int inner = transA ? a.rows() : a.cols();
        for (int i = 0; i < out.rows(); i++) {
            for (int j = 0; j < out.cols(); j++) {
                double sum = 0;
                for (int k = 0; k < inner; k++) {
                    sum += (transA ? get(a, k, i) : get(a, i, k)) * (transB ? get(b, j, k) : get(b, k, j));
                }
                blend(out, i, j, beta, alpha * sum);
            }
        }
    }

    /** {@code out = beta · out + value}; with beta 0 the old value is not read, it may be NaN. */
    private static void blend(Tensor out, int row, int col, double beta, double value) {
        set(out, row, col, beta == 0 ? value : beta * get(out, row, col) + value);
    }

    @Override
    public void matmul(Tensor out, Tensor x, Weight w, boolean transW, double beta) {
        double[][] values = ReferenceWeights.values(w);
        for (int i = 0; i < out.rows(); i++) {
            for (int j = 0; j < out.cols(); j++) {
                double sum = 0;
                for (int k = 0; k < x.cols(); k++) {
                    sum += get(x, i, k) * (transW ? values[j][k] : values[k][j]);
                }
                blend(out, i, j, beta, sum);
            }
        }
    }

    @Override
    public void dequantize(Tensor out, Weight w) {
        for (int i = 0; i < w.rows(); i++) {
            for (int j = 0; j < w.cols(); j++) {
                set(out, i, j, ReferenceWeights.value(w, i, j));
            }
        }
    }

    @Override
    public void embedding(Tensor out, Tensor ids, Weight table) {
        for (int i = 0; i < out.rows(); i++) {
            for (int j = 0; j < out.cols(); j++) {
                set(out, i, j, ReferenceWeights.value(table, index(ids, i), j));
            }
        }
    }

    @Override
    public void embeddingBackward(Tensor dTable, Tensor ids, Tensor dOut) {
        for (int i = 0; i < dOut.rows(); i++) {
            for (int j = 0; j < dOut.cols(); j++) {
                blend(dTable, index(ids, i), j, 1, get(dOut, i, j));
            }
        }
    }

    @Override
    public void gatherRows(Tensor out, Tensor x, Tensor rows) {
        for (int i = 0; i < out.rows(); i++) {
            for (int j = 0; j < out.cols(); j++) {
                set(out, i, j, get(x, index(rows, i), j));
            }
        }
    }

    @Override
    public void scatterRows(Tensor out, Tensor x, Tensor rows) {
        fill(out, 0);
        for (int i = 0; i < x.rows(); i++) {
            for (int j = 0; j < x.cols(); j++) {
                set(out, index(rows, i), j, get(x, i, j));
            }
        }
    }

    @Override
    public void rmsNorm(Tensor y, Tensor rstd, Tensor x, Tensor weight, double eps) {
        for (int i = 0; i < x.rows(); i++) {
            double sum = 0;
            for (int j = 0; j < x.cols(); j++) {
                sum += get(x, i, j) * get(x, i, j);
            }
            double r = 1 / Math.sqrt(sum / x.cols() + eps);
            set(rstd, 0, i, r);
            for (int j = 0; j < x.cols(); j++) {
                set(y, i, j, get(x, i, j) * r * get(weight, 0, j));
            }
        }
    }

    @Override
    public void rmsNormBackward(Tensor dx, Tensor dy, Tensor x, Tensor rstd, Tensor weight, double beta) {
        for (int i = 0; i < x.rows(); i++) {
            double r = get(rstd, 0, i);
            double mean = 0;
            for (int j = 0; j < x.cols(); j++) {
                mean += get(dy, i, j) * get(weight, 0, j) * get(x, i, j) * r / x.cols();
            }
            for (int j = 0; j < x.cols(); j++) {
                double g = get(dy, i, j) * get(weight, 0, j);
                blend(dx, i, j, beta, r * (g - get(x, i, j) * r * mean));
            }
        }
    }

    @Override
    public void rope(Tensor x, Tensor cos, Tensor sin, Tensor positions, int headDim, boolean inverse) {
        int half = cos.cols();
        for (int i = 0; i < x.rows(); i++) {
            int position = index(positions, i);
            for (int head = 0; head < x.cols(); head += headDim) {
                for (int j = 0; j < half; j++) {
                    double c = get(cos, position, j);
                    double s = inverse ? -get(sin, position, j) : get(sin, position, j);
                    double a = get(x, i, head + j);
                    double b = get(x, i, head + half + j);
                    set(x, i, head + j, a * c - b * s);
                    set(x, i, head + half + j, b * c + a * s);
                }
            }
        }
    }

    @Override
    public void attention(Tensor out, Tensor logSumExp, Tensor q, Tensor k, Tensor v, AttentionShape shape) {
        ReferenceAttention.forward(out, logSumExp, q, k, v, shape);
    }

    @Override
    public void attentionBackward(
            Tensor dq,
            Tensor dk,
            Tensor dv,
            Tensor dOut,
            Tensor out,
            Tensor logSumExp,
            Tensor q,
            Tensor k,
            Tensor v,
            AttentionShape shape) {
        ReferenceAttention.backward(dq, dk, dv, dOut, out, logSumExp, q, k, v, shape);
    }

    @Override
    public void swiGlu(Tensor y, Tensor gate, Tensor up) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                double g = get(gate, i, j);
                set(y, i, j, g / (1 + Math.exp(-g)) * get(up, i, j));
            }
        }
    }

    @Override
    public void swiGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        for (int i = 0; i < dy.rows(); i++) {
            for (int j = 0; j < dy.cols(); j++) {
                double d = get(dy, i, j);
                double g = get(gate, i, j);
                double u = get(up, i, j);
                double sigmoid = 1 / (1 + Math.exp(-g));
                set(dUp, i, j, d * g * sigmoid);
                set(dGate, i, j, d * u * sigmoid * (1 + g * (1 - sigmoid)));
            }
        }
    }

    private static final double GELU_SLOPE = Math.sqrt(2 / Math.PI);
    private static final double GELU_CUBE = 0.044715;

    @Override
    public void geGlu(Tensor y, Tensor gate, Tensor up) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                double g = get(gate, i, j);
                double t = Math.tanh(GELU_SLOPE * (g + GELU_CUBE * g * g * g));
                set(y, i, j, g / 2 * (1 + t) * get(up, i, j));
            }
        }
    }

    @Override
    public void geGluBackward(Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
        for (int i = 0; i < dy.rows(); i++) {
            for (int j = 0; j < dy.cols(); j++) {
                double d = get(dy, i, j);
                double g = get(gate, i, j);
                double u = get(up, i, j);
                double t = Math.tanh(GELU_SLOPE * (g + GELU_CUBE * g * g * g));
                double inner = GELU_SLOPE * (1 + 3 * GELU_CUBE * g * g);
                set(dUp, i, j, d * g / 2 * (1 + t));
                set(dGate, i, j, d * u / 2 * (1 + t + g * (1 - t * t) * inner));
            }
        }
    }

    @Override
    public void softcap(Tensor y, Tensor x, double cap) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                set(y, i, j, cap * Math.tanh(get(x, i, j) / cap));
            }
        }
    }

    @Override
    public void softcapBackward(Tensor dx, Tensor dy, Tensor y, double cap) {
        for (int i = 0; i < dx.rows(); i++) {
            for (int j = 0; j < dx.cols(); j++) {
                double t = get(y, i, j) / cap;
                set(dx, i, j, get(dy, i, j) * (1 - t * t));
            }
        }
    }

    @Override
    public void copy(Tensor y, Tensor x) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                set(y, i, j, get(x, i, j));
            }
        }
    }

    @Override
    public void add(Tensor y, Tensor x, double alpha) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                set(y, i, j, get(y, i, j) + alpha * get(x, i, j));
            }
        }
    }

    @Override
    public void addBias(Tensor y, Tensor bias) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                set(y, i, j, get(y, i, j) + get(bias, 0, j));
            }
        }
    }

    @Override
    public void scaleColumns(Tensor y, Tensor x, Tensor scale, double beta) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                blend(y, i, j, beta, get(x, i, j) * get(scale, 0, j));
            }
        }
    }

    @Override
    public void columnDots(Tensor out, Tensor a, Tensor b) {
        for (int j = 0; j < a.cols(); j++) {
            double sum = 0;
            for (int i = 0; i < a.rows(); i++) {
                sum += get(a, i, j) * get(b, i, j);
            }
            blend(out, 0, j, 1, sum);
        }
    }

    @Override
    public void inverseRowNorms(Tensor out, Weight w, Tensor a, Tensor b, double scale) {
        for (int o = 0; o < w.rows(); o++) {
            double sum = 0;
            for (int i = 0; i < w.cols(); i++) {
                double v = ReferenceWeights.value(w, o, i);
                for (int k = 0; k < a.rows(); k++) {
                    v += scale * get(b, o, k) * get(a, k, i);
                }
                sum += v * v;
            }
            set(out, 0, o, sum == 0 ? 0 : 1 / Math.sqrt(sum));
        }
    }

    @Override
    public void scaleRows(Tensor y, Tensor x, Tensor scale) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                set(y, i, j, get(scale, 0, i) * get(x, i, j));
            }
        }
    }

    @Override
    public void rowDots(Tensor out, Tensor a, Tensor b) {
        for (int i = 0; i < a.rows(); i++) {
            double sum = 0;
            for (int j = 0; j < a.cols(); j++) {
                sum += get(a, i, j) * get(b, i, j);
            }
            set(out, 0, i, sum);
        }
    }

    @Override
    public void topKSoftmax(Tensor weights, Tensor chosen, Tensor logits, boolean normalize) {
        ReferenceRouting.forward(weights, chosen, logits, normalize);
    }

    @Override
    public void topKSoftmaxBackward(
            Tensor dLogits, Tensor dWeights, Tensor weights, Tensor chosen, Tensor probabilities, boolean normalize) {
        ReferenceRouting.backward(dLogits, dWeights, weights, chosen, probabilities, normalize);
    }

    @Override
    public void fill(Tensor y, double value) {
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                set(y, i, j, value);
            }
        }
    }

    @Override
    public void dropout(Tensor y, Tensor x, double p, long seed) {
        int threshold = Dropout.threshold(p);
        for (int i = 0; i < y.rows(); i++) {
            for (int j = 0; j < y.cols(); j++) {
                boolean keeps = Dropout.keeps(seed, (long) i * y.cols() + j, threshold);
                set(y, i, j, keeps ? get(x, i, j) / (1 - p) : 0);
            }
        }
    }

    @Override
    public void crossEntropy(
            Tensor losses, Tensor correct, Tensor logits, Tensor labels, double gradientScale, double smoothing) {
        int n = logits.cols();
        for (int i = 0; i < logits.rows(); i++) {
            double max = Double.NEGATIVE_INFINITY;
            double mean = 0;
            for (int j = 0; j < n; j++) {
                max = Math.max(max, get(logits, i, j));
                mean += get(logits, i, j) / n;
            }
            double sum = 0;
            for (int j = 0; j < n; j++) {
                sum += Math.exp(get(logits, i, j) - max);
            }
            int label = index(labels, i);
            double target = get(logits, i, label);
            double expected = (1 - smoothing) * target + (smoothing == 0 ? 0 : smoothing * mean);
            set(losses, 0, i, max + Math.log(sum) - expected);
            set(correct, 0, i, target >= max ? 1 : 0);
            if (gradientScale != 0) {
                for (int j = 0; j < n; j++) {
                    double softmax = Math.exp(get(logits, i, j) - max) / sum;
                    double wanted = (j == label ? 1 - smoothing : 0) + smoothing / n;
                    set(logits, i, j, gradientScale * (softmax - wanted));
                }
            }
        }
    }

    @Override
    public double sumOfSquares(Tensor x) {
        double sum = 0;
        for (int i = 0; i < x.rows(); i++) {
            for (int j = 0; j < x.cols(); j++) {
                sum += get(x, i, j) * get(x, i, j);
            }
        }
        return sum;
    }

    @Override
    public void optimizerStep(Tensor p, Tensor g, OptimizerState state, OptimizerStep step) {
        ReferenceOptimizers.step(p, g, state, step);
    }
}
