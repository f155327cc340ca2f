package org.qlora4j.nf4.tensor;

import java.util.Locale;

/** Element types of tensors and files, named as safetensors names them. */
public enum DType {
    F64(8),
    F32(4),
    F16(2),
    BF16(2),
    I64(8),
    I32(4),
    I16(2),
    I8(1),
    U8(1),
    BOOL(1);

    private final int bytes;

    DType(int bytes) {
        this.bytes = bytes;
    }

    /** Size of one element in bytes. */
    public int bytes() {
        return bytes;
    }

    /** True for F64, F32, F16 and BF16. */
    public boolean isFloat() {
        return this == F64 || this == F32 || this == F16 || this == BF16;
    }

    /** F32 in the place of 16-bit floating point types, else this type: what sums and parameters are kept in. */
    public DType precise() {
        return this == F16 || this == BF16 ? F32 : this;
    }

    /** The name torch and config.json use, e.g. {@code bfloat16}. */
    public String torchName() {
        return switch (this) {
            case F64 -> "float64";
            case F32 -> "float32";
            case F16 -> "float16";
            case BF16 -> "bfloat16";
            case I64 -> "int64";
            case I32 -> "int32";
            case I16 -> "int16";
            case I8 -> "int8";
            case U8 -> "uint8";
            case BOOL -> "bool";
        };
    }

    /**
     * Reads a torch name ({@code bfloat16}, {@code torch.bfloat16}, {@code bf16}, {@code fp32} …).
     *
     * @throws IllegalArgumentException for any other text
     */
    public static DType ofTorchName(String name) {
        String n = name.toLowerCase(Locale.ROOT);
        if (n.startsWith("torch.")) {
            n = n.substring("torch.".length());
        }
        return switch (n) {
            case "float64", "double" -> F64;
            case "float32", "float", "fp32" -> F32;
            case "float16", "half", "fp16" -> F16;
            case "bfloat16", "bf16" -> BF16;
            case "int64" -> I64;
            case "int32" -> I32;
            case "int16" -> I16;
            case "int8" -> I8;
            case "uint8" -> U8;
            case "bool" -> BOOL;
            default ->
                throw new IllegalArgumentException(
                        "unknown dtype '" + name + "'; expected one of float32, bfloat16, float16, float64");
        };
    }
}
