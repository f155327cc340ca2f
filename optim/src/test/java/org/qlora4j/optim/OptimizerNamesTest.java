package org.qlora4j.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.qlora4j.nf4.device.OptimizerRule;
import org.qlora4j.nf4.weight.Blockwise8;

class OptimizerNamesTest {
    private static final OptimizerNames.Constants CONSTANTS = new OptimizerNames.Constants(0.8, 0.9, 1e-7, 0.1);

    @ParameterizedTest
    @CsvSource({
        "adamw_torch, AdamW, false, false",
        "adamw_torch_fused, AdamW, false, false",
        "adamw_8bit, AdamW, true, false",
        "adamw_bnb_8bit, AdamW, true, false",
        "paged_adamw, AdamW, false, true",
        "paged_adamw_32bit, AdamW, false, true",
        "paged_adamw_8bit, AdamW, true, true",
        "lion_32bit, Lion, false, false",
        "lion_8bit, Lion, true, false",
        "paged_lion_32bit, Lion, false, true",
        "paged_lion_8bit, Lion, true, true",
        "sgd, Sgd, false, false",
        "rmsprop, RmsProp, false, false",
        "rmsprop_bnb, RmsProp, false, false",
        "rmsprop_bnb_8bit, RmsProp, true, false",
        "adagrad, Adagrad, false, false",
        "ademamix, AdEmaMix, false, false",
        "ademamix_8bit, AdEmaMix, true, false",
        "paged_ademamix_32bit, AdEmaMix, false, true",
        "paged_ademamix_8bit, AdEmaMix, true, true"
    })
    void eachNameIsARuleAndALayout(String name, String rule, boolean eightBit, boolean paged) {
        OptimizerConfig config = OptimizerNames.config(name, CONSTANTS, "");
        assertEquals(rule, config.rule().getClass().getSimpleName());
        assertEquals(new OptimizerConfig.Layout(eightBit, paged, Blockwise8.Rule.NEAREST), config.layout());
        assertEquals(0.1, config.rule().weightDecay());
    }

    /** torch decays before the step, bitsandbytes' kernels after it, its CPU library before it. */
    @Test
    void whenAdamWDecays() {
        assertTrue(((OptimizerRule.AdamW) rule("adamw_torch", "")).decayFirst());
        assertEquals(new OptimizerRule.AdamW(0.8, 0.9, 1e-7, 0.1, false), rule("adamw_8bit", ""));
        assertEquals(new OptimizerRule.AdamW(0.8, 0.9, 1e-7, 0.1, true), rule("adamw_8bit", "rounding=table"));
        assertEquals(
                Blockwise8.Rule.TABLE,
                OptimizerNames.config("lion_8bit", CONSTANTS, "rounding=table")
                        .layout()
                        .rounding());
    }

    @Test
    void argumentsAsInTransformers() {
        assertEquals(new OptimizerRule.Sgd(0, 0.1), rule("sgd", ""));
        assertEquals(new OptimizerRule.Sgd(0.9, 0.1), rule("sgd", "momentum=0.9"));
        assertEquals(new OptimizerRule.RmsProp(0.99, 1e-8, 0.1), rule("rmsprop", ""));
        assertEquals(new OptimizerRule.RmsProp(0.9, 1e-6, 0.1), rule("rmsprop_bnb_8bit", "alpha=0.9, eps=1e-6"));
        assertEquals(new OptimizerRule.Lion(0.8, 0.9, 0.1), rule("paged_lion_8bit", ""));
        assertEquals(
                new OptimizerRule.AdEmaMix(0.8, 0.99, 0.9999, 8, 1e-7, 0.1, 100, 0, false),
                rule("ademamix", "beta2=0.99,alpha=8,t_alpha=100"));
    }

    private static OptimizerRule rule(String name, String arguments) {
        return OptimizerNames.config(name, CONSTANTS, arguments).rule();
    }

    @ParameterizedTest
    @ValueSource(strings = {"momentum=0.9", "rounding=table", "eps", "=1", "alpha=x"})
    void argumentsThatAnOptimizerDoesNotHaveAreRefused(String arguments) {
        String name = arguments.startsWith("alpha") ? "rmsprop" : "adamw_torch";
        String message = assertThrows(IllegalArgumentException.class, () -> rule(name, arguments))
                .getMessage();
        assertTrue(message.startsWith("optim_args"), message);
    }

    @Test
    void anUnknownNameIsRefusedWithTheNames() {
        String message = assertThrows(IllegalArgumentException.class, () -> rule("adafactor", ""))
                .getMessage();
        assertTrue(message.contains("'adafactor'") && message.contains("paged_adamw_8bit"), message);
    }
}
