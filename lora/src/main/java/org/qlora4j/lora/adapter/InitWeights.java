package org.qlora4j.lora.adapter;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** PEFT's {@code init_lora_weights}: how A and B start. */
public sealed interface InitWeights {
    /** The value in adapter_config.json; {@code true} and {@code false} are booleans there. */
    String peftName();

    /** {@code true}: A uniform in ±1/√in (kaiming_uniform with a = √5), B zero. */
    InitWeights TRUE = new Plain("true");

    /**
     * {@code false}: A as for true and B the same way, so that the adapter changes the model from the start; for tests.
     */
    InitWeights FALSE = new Plain("false");

    /** {@code gaussian}: A normal with deviation 1/r, B zero. */
    InitWeights GAUSSIAN = new Plain("gaussian");

    /** {@link #TRUE}, {@link #FALSE} or {@link #GAUSSIAN}. */
    record Plain(String peftName) implements InitWeights {}

    /**
     * The r largest singular values and vectors of W, halved between A and B; the frozen part is W without them.
     *
     * @param iterations of subspace iteration ({@code pissa_niter_N}); {@link #CONVERGED} until nothing changes
     * @see <a href="https://arxiv.org/abs/2404.02948">Meng et al. 2024</a>
     */
    record Pissa(int iterations) implements InitWeights {
        public static final int CONVERGED = -1;

        @Override
        public String peftName() {
            return iterations == CONVERGED ? "pissa" : "pissa_niter_" + iterations;
        }
    }

    /**
     * The first r columns of Q and rows of R of W = Q·R; the frozen part is W without their product.
     *
     * @see <a href="https://arxiv.org/abs/2406.01775">Büyükakyüz 2024</a>
     */
    record Olora() implements InitWeights {
        @Override
        public String peftName() {
            return "olora";
        }
    }

    /**
     * The r largest singular values and vectors of what quantization lost of W: base and adapter together start closer
     * to the original than the base alone. One iteration, as PEFT's {@code replace_lora_weights_loftq}: on a quantized
     * base that stays what it is this is the closest pair of its rank, so further ones would change nothing.
     *
     * @see <a href="https://arxiv.org/abs/2310.08659">Li et al. 2023</a>
     */
    record Loftq() implements InitWeights {
        @Override
        public String peftName() {
            return "loftq";
        }
    }

    /** Any other way, of an adapter that was made elsewhere and whose start is over. */
    record Foreign(String peftName) implements InitWeights {}

    /** True if the start changes the frozen part, so that saving has to take it off again. */
    default boolean changesTheBase() {
        return this instanceof Pissa || this instanceof Olora;
    }

    /** Reads a value. @throws IllegalArgumentException for one that is not supported */
    static InitWeights of(String text) {
        String name = text.toLowerCase(Locale.ROOT);
        Matcher niter = Pattern.compile("pissa_niter_(\\d{1,4})").matcher(name);
        if (niter.matches()) {
            return new Pissa(Integer.parseInt(niter.group(1)));
        }
        if (name.startsWith("loftq_iter")) {
            throw new IllegalArgumentException("init_weights '" + text + "' is not supported: more iterations of LoftQ"
                    + " quantize another base, which would have to be kept beside every adapter; take loftq");
        }
        return switch (name) {
            case "true" -> TRUE;
            case "false" -> FALSE;
            case "gaussian" -> GAUSSIAN;
            case "pissa" -> new Pissa(Pissa.CONVERGED);
            case "olora" -> new Olora();
            case "loftq" -> new Loftq();
            default ->
                throw new IllegalArgumentException("init_weights '" + text
                        + "' is not supported; supported: true, false, gaussian, pissa, pissa_niter_N, olora, loftq");
        };
    }
}
