package org.qlora4j.optim.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * Where a run stands: trainer_state.json, with transformers' keys where it has them. Random numbers need no state of
 * their own: they are functions of seed and step.
 */
final class TrainerState {
    /** {@code global_step}, optimizer steps done. */
    int step;

    /** Of the best saved checkpoint. */
    @Nullable
    Double bestMetric;

    /** Its step. */
    @Nullable
    Integer bestStep;

    /** Checkpoints since the best one. */
    int waiting;

    /** Steps left out because of NaN or infinity. */
    int skipped;

    /** What the next log line will average. */
    LogSums sums = LogSums.NONE;

    /** What the order of the data follows from; a resumed run must have the same. */
    final Map<String, String> data;

    /** All log lines. */
    final List<LogEntry> log = new ArrayList<>();

    TrainerState(Map<String, String> data) {
        this.data = data;
    }

    /** Sums since the last log line. */
    record LogSums(int steps, double loss, long labels, long correct) {
        static final LogSums NONE = new LogSums(0, 0, 0, 0);

        LogSums plus(double stepLoss, long stepLabels, long stepCorrect) {
            return new LogSums(steps + 1, loss + stepLoss, labels + stepLabels, correct + stepCorrect);
        }
    }

    ObjectNode toJson() {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.put("global_step", step);
        json.put("best_metric", bestMetric);
        json.put("best_global_step", bestStep);
        json.put("checkpoints_since_best", waiting);
        json.put("skipped_steps", skipped);
        json.putObject("log_sums")
                .put("steps", sums.steps)
                .put("loss", sums.loss)
                .put("labels", sums.labels)
                .put("correct", sums.correct);
        ObjectNode order = json.putObject("data_order");
        data.forEach(order::put);
        ArrayNode lines = json.putArray("log_history");
        for (LogEntry entry : log) {
            ObjectNode line = lines.addObject();
            entry.values().forEach(line::putPOJO);
            line.put("step", entry.step());
        }
        return json;
    }

    static TrainerState read(Path file) {
        ObjectNode json = ModelSource.readObject(file);
        JsonNode sums = json.path("log_sums");
        Map<String, String> data = new LinkedHashMap<>();
        json.path("data_order")
                .properties()
                .forEach(e -> data.put(e.getKey(), e.getValue().asText()));
        TrainerState state = new TrainerState(data);
        state.step = count(file, json, "global_step");
        JsonNode best = json.path("best_global_step");
        state.bestMetric = best.isInt() ? (Double) json.path("best_metric").doubleValue() : null;
        state.bestStep = best.isInt() ? (Integer) best.intValue() : null;
        state.waiting = count(file, json, "checkpoints_since_best");
        state.skipped = count(file, json, "skipped_steps");
        state.sums = new LogSums(
                count(file, sums, "steps"),
                sums.path("loss").doubleValue(),
                sums.path("labels").longValue(),
                sums.path("correct").longValue());
        readLog(state.log, json.path("log_history"));
        return state;
    }

    private static int count(Path file, JsonNode json, String key) {
        JsonNode value = json.path(key);
        if (!value.isInt() || value.intValue() < 0) {
            throw new ModelFormatException(file, key + " must be a number of steps, found " + value);
        }
        return value.intValue();
    }

    private static void readLog(List<LogEntry> log, JsonNode lines) {
        for (JsonNode line : lines) {
            Map<String, Object> values = new LinkedHashMap<>();
            line.properties().forEach(e -> {
                if (!e.getKey().equals("step")) {
                    JsonNode value = e.getValue();
                    values.put(e.getKey(), value.isNumber() ? value.numberValue() : value.asText());
                }
            });
            log.add(new LogEntry(line.path("step").intValue(), values));
        }
    }
}
