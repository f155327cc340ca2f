package org.qlora4j.nf4.device.cuda;

import java.util.Locale;

/**
 * The launch table: every kernel with the unit it is compiled in and its parameters. A test holds it against what NVRTC
 * makes of the units.
 *
 * <p>A signature has one letter for each parameter: P a pointer, I a 32-bit and L a 64-bit integer, F an fp32. The C
 * name is the constant's in small letters.
 */
enum CudaKernel {
    // activation.cu
    SWIGLU("activation.cu", "PIPIPIII"),
    SWIGLU_BACKWARD("activation.cu", "PIPIPIPIPIII"),
    GEGLU("activation.cu", "PIPIPIII"),
    GEGLU_BACKWARD("activation.cu", "PIPIPIPIPIII"),
    SOFTCAP("activation.cu", "PIPIIIF"),
    SOFTCAP_BACKWARD("activation.cu", "PIPIPIIIF"),

    // attention.cu: one of each for head sizes up to 64, 128, 256
    ATTENTION_DELTA("attention.cu", "PIPIPIII"),
    ATTENTION_FORWARD_64("attention.cu", "PIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_KEYS_64("attention.cu", "PIPIPIPIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_QUERIES_64("attention.cu", "PIPIPIPIPIPIPIPPIIIIFF"),
    ATTENTION_FORWARD_128("attention.cu", "PIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_KEYS_128("attention.cu", "PIPIPIPIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_QUERIES_128("attention.cu", "PIPIPIPIPIPIPIPPIIIIFF"),
    ATTENTION_FORWARD_256("attention.cu", "PIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_KEYS_256("attention.cu", "PIPIPIPIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_QUERIES_256("attention.cu", "PIPIPIPIPIPIPIPPIIIIFF"),

    // attention_decode.cu
    ATTENTION_DECODE_64("attention_decode.cu", "PPIIIIPIPIPIPPIIIIFF"),
    ATTENTION_DECODE_128("attention_decode.cu", "PPIIIIPIPIPIPPIIIIFF"),
    ATTENTION_DECODE_256("attention_decode.cu", "PPIIIIPIPIPIPPIIIIFF"),
    ATTENTION_DECODE_MERGE("attention_decode.cu", "PIPIPPII"),

    // attention_wide.cu: head sizes up to 512
    ATTENTION_FORWARD_512("attention_wide.cu", "PIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_KEYS_512("attention_wide.cu", "PIPIPIPIPIPIPIPIPPIIIIFF"),
    ATTENTION_BACKWARD_QUERIES_512("attention_wide.cu", "PIPIPIPIPIPIPIPPIIIIFF"),

    // dequantize.cu
    DEQUANTIZE_4BIT_BF16("dequantize.cu", "PIPPPPIFIIPII"),
    DEQUANTIZE_4BIT_F32("dequantize.cu", "PIPPPPIFIIPII"),
    DEQUANTIZE_INT8_BF16("dequantize.cu", "PIPIPPII"),
    DEQUANTIZE_INT8_F32("dequantize.cu", "PIPIPPII"),

    // elementwise.cu
    ADD_BF16_BF16("elementwise.cu", "PIPIIIF"),
    ADD_BF16_F32("elementwise.cu", "PIPIIIF"),
    ADD_F32_BF16("elementwise.cu", "PIPIIIF"),
    ADD_F32_F32("elementwise.cu", "PIPIIIF"),
    ADD_BIAS_BF16("elementwise.cu", "PIPII"),
    ADD_BIAS_F32("elementwise.cu", "PIPII"),
    SCALE_COLUMNS_BF16("elementwise.cu", "PIPIPIIF"),
    SCALE_COLUMNS_F32("elementwise.cu", "PIPIPIIF"),
    SCALE_ROWS("elementwise.cu", "PIPIPII"),
    FILL_BF16("elementwise.cu", "PIIIF"),
    FILL_F32("elementwise.cu", "PIIIF"),
    DROPOUT_BF16("elementwise.cu", "PIPIIILIF"),
    DROPOUT_F32("elementwise.cu", "PIPIIILIF"),

    // loss.cu
    CROSS_ENTROPY("loss.cu", "PPPIPIFF"),

    // norm.cu
    RMS_NORM("norm.cu", "PIPPIPIIF"),
    RMS_NORM_BACKWARD("norm.cu", "PIPIPIPPIIF"),

    // reduce.cu
    SUM_OF_SQUARES_BF16("reduce.cu", "PPIII"),
    SUM_OF_SQUARES_F32("reduce.cu", "PPIII"),
    SUM_PARTIALS("reduce.cu", "PPI"),
    ROW_DOTS("reduce.cu", "PPIPIII"),
    INVERSE_ROW_NORMS_BF16("reduce.cu", "PPIII"),
    INVERSE_ROW_NORMS_F32("reduce.cu", "PPIII"),
    COLUMN_DOTS("reduce.cu", "PPIPIII"),

    // rope.cu
    ROPE("rope.cu", "PIPIPIPIIIII"),

    // routing.cu
    TOP_K_SOFTMAX("routing.cu", "PIPPIIIII"),
    TOP_K_SOFTMAX_BACKWARD("routing.cu", "PIPIPIPPIIIII"),

    // rows.cu
    COPY_ROWS_16("rows.cu", "PIPIPII"),
    COPY_ROWS_32("rows.cu", "PIPIPII"),
    CAST_ROWS_BF16_F32("rows.cu", "PIPIPII"),
    CAST_ROWS_BF16_F16("rows.cu", "PIPIPII"),
    CAST_ROWS_F16_F32("rows.cu", "PIPIPII"),
    CAST_ROWS_F16_BF16("rows.cu", "PIPIPII"),
    CAST_ROWS_F32_BF16("rows.cu", "PIPIPII"),
    CAST_ROWS_F32_F16("rows.cu", "PIPIPII"),
    SCATTER_ROWS_16("rows.cu", "PIPIPII"),
    SCATTER_ROWS_32("rows.cu", "PIPIPII"),
    EMBEDDING_BACKWARD_F32("rows.cu", "PIPPIII"),
    EMBEDDING_BACKWARD_BF16("rows.cu", "PIPPIII");

    private final String unit;
    private final String signature;

    CudaKernel(String unit, String signature) {
        this.unit = unit;
        this.signature = signature;
    }

    /** The name of its {@code extern "C"} function. */
    String functionName() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** The resource beside this class that holds it. */
    String unit() {
        return unit;
    }

    /** One letter a parameter. */
    String signature() {
        return signature;
    }
}
