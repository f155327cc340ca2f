package org.qlora4j.lora.model;

/**
 * A layer whose feed-forward half is a mixture of experts.
 *
 * @param numExperts {@code num_experts}, {@code num_local_experts} in files of transformers 5
 * @param numExpertsPerTok {@code num_experts_per_tok}: how many experts a token goes through
 * @param moeIntermediateSize {@code moe_intermediate_size}: width of one expert
 * @param normTopkProb {@code norm_topk_prob}: whether the chosen experts' probabilities are divided by their sum
 */
public record ExpertsConfig(int numExperts, int numExpertsPerTok, int moeIntermediateSize, boolean normTopkProb) {
    static final int MAX_EXPERTS = 4096;

    public ExpertsConfig {
        ModelConfig.check("num_experts", numExperts, 1, MAX_EXPERTS);
        ModelConfig.check("num_experts_per_tok", numExpertsPerTok, 1, numExperts);
        ModelConfig.check("moe_intermediate_size", moeIntermediateSize, 1, ModelConfig.MAX_WIDTH);
    }
}
