package org.qlora4j.nf4.device.cpu;

/**
 * One step of each optimizer on n fp32 elements at raw addresses; see {@link org.qlora4j.nf4.device.OptimizerRule}.
 * {@link VectorOptimizers} and {@link ScalarOptimizers} agree within rounding; both divide and take roots exactly as
 * IEEE 754 says.
 */
interface OptimizerKernels {
    /** AdamW with moments m and v. */
    void adamW(long p, long g, long m, long v, OptimizerFactors f, int n);

    /** AdEMAMix: fast average m1, slow average m2. */
    void adEmaMix(long p, long g, long m1, long m2, long v, OptimizerFactors f, int n);

    /** Lion; keep1, keep2 are beta1, beta2. */
    void lion(long p, long g, long m, OptimizerFactors f, int n);

    /** SGD with momentum keep1. */
    void momentum(long p, long g, long m, OptimizerFactors f, int n);

    /** RMSprop and Adagrad. */
    void rootMeanSquare(long p, long g, long v, OptimizerFactors f, int n);

    /** {@code y[i] = map[code[i]] · absmax}. @param scratch of at least n elements */
    void decode8(long y, long codes, float absmax, DynamicCodes map, int[] scratch, int n);

    /**
     * Codes of {@code x[i] / absmax}, with {@code absmax = max|x|}, which is returned; the same in both twins.
     *
     * @param scratch of at least n elements
     */
    float encode8(long codes, long x, DynamicCodes map, int[] scratch, int n);
}
