package org.qlora4j.nf4.device.cpu;

/**
 * Loops over rows of fp32 at raw addresses: {@link VectorKernels} where the JVM has the Vector API module,
 * {@link ScalarKernels} otherwise. The two agree within rounding; each gives the same bits for the same input.
 */
interface Kernels {
    /** Σ a·b. */
    float dot(long a, long b, int n);

    /** Σ a·b·c. */
    float dot3(long a, long b, long c, int n);

    /** {@code y = beta·y + alpha·x}; with beta 0 y is not read. */
    void axpby(long y, float alpha, long x, float beta, int n);

    /** {@code y = beta·y + a ⊙ b}; with beta 0 y is not read. y may be a. */
    void productAdd(long y, float beta, long a, long b, int n);

    /** {@code y = s · x ⊙ w}. */
    void scaledProduct(long y, float s, long x, long w, int n);

    /** {@code dx = beta·dx + rstd·(dy ⊙ w − x·c)}; with beta 0 dx is not read. */
    void rmsNormBackward(long dx, long dy, long x, long w, float rstd, float c, float beta, int n);

    /** The largest element, -∞ if there is none; NaN if one is NaN is not promised. */
    float max(long x, int n);

    /** Σ x in double. */
    double sum(long x, int n);

    /** {@code y += c}. */
    void addTo(long y, float c, int n);

    /** {@code y = e^(scale·x − shift)} for arguments up to 88; the sum of y. y may be x. */
    double exp(long y, long x, float scale, float shift, int n);

    /** Σ e^(x − shift), storing nothing; for arguments up to 88. */
    double sumExp(long x, float shift, int n);

    /** {@code s ← p = e^(scale·s − lse); dp ← scale·p·(dp − delta)}. */
    void softmaxBackward(long s, long dp, float lse, float delta, float scale, int n);

    /** {@code y = silu(g)·u}. */
    void swiGlu(long y, long g, long u, int n);

    /** Gradients of swiGlu. */
    void swiGluBackward(long dg, long du, long dy, long g, long u, int n);

    /** {@code y = gelu(g)·u} with gelu's tanh form, see {@link org.qlora4j.nf4.device.Ops#geGlu}. */
    void geGlu(long y, long g, long u, int n);

    /** Gradients of geGlu. */
    void geGluBackward(long dg, long du, long dy, long g, long u, int n);

    /** {@code y = cap·tanh(scale·x/cap)}; y may be x. */
    void softcap(long y, long x, float scale, float cap, int n);

    /** {@code dx = scale·dy·(1 − (y/cap)²)}; dx may be dy. */
    void softcapBackward(long dx, long dy, long y, float scale, float cap, int n);

    /** {@code (a, b) ← (a·cos − b·sin, b·cos + a·sin)} of one head of 2·half elements. */
    void rotate(long head, long cos, long sin, float sign, int half);

    /** bf16 to fp32. */
    void widenBf16(long y, long x, int n);

    /** fp32 to bf16, to nearest even; NaN stays NaN. */
    void narrowBf16(long y, long x, int n);

    /** Σ x² in double. */
    double sumOfSquares(long x, int n);

    /**
     * {@code y = factor·x} where {@link org.qlora4j.nf4.device.Dropout} keeps {@code index + i}, else 0. y may be x.
     */
    void dropout(long y, long x, float factor, int threshold, long seed, long index, int n);

    /** LLM.int8's codes to fp32: {@code y = code · absmax · (1/127)}, two roundings. */
    void decode8(long y, long codes, float absmax, int n);

    /**
     * {@code y[r] = Σ code·x} of {@code rows} rows of n signed bytes, {@code stride} bytes apart.
     *
     * @param permuted x as {@link #permuteInt8} leaves it
     */
    void dotsInt8(long y, long first, int stride, int rows, long permuted, int n);

    /** x in the order in which {@link #dotsInt8} meets the codes. */
    void permuteInt8(long y, long x, int n);

    /**
     * {@code y[r] = row r · x} of {@code rows} rows of n bf16 values, {@code stride} values apart.
     *
     * @param permuted x as {@link #permuteBf16} leaves it
     */
    void dotsBf16(long y, long first, int stride, int rows, long permuted, int n);

    /** x in the order in which {@link #dotsBf16} meets the weights. */
    void permuteBf16(long y, long x, int n);

    /**
     * 4-bit codes to fp32, whole blocks of 64 elements of one absmax each or more: {@code y[i] = code[nibble
     * i]·absmax[i / blockSize]}, to the bit as libbitsandbytes.
     *
     * @param table 16 decoded values in fp32
     * @param packed first byte; the first element is in its high nibble
     * @param n elements, a multiple of the block size; the block size at least 32
     */
    void decode4(long y, long table, long packed, long absmax, int blockSize, int n);

    /**
     * {@code y[r] = Σ w[r]·x}, w being rows of 4-bit codes that start on block boundaries.
     *
     * @param packed first byte of the first row; rows and their blocks follow each other
     * @param absmax one fp32 per block
     * @param permuted x as {@link #permute4} leaves it
     * @param n elements of a row, a multiple of 64; the block size at least 64
     */
    void dot4(long y, int rows, long table, long packed, long absmax, int blockSize, long permuted, int n);

    /** {@code y[r] = x · row r} of {@code rows} rows of n floats, {@code stride} floats apart. */
    void dots(long y, long x, long first, int stride, int rows, int n);

    /** {@code y = Σ weights[r] · row r}, rows as in {@link #dots}. */
    void weightedSum(long y, long weights, long first, int stride, int rows, int n);

    /**
     * x in the order in which {@link #dot4} meets the weights.
     *
     * @param y room for {@link #permutedFloats} floats
     */
    void permute4(long y, long x, int n);

    /** Room for n elements in any kernel's order: whole chunks of 128. */
    static int permutedFloats(int n) {
        return Math.addExact(n, 127) & -128;
    }

    /** The optimizers' loops of the same kind. */
    OptimizerKernels optimizers();

    /** The vector twin if the module is there; the log says once which. */
    static Kernels best() {
        return Best.KERNELS;
    }

    /** Chosen once, so that the log has it once. */
    final class Best {
        static final Kernels KERNELS = choose();

        private Best() {}

        private static Kernels choose() {
            System.Logger log = System.getLogger(Kernels.class.getName());
            if (ModuleLayer.boot().findModule("jdk.incubator.vector").isPresent()) {
                log.log(System.Logger.Level.DEBUG, "the cpu device runs Vector API loops");
                return new VectorKernels();
            }
            log.log(
                    System.Logger.Level.WARNING,
                    "the module jdk.incubator.vector is missing, so the cpu device runs scalar loops, many times slower; start java with --add-modules jdk.incubator.vector");
            return new ScalarKernels();
        }
    }
}
