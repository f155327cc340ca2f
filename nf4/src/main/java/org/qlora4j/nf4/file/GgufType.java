package org.qlora4j.nf4.file;

import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.qlora4j.nf4.tensor.DType;

/**
 * The element types of GGUF that can be read, with ggml's numbers and block sizes.
 *
 * @see <a href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md">the format</a>
 */
public enum GgufType implements StorageType {
    F32(0, DType.F32),
    F16(1, DType.F16),
    Q4_0(2, 32, 18),
    Q4_1(3, 32, 20),
    Q5_0(6, 32, 22),
    Q5_1(7, 32, 24),
    Q8_0(8, 32, 34),
    Q2_K(10, 256, 84),
    Q3_K(11, 256, 110),
    Q4_K(12, 256, 144),
    Q5_K(13, 256, 176),
    Q6_K(14, 256, 210),
    Q8_K(15, 256, 292),
    IQ4_NL(20, 32, 18),
    IQ4_XS(23, 256, 136),
    I8(24, DType.I8),
    I16(25, DType.I16),
    I32(26, DType.I32),
    I64(27, DType.I64),
    F64(28, DType.F64),
    BF16(30, DType.BF16);

    /** ggml's names by number, for the message when a type is refused. */
    private static final List<String> GGML_NAMES = List.of(
            "F32",
            "F16",
            "Q4_0",
            "Q4_1",
            "Q4_2",
            "Q4_3",
            "Q5_0",
            "Q5_1",
            "Q8_0",
            "Q8_1",
            "Q2_K",
            "Q3_K",
            "Q4_K",
            "Q5_K",
            "Q6_K",
            "Q8_K",
            "IQ2_XXS",
            "IQ2_XS",
            "IQ3_XXS",
            "IQ1_S",
            "IQ4_NL",
            "IQ3_S",
            "IQ2_S",
            "IQ4_XS",
            "I8",
            "I16",
            "I32",
            "I64",
            "F64",
            "IQ1_M",
            "BF16",
            "Q4_0_4_4",
            "Q4_0_4_8",
            "Q4_0_8_8",
            "TQ1_0",
            "TQ2_0",
            "IQ4_NL_4_4",
            "IQ4_NL_4_8",
            "IQ4_NL_8_8",
            "MXFP4",
            "NVFP4");

    private final int number;
    private final int blockSize;
    private final int blockBytes;
    private final @Nullable DType dtype;

    GgufType(int number, DType dtype) {
        this.number = number;
        this.blockSize = 1;
        this.blockBytes = dtype.bytes();
        this.dtype = dtype;
    }

    GgufType(int number, int blockSize, int blockBytes) {
        this.number = number;
        this.blockSize = blockSize;
        this.blockBytes = blockBytes;
        this.dtype = null;
    }

    /** ggml's number of the type, as stored in files. */
    public int number() {
        return number;
    }

    @Override
    public int blockSize() {
        return blockSize;
    }

    @Override
    public int blockBytes() {
        return blockBytes;
    }

    @Override
    public Optional<DType> dtype() {
        return Optional.ofNullable(dtype);
    }

    static Optional<GgufType> ofNumber(int number) {
        return Stream.of(values()).filter(type -> type.number == number).findFirst();
    }

    /** ggml's name of any type, also of one that cannot be read. */
    static String ggmlName(int number) {
        return number >= 0 && number < GGML_NAMES.size() ? GGML_NAMES.get(number) : "number " + number;
    }
}
