package org.qlora4j.lora.model;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.StoredTensor;

/**
 * Rotary frequencies in GGUF, both ways: numbers in the metadata, and tensors with what each frequency is divided by
 * where llama.cpp wants them written out (Llama 3's scaling, LongRoPE).
 */
public final class GgufRope {
    private static final String FREQS = "rope_freqs.weight";
    private static final String SHORT = "rope_factors_short.weight";
    private static final String LONG = "rope_factors_long.weight";
    /** SmolLM3: llama.cpp leaves out the rotary embedding of each fourth layer. */
    private static final int NO_ROPE_INTERVAL = 4;

    private GgufRope() {}

    static boolean isFactors(String gguf) {
        return gguf.equals(FREQS) || gguf.equals(SHORT) || gguf.equals(LONG);
    }

    static void put(GgufArchitecture architecture, ModelConfig c, Map<String, Object> map) {
        String rope = architecture.ggufName() + ".rope.";
        map.put(rope + "dimension_count", c.rotaryDim());
        if (c.rotaryDim() != c.headDim() && architecture != GgufArchitecture.PHI3) {
            throw missing(architecture, "partial_rotary_factor");
        }
        RopeScaling scaling = ofFullLayers(architecture, c);
        map.put(rope + "freq_base", (float) scaling.theta());
        if (architecture == GgufArchitecture.GEMMA3) {
            map.put(rope + "freq_base_swa", (float) ofWindows(c).theta());
        }
        switch (scaling) {
            case RopeScaling.Plain _ -> {}
            case RopeScaling.Linear linear -> {
                map.put(rope + "scaling.type", "linear");
                map.put(rope + "scaling.factor", (float) linear.factor());
            }
            case RopeScaling.Yarn yarn -> yarn(architecture, yarn, rope, map);
            case RopeScaling.Dynamic _ -> throw missing(architecture, "rope_type dynamic");
            case RopeScaling.Llama3 _ -> refuseUnlessLlama(architecture, "rope_type llama3");
            case RopeScaling.LongRope longRope -> {
                if (longRope.equals(sameForEveryLength(longRope))) {
                    refuseUnlessLlama(architecture, "one factor for each frequency");
                } else if (architecture == GgufArchitecture.PHI3) {
                    map.put(rope + "scaling.type", "longrope");
                    map.put(rope + "scaling.attn_factor", (float) longRope.attentionFactor());
                    map.put(rope + "scaling.original_context_length", longRope.originalMax());
                } else {
                    throw missing(architecture, "rope_type longrope");
                }
            }
        }
    }

    private static void yarn(
            GgufArchitecture architecture, RopeScaling.Yarn yarn, String rope, Map<String, Object> map) {
        if (architecture == GgufArchitecture.GEMMA3 || architecture == GgufArchitecture.PHI3) {
            throw missing(architecture, "rope_type yarn");
        }
        if (!yarn.truncate() || yarn.betaFast() != 32 || yarn.betaSlow() != 1) {
            // the metadata has names for the betas, which llama.cpp reads for other architectures only
            throw missing(architecture, "yarn with other values than truncate true, beta_fast 32, beta_slow 1");
        }
        map.put(rope + "scaling.type", "yarn");
        map.put(rope + "scaling.factor", (float) yarn.factor());
        map.put(rope + "scaling.original_context_length", (int) yarn.originalMax());
        double usual = RopeScaling.Yarn.mscale(yarn.factor(), 1);
        if (yarn.attentionFactor() != usual) {
            map.put(rope + "scaling.attn_factor", (float) (yarn.attentionFactor() / usual));
        }
    }

    /** The frequencies of the layers that see everything: all that have some, unless it is Gemma 3. */
    private static RopeScaling ofFullLayers(GgufArchitecture architecture, ModelConfig c) {
        RopeScaling first = null;
        for (int i = 0; i < c.numLayers(); i++) {
            LayerConfig layer = c.layers().get(i);
            boolean none = architecture == GgufArchitecture.SMOLLM3 && (i + 1) % NO_ROPE_INTERVAL == 0;
            if (none != (layer.rope() == null)) {
                throw missing(architecture, "such layers without rotary embedding");
            }
            boolean other = architecture == GgufArchitecture.GEMMA3 && layer.slidingWindow() > 0;
            if (layer.rope() != null && !other) {
                first = first == null ? layer.rope() : first;
                if (!first.equals(layer.rope())) {
                    throw missing(architecture, "layers that differ in rotary frequencies");
                }
            }
        }
        // a Gemma 3 of a few layers may have none that see everything
        return first == null ? ofWindows(c) : first;
    }

    private static RopeScaling ofWindows(ModelConfig c) {
        List<RopeScaling> all = c.layers().stream()
                .filter(layer -> layer.slidingWindow() > 0)
                .map(LayerConfig::rope)
                .distinct()
                .toList();
        if (all.size() == 1 && all.getFirst() instanceof RopeScaling.Plain plain) {
            return plain;
        }
        throw missing(GgufArchitecture.GEMMA3, "scaled frequencies in layers with a sliding window");
    }

