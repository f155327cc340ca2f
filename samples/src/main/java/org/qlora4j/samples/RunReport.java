package org.qlora4j.samples;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.report.HtmlReport;
import org.qlora4j.optim.report.Plots;
import org.qlora4j.optim.train.TrainingResult;

/** The pictures and the page a run leaves in its folder. */
final class RunReport {
    private RunReport() {}

    /** @param before answers to the questions of {@code --ask}, one each @param after the same, of the tuned model */
    static void write(
            Arguments a,
            Path outputDir,
            LoraAdapter adapter,
            TrainingData data,
            TrainingResult result,
            double seconds,
            MemoryEstimate memory,
            List<String> before,
            List<String> after) {
        Plots.write(result.logHistory(), outputDir.resolve("images"));
        List<HtmlReport.Sample> samples = new ArrayList<>();
        List<String> questions = a.list("ask");
        for (int i = 0; i < questions.size(); i++) {
            samples.add(new HtmlReport.Sample(questions.get(i), before.get(i), after.get(i)));
        }
        Map<String, Long> measured = new LinkedHashMap<>();
        measured.put("device, peak", adapter.model().device().peakBytes());
        measured.put("process, peak (VmHWM)", MemoryReport.peakProcessBytes());
        Path page = outputDir.resolve("report.html");
        new HtmlReport(
                        outputDir.getFileName() + ": " + a.text("model"),
                        result.logHistory(),
                        results(result, adapter, seconds),
                        memory,
                        measured,
                        statistics(data),
                        settings(a),
                        samples)
                .write(page);
        System.out.println("report: " + page);
    }

    private static Map<String, String> results(TrainingResult result, LoraAdapter adapter, double seconds) {
        Map<String, String> values = new LinkedHashMap<>();
        values.put("steps", String.valueOf(result.steps()));
        values.put("time", Progress.time(seconds));
        values.put(
                "trained parameters",
                String.format(Locale.ROOT, "%,d", adapter.parameters().count()));
        values.put("last checkpoint", result.lastCheckpoint().toString());
        values.put("best checkpoint", result.bestCheckpoint().toString());
        if (result.bestMetric() != null) {
            values.put("best metric", String.valueOf(result.bestMetric()));
        }
        return values;
    }

    private static Map<String, String> statistics(TrainingData data) {
        Map<String, String> values = new LinkedHashMap<>();
        statistics(values, "train", data.train());
        if (!data.validation().isEmpty()) {
            statistics(values, "validation", data.validation());
        }
        return values;
    }

    private static void statistics(Map<String, String> values, String name, List<Batch.Row> rows) {
        int[] lengths = rows.stream().mapToInt(r -> r.ids().length).sorted().toArray();
        values.put(name + " rows", String.format(Locale.ROOT, "%,d", lengths.length));
        values.put(
                name + " tokens",
                String.format(
                        Locale.ROOT,
                        "%,d, %,d of them labels",
                        rows.stream().mapToLong(r -> r.ids().length).sum(),
                        rows.stream().mapToLong(Batch.Row::labelTokens).sum()));
        values.put(
                name + " row lengths",
                String.format(
                        Locale.ROOT,
                        "shortest %d, median %d, 95 %% up to %d, longest %d",
                        lengths[0],
                        lengths[lengths.length / 2],
                        lengths[(int) (0.95 * (lengths.length - 1))],
                        lengths[lengths.length - 1]));
    }

    private static Map<String, String> settings(Arguments a) {
        Map<String, String> values = new LinkedHashMap<>();
        a.toJson()
                .properties()
                .forEach(e -> values.put(
                        e.getKey(),
                        e.getValue().isTextual()
                                ? e.getValue().textValue()
                                : e.getValue().toString()));
        return values;
    }
}
