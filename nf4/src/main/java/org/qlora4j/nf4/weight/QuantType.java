package org.qlora4j.nf4.weight;

/** The two 4-bit number formats of bitsandbytes. Both store {@code code[nibble] * absmax} per block of elements. */
public enum QuantType {
    /**
     * NormalFloat: 16 quantiles of a normal distribution, scaled to [-1, 1].
     *
     * @see <a href="https://arxiv.org/abs/2305.14314">Dettmers et al. 2023, appendix E</a>
     */
    NF4("nf4", new float[] {
        -1.0f,
        -0.6961928009986877f,
        -0.5250730514526367f,
        -0.39491748809814453f,
        -0.28444138169288635f,
        -0.18477343022823334f,
        -0.09105003625154495f,
        0.0f,
        0.07958029955625534f,
        0.16093020141124725f,
        0.24611230194568634f,
        0.33791524171829224f,
        0.44070982933044434f,
        0.5626170039176941f,
        0.7229568362236023f,
        1.0f
    }),

    /** A 4-bit float: sign in bit 3, two exponent bits, one mantissa bit, divided by its largest value 12. */
    FP4("fp4", new float[] {
        0.0f,
        0.0052083334885537624f,
        0.6666666865348816f,
        1.0f,
        0.3333333432674408f,
        0.5f,
        0.1666666716337204f,
        0.25f,
        0.0f,
        -0.0052083334885537624f,
        -0.6666666865348816f,
        -1.0f,
        -0.3333333432674408f,
        -0.5f,
        -0.1666666716337204f,
        -0.25f
    });

    private static final int MIN_BLOCK_SIZE = 32;
    private static final int MAX_BLOCK_SIZE = 4096;

    private final String bnbName;
    private final Codebook codebook;

    QuantType(String bnbName, float[] values) {
        this.bnbName = bnbName;
        this.codebook = new Codebook(values);
    }

    /** The name in checkpoints and configurations: {@code nf4} or {@code fp4}. */
    public String bnbName() {
        return bnbName;
    }

    /** The 16 values and the rule that picks one. */
    public Codebook codebook() {
        return codebook;
    }

    /**
     * Reads a bitsandbytes name.
     *
     * @throws IllegalArgumentException for any other text
     */
    public static QuantType ofBnbName(String name) {
        for (QuantType type : values()) {
            if (type.bnbName.equals(name)) {
                return type;
            }
        }
        throw new IllegalArgumentException("unknown 4-bit quant_type '" + name + "'; expected nf4 or fp4");
    }

    /**
     * Returns {@code blockSize} if bitsandbytes has it for 4-bit weights.
     *
     * @throws IllegalArgumentException unless it is a power of two from 32 to 4096
     */
    public static int checkBlockSize(int blockSize) {
        if (blockSize < MIN_BLOCK_SIZE || blockSize > MAX_BLOCK_SIZE || Integer.bitCount(blockSize) != 1) {
            throw new IllegalArgumentException("the block size of a 4-bit weight must be a power of two from "
                    + MIN_BLOCK_SIZE + " to " + MAX_BLOCK_SIZE + ", got " + blockSize);
        }
        return blockSize;
    }
}
