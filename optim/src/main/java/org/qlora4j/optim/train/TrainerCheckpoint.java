package org.qlora4j.optim.train;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.optim.Optimizer;

/**
 * A folder {@code checkpoint-N}: the adapter as PEFT writes it, the optimizer's state, and trainer_state.json. It is
 * written under another name and renamed when it is whole; an interrupted save leaves the previous checkpoint as it
 * was.
 */
final class TrainerCheckpoint {
    private static final String OPTIMIZER = "optimizer.safetensors";
    private static final String STATE = "trainer_state.json";

    private TrainerCheckpoint() {}

    /** What trainer_state.json says. */
    record State(
            int step, @Nullable Double bestMetric, @Nullable Integer bestStep, List<LogEntry> log) {}

    static Path folder(Path outputDir, int step) {
        return outputDir.resolve("checkpoint-" + step);
    }

    /** @param others writes tokenizer and other files into the folder */
    static Path save(
            Path outputDir,
            LoraAdapter adapter,
            Optimizer optimizer,
            String baseModel,
            State state,
            Consumer<Path> others) {
        Path target = folder(outputDir, state.step);
        Path work = outputDir.resolve(".checkpoint-" + state.step + ".part");
        try {
            Files.createDirectories(outputDir);
            deleteTree(work);
            Files.createDirectory(work);
            AdapterFiles.save(adapter, baseModel, work);
            optimizer.save(work.resolve(OPTIMIZER));
            AtomicFile.writeString(work.resolve(STATE), json(state).toPrettyString() + "\n");
            others.accept(work);
            deleteTree(target);
            Files.move(work, target, StandardCopyOption.ATOMIC_MOVE);
            return target;
        } catch (IOException e) {
            throw new UncheckedIOException("cannot write " + target + ": " + e, e);
        } finally {
            try {
                deleteTree(work);
            } catch (IOException e) {
                System.getLogger(TrainerCheckpoint.class.getName())
                        .log(System.Logger.Level.WARNING, "could not remove " + work + ": " + e);
            }
        }
    }

    private static ObjectNode json(State state) {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.put("global_step", state.step);
        json.put("best_metric", state.bestMetric);
        json.put("best_step", state.bestStep);
        ArrayNode log = json.putArray("log_history");
        for (LogEntry entry : state.log) {
            ObjectNode line = log.addObject();
            entry.values().forEach(line::putPOJO);
            line.put("step", entry.step());
        }
        return json;
    }

    /** Reads the adapter's values, the optimizer and the state into what was made for the same configuration. */
    static State resume(Path checkpoint, LoraAdapter adapter, Optimizer optimizer) {
        if (!Files.isRegularFile(checkpoint.resolve(STATE)) || !Files.isRegularFile(checkpoint.resolve(OPTIMIZER))) {
            throw new IllegalArgumentException(
                    "resume_from_checkpoint " + checkpoint + ": expected a folder with " + STATE + " and " + OPTIMIZER);
        }
        ObjectNode json = ModelSource.readObject(checkpoint.resolve(STATE));
        int step = json.path("global_step").intValue();
        AdapterFiles.readValues(adapter, checkpoint);
        optimizer.load(checkpoint.resolve(OPTIMIZER));
        List<LogEntry> log = new ArrayList<>();
        json.path("log_history").forEach(line -> {
            Map<String, Object> values = new LinkedHashMap<>();
            line.properties().forEach(e -> {
                if (!e.getKey().equals("step")) {
                    values.put(
                            e.getKey(),
                            e.getValue().isNumber()
                                    ? e.getValue().numberValue()
                                    : e.getValue().asText());
                }
            });
            log.add(new LogEntry(line.path("step").intValue(), values));
        });
        Double best =
                json.path("best_metric").isNumber() ? json.path("best_metric").doubleValue() : null;
        Integer bestStep =
                json.path("best_step").isNumber() ? json.path("best_step").intValue() : null;
        return new State(step, best, bestStep, log);
    }

    static void deleteTree(Path root) throws IOException {
        if (!Files.exists(root)) {
            return;
        }
        Files.walkFileTree(root, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
                Files.delete(file);
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult postVisitDirectory(Path folder, @Nullable IOException e) throws IOException {
                Files.delete(folder);
                return FileVisitResult.CONTINUE;
            }
        });
    }
}