    private static void refuseUnlessLlama(GgufArchitecture architecture, String what) {
        if (architecture != GgufArchitecture.LLAMA) {
            throw missing(architecture, what);
        }
    }

    private static UnsupportedModelException missing(GgufArchitecture architecture, String what) {
        return new UnsupportedModelException("llama.cpp's architecture " + architecture.ggufName() + " does not have "
                + what + ", so this model cannot be written to GGUF");
    }

    /** Factors that are no LongRoPE, but what {@link #read} makes of a file with Llama 3's. */
    private static RopeScaling.LongRope sameForEveryLength(RopeScaling.LongRope rope) {
        return new RopeScaling.LongRope(rope.theta(), rope.shortFactor(), rope.shortFactor(), 1, rope.originalMax());
    }

    /** Tensors with what each rotary frequency is divided by. */
    public static Map<String, float[]> factors(ModelConfig c) {
        Map<String, float[]> tensors = new LinkedHashMap<>();
        RopeScaling rope = ofFullLayers(GgufArchitecture.ofModelType(c.modelType()), c);
        if (rope instanceof RopeScaling.Llama3) {
            float[] factors = new RopeScaling.Plain(rope.theta()).inverseFrequencies(c.headDim());
            float[] scaled = rope.inverseFrequencies(c.headDim());
            for (int i = 0; i < factors.length; i++) {
                factors[i] /= scaled[i];
            }
            tensors.put(FREQS, factors);
        } else if (rope instanceof RopeScaling.LongRope longRope) {
            if (longRope.equals(sameForEveryLength(longRope))) {
                tensors.put(FREQS, floats(longRope.shortFactor()));
            } else {
                tensors.put(SHORT, floats(longRope.shortFactor()));
                tensors.put(LONG, floats(longRope.longFactor()));
            }
        }
        return tensors;
    }

    private static float[] floats(List<Double> values) {
        float[] floats = new float[values.size()];
        for (int i = 0; i < floats.length; i++) {
            floats[i] = values.get(i).floatValue();
        }
        return floats;
    }

    /** rope_scaling of config.json. */
    static void read(Gguf gguf, GgufArchitecture architecture, GgufKeys keys, ObjectNode json) {
        Object type = keys.text("rope.scaling.type", "none");
        Optional<StoredTensor> shortFactor = gguf.find(SHORT);
        Optional<StoredTensor> longFactor = gguf.find(LONG);
        if (gguf.find(FREQS).isPresent()) {
            // what each frequency is divided by: longrope, with the same factors for every length
            ObjectNode rope = json.putObject("rope_scaling").put("rope_type", "longrope");
            rope.put("factor", 1.0).put("attention_factor", 1.0);
            put(gguf, gguf.get(FREQS), rope.putArray("short_factor"));
            put(gguf, gguf.get(FREQS), rope.putArray("long_factor"));
        } else if (shortFactor.isPresent() && longFactor.isPresent()) {
            ObjectNode rope = json.putObject("rope_scaling").put("rope_type", "longrope");
            rope.put("attention_factor", keys.decimal("rope.scaling.attn_factor", 1));
            put(gguf, shortFactor.get(), rope.putArray("short_factor"));
            put(gguf, longFactor.get(), rope.putArray("long_factor"));
            json.put(
                    "original_max_position_embeddings",
                    keys.integer(
                            "rope.scaling.original_context_length",
                            json.path("max_position_embeddings").asInt()));
        } else if (type.equals("linear")) {
            json.putObject("rope_scaling")
                    .put("rope_type", "linear")
                    .put("factor", keys.decimal("rope.scaling.factor", 1));
        } else if (type.equals("yarn")) {
            yarn(keys, json);
        } else if (!type.equals("none") && !(type.equals("longrope") && architecture == GgufArchitecture.PHI3)) {
            throw new UnsupportedModelException(gguf.location() + ": rope.scaling.type '" + type
                    + "' is not supported with architecture " + architecture.ggufName()
                    + "; supported: none, linear, yarn, and longrope with phi3");
        }
    }

    private static void yarn(GgufKeys keys, ObjectNode json) {
        double factor = keys.decimal("rope.scaling.factor", 1);
        double usual = RopeScaling.Yarn.mscale(factor, 1);
        json.putObject("rope_scaling")
                .put("rope_type", "yarn")
                .put("factor", factor)
                .put(
                        "original_max_position_embeddings",
                        keys.integer(
                                "rope.scaling.original_context_length",
                                json.path("max_position_embeddings").asInt()))
                .put("attention_factor", usual * keys.decimal("rope.scaling.attn_factor", 1));
    }

    private static void put(Gguf gguf, StoredTensor tensor, ArrayNode array) {
        float[] factors = new float[Math.toIntExact(tensor.elements())];
        gguf.readFloats(tensor, 0, factors.length, factors, 0);
        for (float factor : factors) {
            array.add(factor);
        }
    }
}
