package org.qlora4j.lora.adapter;

/** Gram and Schmidt's method on the rows of small matrices, in double. */
final class OrthonormalRows {
    private OrthonormalRows() {}

    /**
     * Makes the {@code k} rows of {@code n ≥ k} values orthonormal, the first j of them spanning what they spanned
     * before. A row that depends on those before it is replaced by a unit vector made orthogonal to them.
     */
    static void make(double[] m, int k, int n) {
        for (int row = 0; row < k; row++) {
            double before = norm(m, row, n);
            // twice is enough (Kahan and Parlett)
            removeEarlier(m, row, n);
            removeEarlier(m, row, n);
            double length = norm(m, row, n);
            for (int unit = row; length <= 1e-10 * before || length == 0; unit++) {
                java.util.Arrays.fill(m, row * n, (row + 1) * n, 0);
                m[row * n + unit % n] = 1;
                before = 1;
                removeEarlier(m, row, n);
                removeEarlier(m, row, n);
                length = norm(m, row, n) < 1e-3 ? 0 : norm(m, row, n);
            }
            for (int i = 0; i < n; i++) {
                m[row * n + i] /= length;
            }
        }
    }

    private static void removeEarlier(double[] m, int row, int n) {
        for (int j = 0; j < row; j++) {
            double dot = dot(m, row, m, j, n);
            for (int i = 0; i < n; i++) {
                m[row * n + i] -= dot * m[j * n + i];
            }
        }
    }

    static double dot(double[] a, int rowA, double[] b, int rowB, int n) {
        double sum = 0;
        for (int i = 0; i < n; i++) {
            sum += a[rowA * n + i] * b[rowB * n + i];
        }
        return sum;
    }

    private static double norm(double[] m, int row, int n) {
        return Math.sqrt(dot(m, row, m, row, n));
    }
}
