package org.qlora4j.lora.model;

/**
 * How the numbers of a tensor differ between Hugging Face and GGUF: llama.cpp wants Gemma's norms as 1 + w, and derives
 * Gemma's factor on the scores from the sizes, so that another one (query_pre_attn_scalar) goes into the queries.
 *
 * @param add is added to Hugging Face's numbers
 * @param factor is multiplied to the sum
 */
public record GgufValues(float add, float factor) {
    static final GgufValues SAME = new GgufValues(0, 1);

    /** What a tensor of Hugging Face needs. */
    public static GgufValues of(ModelConfig c, String huggingFace) {
        String queries = c.qkNorm() == QkNorm.NONE ? ".self_attn.q_proj.weight" : ".self_attn.q_norm.weight";
        return new GgufValues(
                c.normAddsOne() && huggingFace.endsWith("norm.weight") ? 1 : 0,
                huggingFace.endsWith(queries) ? (float) (c.attentionScale() * Math.sqrt(scoreDim(c))) : 1);
    }

    /** What llama.cpp divides the scores by the root of: it tells the largest Gemmas by their number of layers. */
    static int scoreDim(ModelConfig c) {
        return scoreDim(c.modelType(), c.numLayers(), c.hiddenSize(), c.numHeads(), c.headDim());
    }

    static int scoreDim(String modelType, int layers, int hidden, int heads, int headDim) {
        boolean largest = modelType.equals("gemma2") && layers == 46 || modelType.equals("gemma3_text") && layers == 62;
        return largest ? hidden / heads : headDim;
    }

    /** From Hugging Face's numbers to those of GGUF, in place. */
    public void toGguf(float[] values, int count) {
        if (add != 0 || factor != 1) {
            for (int i = 0; i < count; i++) {
                values[i] = (values[i] + add) * factor;
            }
        }
    }

    /** The way back; the factor stays, as the config.json made from the file knows of none. */
    void fromGguf(float[] values, int offset, int count) {
        if (add != 0) {
            for (int i = offset; i < offset + count; i++) {
                values[i] -= add;
            }
        }
    }
}
