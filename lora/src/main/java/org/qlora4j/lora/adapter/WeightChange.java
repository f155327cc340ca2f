package org.qlora4j.lora.adapter;

/** What an adapter does to a weight, applied to some of its rows at a time. */
interface WeightChange {
    /**
     * Changes rows {@code first … first + rows − 1} of the weight.
     *
     * @param w those rows, one behind the other
     */
    void apply(float[] w, int first, int rows, int cols);

    /** {@code W += scale·B·A}. @param a [rank, cols] @param b [all rows, rank] */
    record LowRankProduct(float[] a, float[] b, int rank, float scale) implements WeightChange {
        @Override
        public void apply(float[] w, int first, int rows, int cols) {
            for (int r = 0; r < rows; r++) {
                for (int k = 0; k < rank; k++) {
                    float factor = scale * b[(first + r) * rank + k];
                    for (int i = 0; i < cols; i++) {
                        w[r * cols + i] += factor * a[k * cols + i];
                    }
                }
            }
        }
    }

    /** Rows get the given lengths (DoRA); a row of zeros stays one. */
    record Lengths(float[] magnitude) implements WeightChange {
        @Override
        public void apply(float[] w, int first, int rows, int cols) {
            for (int r = 0; r < rows; r++) {
                double squares = 0;
                for (int i = r * cols; i < (r + 1) * cols; i++) {
                    squares += (double) w[i] * w[i];
                }
                float factor = squares == 0 ? 0 : (float) (magnitude[first + r] / Math.sqrt(squares));
                for (int i = r * cols; i < (r + 1) * cols; i++) {
                    w[i] *= factor;
                }
            }
        }
    }

    /** The weight is replaced. */
    record Whole(float[] values) implements WeightChange {
        @Override
        public void apply(float[] w, int first, int rows, int cols) {
            System.arraycopy(values, first * cols, w, 0, rows * cols);
        }
    }

    /** Some rows are replaced. @param values one row for each id */
    record Rows(int[] ids, float[] values) implements WeightChange {
        @Override
        public void apply(float[] w, int first, int rows, int cols) {
            for (int k = 0; k < ids.length; k++) {
                if (ids[k] >= first && ids[k] < first + rows) {
                    System.arraycopy(values, k * cols, w, (ids[k] - first) * cols, cols);
                }
            }
        }
    }

    /** A vector is added to a bias. */
    record Sum(float[] values, float scale) implements WeightChange {
        @Override
        public void apply(float[] w, int first, int rows, int cols) {
            for (int i = 0; i < rows * cols; i++) {
                w[i] += scale * values[first * cols + i];
            }
        }
    }
}
