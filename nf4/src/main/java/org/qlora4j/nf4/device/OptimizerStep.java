package org.qlora4j.nf4.device;

/**
 * The numbers of one step.
 *
 * @param rule what to do, with its constants
 * @param step t, from 1
 * @param learningRate lr
 * @param gradientScale factor on g before use: the clipping coefficient
 */
public record OptimizerStep(OptimizerRule rule, long step, double learningRate, double gradientScale) {}
