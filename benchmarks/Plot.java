import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Predicate;
import org.qlora4j.optim.report.Charts;

/**
 * The pictures of docs/benchmarks.md. Plot scaling FILE.jsonl FOLDER draws what scaling_cpu.sh measured; Plot bars
 * FILE.json PICTURE.png TITLE draws an object of names and seconds.
 */
class Plot {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int LENGTH = 256;

    public static void main(String[] args) throws IOException {
        if (args.length == 3 && args[0].equals("scaling")) {
            scaling(Path.of(args[1]), Path.of(args[2]));
        } else if (args.length == 4 && args[0].equals("bars")) {
            Map<String, Double> values = new LinkedHashMap<>();
            JSON.readTree(Path.of(args[1]).toFile())
                    .properties()
                    .forEach(e -> values.put(e.getKey(), e.getValue().doubleValue()));
            Charts.bars(Path.of(args[2]), args[3], "s", values);
        } else {
            System.err.println("usage: Plot scaling FILE.jsonl FOLDER | Plot bars FILE.json PICTURE.png TITLE");
            System.exit(2);
        }
    }

    private static void scaling(Path file, Path folder) throws IOException {
        List<JsonNode> rows = new ArrayList<>();
        for (String line : Files.readAllLines(file)) {
            rows.add(JSON.readTree(line));
        }
        Charts.lines(
                folder.resolve("cost_by_parameters.png"),
                "ms per token of training, by parameters in millions (" + LENGTH + " tokens, checkpointing)",
                "parameters, millions",
                true,
                lines(rows, row -> row.path("sequence").intValue() == LENGTH, "parameters", 1e-6));
        Charts.lines(
                folder.resolve("cost_by_length.png"),
                "ms per token of training, by sequence length (SmolLM2-135M, checkpointing)",
                "tokens of the sequence",
                false,
                lines(rows, row -> row.path("model").asText().equals("smollm2-135m"), "sequence", 1));
    }

    /** A line for each number of threads. */
    private static List<Charts.Line> lines(List<JsonNode> rows, Predicate<JsonNode> which, String x, double scale) {
        Map<Integer, List<JsonNode>> byThreads = new TreeMap<>();
        rows.stream().filter(which).sorted(Comparator.comparingDouble(row -> row.path(x).doubleValue())).forEach(row ->
                byThreads.computeIfAbsent(row.path("threads").intValue(), n -> new ArrayList<>()).add(row));
        return byThreads.entrySet().stream()
                .map(e -> new Charts.Line(
                        e.getKey() == 1 ? "1 thread" : e.getKey() + " threads",
                        e.getValue().stream().mapToDouble(row -> row.path(x).doubleValue() * scale).toArray(),
                        e.getValue().stream().mapToDouble(row -> row.path("ms_per_token").doubleValue()).toArray()))
                .toList();
    }
}
