package org.qlora4j.samples;

import java.io.PrintStream;
import java.util.Locale;
import org.qlora4j.optim.memory.MemoryEstimate;

/**
 * The estimate that many write-ups of QLoRA repeat, to see it beside ours: 4.05 bits for every parameter, 5 to 7 GB of
 * activations, 1.5 GB of adapters and optimizer, 1 to 2 GB of other things. For Qwen3-14B it is given as 7.08 + 5-7 +
 * 1.5 + 1-2 = 13.58-16.08 GB.
 *
 * @param nominal the parameters in the model's name: billions, rounded down
 */
record RuleOfThumb(long nominal) {
    private static final double BITS = 4.05;

    static RuleOfThumb of(MemoryEstimate estimate) {
        long all = estimate.parameters().all();
        long billion = 1_000_000_000;
        return new RuleOfThumb(all < billion ? all : all / billion * billion);
    }

    long weightBytes() {
        return (long) (nominal * BITS / 8);
    }

    /** As it is given: the sum of the write-ups, which leaves out one of its own terms. */
    long lowBytes() {
        return weightBytes() + 6_500_000_000L;
    }

    long highBytes() {
        return weightBytes() + 9_000_000_000L;
    }

    /** Two fp32 moments for each parameter. */
    long fullAdamBytes() {
        return 8 * nominal;
    }

    /** @param activationBits of the device */
    void print(MemoryEstimate e, int activationBits, PrintStream out) {
        MemoryEstimate.Parameters p = e.parameters();
        out.printf(
                Locale.ROOT,
                "%nrule of thumb, often repeated: %.2f GB weights + 5-7 GB + 1.5 GB + 1-2 GB = %.2f-%.2f GB. Why it differs:%n",
                floor(weightBytes()),
                floor(lowBytes()),
                floor(highBytes()));
        if (p.quantized() > 0) {
            out.printf(
                    Locale.ROOT,
                    "  a quantized weight takes %.3f bits, not 4.05: 4 for its code, 0.127 for its share of the doubly quantized scales (0.5 without)%n"
                            + "  only linear layers are quantized: %.2fe9 of %.2fe9 parameters; embedding and output layer stay in 16 bits, so the base is %.2f GB, not %.2f%n",
                    p.bitsPerQuantizedWeight(),
                    p.quantized() / 1e9,
                    p.all() / 1e9,
                    e.baseBytes() / 1e9,
                    floor(weightBytes()));
        }
        out.printf(
                Locale.ROOT,
                "  adapters, gradients and optimizer follow from rank and targets: %.1f million parameters, %.2f GB, not 1.5%n"
                        + "  activations follow from tokens, checkpointing and layer sizes, not from a constant: %.2f GB here, %d-bit on this device%n"
                        + "  its terms do not add up to its sum: %.2f-%.2f GB%n"
                        + "full fine-tuning: Adam's state alone would take %.4g GB (8 bytes for each of %.4g billion parameters)%n",
                p.trained() / 1e6,
                (e.bytes("adapters") + e.bytes("gradients") + e.bytes("optimizer")) / 1e9,
                (e.bytes("checkpoints") + e.bytes("activations") + e.bytes("logits_chunk")) / 1e9,
                activationBits,
                floor(weightBytes() + 7_500_000_000L),
                floor(weightBytes() + 10_500_000_000L),
                fullAdamBytes() / 1e9,
                nominal / 1e9);
    }

    /** GB with the two decimals the write-ups give: cut, not rounded. */
    private static double floor(long bytes) {
        return Math.floor(bytes / 1e7) / 100;
    }
}
