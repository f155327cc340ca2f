package org.qlora4j.lora.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.qlora4j.nf4.file.ModelFormatException;
import org.qlora4j.nf4.file.Safetensors;
import org.qlora4j.nf4.file.StoredTensor;

/**
 * Adapters of mlx-lm: adapters.safetensors with {@code lora_a} [in, rank], {@code lora_b} [rank, out] (PEFT's
 * transposed), DoRA's lengths as {@code m}, and {@code scale} in the place of α/r.
 *
 * @see <a href="https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/LORA.md">mlx-lm's documentation</a>
 */
final class MlxAdapter {
    private static final String WEIGHTS = "adapters.safetensors";
    private static final String A = ".lora_a";
    private static final String B = ".lora_b";
    private static final String M = ".m";

    private MlxAdapter() {}

    static boolean isIn(Path folder) {
        return Files.isRegularFile(folder.resolve(WEIGHTS))
                && !Files.isRegularFile(folder.resolve(AdapterFiles.WEIGHTS));
    }

    /** @throws ModelFormatException if it is no LoRA, or parts of pairs are missing */
    static LoraConfig readConfig(Path folder, ObjectNode json) {
        Path file = folder.resolve(AdapterFiles.CONFIG);
        String type = json.path("fine_tune_type").asText("lora");
        if (!type.equals("lora") && !type.equals("dora")) {
            throw new ModelFormatException(file, "fine_tune_type " + type + " is not supported; supported: lora, dora");
        }
        JsonNode scale = json.path("lora_parameters").path("scale");
        if (!scale.isNumber()) {
            throw new ModelFormatException(file, "lora_parameters has no scale");
        }
        Map<String, Integer> ranks = ranks(folder);
        int largest = ranks.values().stream()
                .mapToInt(Integer::intValue)
                .max()
                .orElseThrow(() ->
                        new ModelFormatException(folder.resolve(WEIGHTS), "holds no tensor whose name ends in lora_a"));
        Map<String, Integer> rankPattern = new LinkedHashMap<>();
        Map<String, Double> alphaPattern = new LinkedHashMap<>();
        ranks.forEach((module, rank) -> {
            if (rank != largest) {
                String name = module.replace(".", "\\.");
                rankPattern.put(name, rank);
                alphaPattern.put(name, rank * scale.doubleValue());
            }
        });
        try {
            return LoraConfig.builder(largest, largest * scale.doubleValue())
                    .loraDropout(json.path("lora_parameters").path("dropout").doubleValue())
                    .targetModules(new ModuleSelector.Names(new TreeSet<>(ranks.keySet())))
                    .useDora(type.equals("dora"))
                    .rankPattern(rankPattern)
                    .alphaPattern(alphaPattern)
                    .ensureWeightTying(false)
                    .build();
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(file, String.valueOf(e.getMessage()), e);
        }
    }

    private static Map<String, Integer> ranks(Path folder) {
        Map<String, Integer> ranks = new TreeMap<>();
        try (Safetensors file = Safetensors.open(folder.resolve(WEIGHTS))) {
            for (String name : file.names()) {
                if (name.endsWith(A)) {
                    StoredTensor t = file.get(name);
                    if (t.rank() != 2 || t.dim(1) < 1 || t.dim(1) > 65536) {
                        throw new ModelFormatException(
                                t.file(), "tensor '" + name + "' must be [in, rank], found " + t.shape());
                    }
                    ranks.put(name.substring(0, name.length() - A.length()), (int) t.dim(1));
                }
            }
        }
        return ranks;
    }

    /** @throws ModelFormatException if names or shapes do not fit */
    static void readValues(LoraAdapter adapter, Path folder) {
        try (Safetensors file = Safetensors.open(folder.resolve(WEIGHTS))) {
            TreeSet<String> rest = new TreeSet<>(file.names());
            for (FileTensor tensor : FileTensor.of(adapter).values()) {
                String name = mlxName(tensor.spec().name());
                StoredTensor t = file.get(name);
                rest.remove(name);
                int n = Math.toIntExact(tensor.spec().elements());
                boolean vector = tensor.spec().shape().size() == 1;
                boolean fits = vector
                        ? t.shape().equals(tensor.spec().shape())
                        : t.shape().equals(tensor.spec().shape().reversed());
                if (!fits) {
                    throw new ModelFormatException(
                            t.file(),
                            "tensor '" + name + "' has shape " + t.shape() + ", expected PEFT's "
                                    + tensor.spec().shape() + " transposed");
                }
                float[] values = new float[n];
                file.readFloats(t, 0, n, values, 0);
                tensor.set().accept(vector ? values : FileTensor.transposed(values, (int) t.dim(0), (int) t.dim(1)));
            }
            if (!rest.isEmpty()) {
                throw new ModelFormatException(
                        folder.resolve(WEIGHTS), "holds more than LoRA pairs: '" + rest.first() + "'");
            }
        }
    }

    private static String mlxName(String peft) {
        String module = peft.substring(AdapterParts.fileName("", "").length());
        for (Map.Entry<String, String> e : Map.of(
                        AdapterParts.LORA_A, A,
                        AdapterParts.LORA_B, B,
                        AdapterParts.EMBEDDING_A, A,
                        AdapterParts.EMBEDDING_B, B,
                        AdapterParts.MAGNITUDE, M)
                .entrySet()) {
            if (module.endsWith(e.getKey())) {
                return module.substring(0, module.length() - e.getKey().length()) + e.getValue();
            }
        }
        throw new AssertionError("no name in mlx-lm for " + peft);
    }
}
