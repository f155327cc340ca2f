package org.qlora4j.lora.adapter;

/**
 * Start values of a pair on the host.
 *
 * @param a [rank, in features], row by row
 * @param b [out features, rank], row by row
 */
record LowRankFactors(float[] a, float[] b) {}
