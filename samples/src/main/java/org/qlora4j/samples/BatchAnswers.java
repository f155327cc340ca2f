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
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.qlora4j.lora.generate.Prompt;
import org.qlora4j.lora.text.Tokenizer;

/** Answers to all rows of a data set, one JSON object a line in the order of the rows, written as they come. */
final class BatchAnswers {
    private BatchAnswers() {}

    static void write(Arguments a, EvaluationRows wanted, Session session, Answering answering) {
        List<Prompt> prompts = wanted
                .read(session.text(), session.model().config().vocabSize())
                .stream()
                .map(Prompt::of)
                .toList();
        List<int[]> ids = prompts.stream().map(Prompt::ids).toList();
        answering.requireRoom(ids, session);
        Path file = a.has("result_path")
                ? Path.of(a.text("result_path"))
                : newFile(Objects.requireNonNullElse(Session.adapterPath(a), Path.of("output"))
                        .resolve("infer_result"));
        String done;
        try {
            Path folder = file.toAbsolutePath().getParent();
            if (folder != null) {
                Files.createDirectories(folder);
            }
            try (BufferedWriter out = Files.newBufferedWriter(file)) {
                Lines lines = new Lines(out);
                done = answering.all(
                        ids,
                        session,
                        (row, answer, tokens) -> lines.put(
                                row,
                                line(prompts.get(row), answer, session.text().tokenizer())));
            } catch (UncheckedIOException e) {
                throw e.getCause();
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + file + ": " + e, e);
        }
        System.out.println(done + ": " + file);
    }

    private static String line(Prompt prompt, String answer, Tokenizer tokenizer) {
        ObjectNode line = JsonNodeFactory.instance.objectNode();
        line.put("prompt", tokenizer.decode(prompt.ids()));
        line.put("response", answer);
        line.put("labels", tokenizer.decodeSkippingSpecial(prompt.reference()));
        return line.toString();
    }

    /** Holds lines back until those before them are there. */
    private static final class Lines {
        private final BufferedWriter out;
        private final Map<Integer, String> waiting = new HashMap<>();
        private int written;

        Lines(BufferedWriter out) {
            this.out = out;
        }

        void put(int row, String line) {
            waiting.put(row, line);
            try {
                for (String next = waiting.remove(written); next != null; next = waiting.remove(++written)) {
                    out.write(next);
                    out.newLine();
                }
                out.flush();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
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
