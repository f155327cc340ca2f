package org.qlora4j.nf4.device.cpu;

import org.qlora4j.nf4.weight.Blockwise8;
import org.qlora4j.nf4.weight.DynamicMap;

/**
 * 8-bit codes of one kind of optimizer state. The nearest code is found without a search: the upper 16 bits of a float
 * (sign, exponent, 7 bits of fraction) pick an entry that holds the code at the start of this bucket and where in it
 * the next code begins; no bucket is wide enough for two borders. Entries equal {@link Blockwise8#nearestCode} for
 * every float (tested).
 */
final class DynamicCodes {
    /** bitsandbytes' signed map; nearest codes keep the sign, so that a small negative average does not become 0. */
    static final DynamicCodes SIGNED = new DynamicCodes(DynamicMap.signed(), Blockwise8.Rule.NEAREST, true);

    /** The unsigned map, nearest codes. */
    static final DynamicCodes UNSIGNED = new DynamicCodes(DynamicMap.unsigned(), Blockwise8.Rule.NEAREST, false);

    /** The signed map by the CPU library's table. */
    static final DynamicCodes SIGNED_TABLE = new DynamicCodes(DynamicMap.signed(), Blockwise8.Rule.TABLE, false);

    /** The unsigned map by the CPU library's table. */
    static final DynamicCodes UNSIGNED_TABLE = new DynamicCodes(DynamicMap.unsigned(), Blockwise8.Rule.TABLE, false);

    /** Upper half of 2^-24, below which every number is nearest to 0. */
    static final int FIRST_BUCKET = 0x3380;

    /** Buckets from 2^-24 to 1. */
    static final int BUCKETS = 0x3F80 - FIRST_BUCKET + 1;

    private final float[] map;
    private final Blockwise8 rules;
    private final Blockwise8.Rule rule;
    private final boolean keepSign;
    private final int[] entries = new int[2 * BUCKETS];

    private DynamicCodes(float[] map, Blockwise8.Rule rule, boolean keepSign) {
        this.map = map;
        this.rules = new Blockwise8(map);
        this.rule = rule;
        this.keepSign = keepSign;
        for (int bucket = 0; bucket < BUCKETS; bucket++) {
            entries[bucket] = entry(FIRST_BUCKET + bucket << 16);
            entries[BUCKETS + bucket] = entry(FIRST_BUCKET + bucket << 16 | 0x8000_0000);
        }
    }

    static DynamicCodes of(Blockwise8.Rule rule, boolean signed) {
        return switch (rule) {
            case NEAREST -> signed ? SIGNED : UNSIGNED;
            case TABLE -> signed ? SIGNED_TABLE : UNSIGNED_TABLE;
        };
    }

    /** Code of the bucket's first number in the upper half, last fraction bits with that code in the lower half. */
    private int entry(int firstBits) {
        int code = searched(Float.intBitsToFloat(firstBits));
        int low = 0;
        int high = 0xFFFF;
        while (low < high) {
            int middle = (low + high + 1) / 2;
            if (searched(Float.intBitsToFloat(firstBits | middle)) == code) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return code << 16 | low;
    }

    private int searched(float v) {
        int code = rules.nearestCode(v) & 0xFF;
        boolean negative = Float.floatToRawIntBits(v) < 0;
        if (keepSign && Float.floatToRawIntBits(map[code]) < 0 != negative) {
            return code + (v > 0 ? 1 : -1) & 0xFF;
        }
        return code;
    }

    /** Whether codes are the nearest ones, which {@link #entries} tell. */
    boolean isNearest() {
        return rule == Blockwise8.Rule.NEAREST;
    }

    /** The 256 values, not to be changed. */
    float[] values() {
        return map;
    }

    /**
     * For each bucket, first those of positive numbers, the code and behind which last fraction bits it moves by one.
     */
    int[] entries() {
        return entries;
    }

    /** The value of a code. */
    float value(byte code) {
        return map[code & 0xFF];
    }

    /** The code of {@code x}, at most absmax in size. */
    byte code(float x, float absmax) {
        if (rule == Blockwise8.Rule.TABLE) {
            return rules.tableCode(x * (1f / absmax));
        }
        return absmax == 0 ? (byte) searched(Float.NaN) : nearest(x / absmax);
    }

    private byte nearest(float v) {
        int bits = Float.floatToRawIntBits(v);
        int size = bits & 0x7FFF_FFFF;
        int bucket = Math.max(0, Math.min(BUCKETS - 1, (size >>> 16) - FIRST_BUCKET));
        int entry = entries[bits < 0 ? BUCKETS + bucket : bucket];
        // numbers below the first bucket have its code: no border lies in it, so its fraction bits are never exceeded
        return (byte) ((entry >>> 16) + ((size & 0xFFFF) > (entry & 0xFFFF) ? bits >> 31 | 1 : 0));
    }
}
