package org.qlora4j.samples;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.List;
import java.util.Objects;
import org.qlora4j.lora.generate.Ending;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Prompt;
import org.qlora4j.lora.generate.Sampling;
import org.qlora4j.lora.model.Batch;

/** Answers to all rows of a data set, one JSON object a line, written as they come. */
final class BatchAnswers {
    private BatchAnswers() {}

    static void write(
            Arguments a,
            EvaluationRows wanted,
            Session session,
            Generator generator,
            Sampling sampling,
            Ending ending) {
        List<Batch.Row> rows =
                wanted.read(session.text(), session.model().config().vocabSize());
        Path file = a.has("result_path")
                ? Path.of(a.text("result_path"))
                : newFile(Objects.requireNonNullElse(Session.adapterPath(a), Path.of("output"))
                        .resolve("infer_result"));
        try {
            Path folder = file.toAbsolutePath().getParent();
            if (folder != null) {
                Files.createDirectories(folder);
            }
            try (BufferedWriter out = Files.newBufferedWriter(file)) {
                for (int i = 0; i < rows.size(); i++) {
                    Prompt prompt = Prompt.of(rows.get(i));
                    ObjectNode line = JsonNodeFactory.instance.objectNode();
                    line.put("prompt", session.text().tokenizer().decode(prompt.ids()));
                    line.put("response", generator.complete(prompt.ids(), sampling, ending, piece -> {}));
                    line.put("labels", session.text().tokenizer().decodeSkippingSpecial(prompt.reference()));
                    out.write(line.toString());
                    out.newLine();
                    out.flush();
                    Progress.bar("answering", i + 1, rows.size());
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + file + ": " + e, e);
        }
        Progress.end();
        System.out.println(rows.size() + " answers: " + file);
    }

    /** Named after the time; a clock that was set back gives no earlier answers' name again. */
    private static Path newFile(Path folder) {
        String time = LocalDateTime.now().format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss"));
        Path file = folder.resolve(time + ".jsonl");
        for (int i = 2; Files.exists(file); i++) {
            file = folder.resolve(time + "-" + i + ".jsonl");
        }
        return file;
    }
}
