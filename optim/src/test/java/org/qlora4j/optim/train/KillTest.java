package org.qlora4j.optim.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.OneDnn;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.optim.TinyModel;

/**
 * Training ended by kill -9 at random moments: each checkpoint that is there loads, and the resumed run ends with the
 * bits and the log of one that was not killed. Three moments; {@code slow-tests.sh} runs 50.
 */
class KillTest {
    private static final int KILLS = Integer.getInteger("qlora4j.kills", 3);

    @TempDir
    Path folder;

    @Test
    void aKilledRunResumesToTheSameBits() throws IOException, InterruptedException {
        long seed = Long.getLong("qlora4j.killSeed", 1);
        SplittableRandom random = new SplittableRandom(seed);
        try (Device device = TinyModel.openDevice();
                Transformer model = TinyModel.load(device)) {
            Path whole = folder.resolve("whole");
            long start = System.nanoTime();
            train(model, whole, false);
            double stepMillis = (System.nanoTime() - start) / 1e6 / KilledRun.STEPS;
            for (int kill = 1; kill <= KILLS; kill++) {
                Path run = folder.resolve("run" + kill);
                int step = random.nextInt(KilledRun.STEPS);
                long millis = (long) (random.nextDouble() * 2 * stepMillis);
                kill(run, "saved " + step, millis);
                String what = "kill " + kill + " of seed " + seed + ", " + millis + " ms behind save " + step
                        + ", newest of " + steps(run);
                System.out.println(what);
                loadAll(model, run, what);
                train(model, run, true);
                assertArrayEquals(
                        Files.readAllBytes(checkpoint(whole, "adapter_model.safetensors")),
                        Files.readAllBytes(checkpoint(run, "adapter_model.safetensors")),
                        what);
                assertArrayEquals(
                        Files.readAllBytes(checkpoint(whole, "optimizer.safetensors")),
                        Files.readAllBytes(checkpoint(run, "optimizer.safetensors")),
                        what);
                assertEquals(losses(whole), losses(run), what);
            }
        }
    }

    private static Path checkpoint(Path run, String file) {
        return run.resolve("checkpoint-" + KilledRun.STEPS).resolve(file);
    }

    private static List<Double> losses(Path run) throws IOException {
        List<Double> losses = new ArrayList<>();
        for (String line : Files.readAllLines(run.resolve("logging.jsonl"))) {
            JsonNode json = new com.fasterxml.jackson.databind.ObjectMapper().readTree(line);
            losses.add(json.path(json.has("loss") ? "loss" : "eval_loss").doubleValue());
        }
        return losses;
    }

    private static void train(Transformer model, Path run, boolean resume) throws IOException {
        try (LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 7);
                Trainer trainer = KilledRun.settings(run).trainer(adapter, TrainingListener.NONE)) {
            TreeSet<Integer> steps = steps(run);
            if (resume && !steps.isEmpty()) {
                if (steps.last() == KilledRun.STEPS) {
                    return; // killed behind the last save
                }
                trainer.resume(run);
            }
            trainer.run();
        }
    }

    /** Everything a killed run shows as a checkpoint is one, also through its links. */
    private static void loadAll(Transformer model, Path run, String what) throws IOException {
        List<Path> all = new ArrayList<>();
        for (int step : steps(run)) {
            all.add(run.resolve("checkpoint-" + step));
        }
        for (String link : List.of("last", "best")) {
            if (Files.isSymbolicLink(run.resolve(link))) {
                all.add(run.resolve(link));
            }
        }
        for (Path checkpoint : all) {
            if (!checkpoint.toRealPath().endsWith("checkpoint-" + KilledRun.STEPS)) {
                try (LoraAdapter adapter = LoraAdapter.attach(model, TinyRun.LORA, 9);
                        Trainer trainer = KilledRun.settings(run).trainer(adapter, TrainingListener.NONE)) {
                    trainer.resume(checkpoint);
                } catch (RuntimeException e) {
                    throw new AssertionError(what + ": " + checkpoint.getFileName() + " does not load", e);
                }
            }
        }
    }

    private static TreeSet<Integer> steps(Path run) throws IOException {
        TreeSet<Integer> steps = new TreeSet<>();
        if (Files.isDirectory(run)) {
            try (var entries = Files.list(run)) {
                entries.map(e -> e.getFileName().toString())
                        .filter(n -> n.startsWith("checkpoint-"))
                        .forEach(n -> steps.add(Integer.valueOf(n.substring("checkpoint-".length()))));
            }
        }
        return steps;
    }

    /** @param millis from the moment the program prints the line */
    private static void kill(Path run, String at, long millis) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules",
                "jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-Dqlora4j.golden=" + System.getProperty("qlora4j.golden"),
                "-Dqlora4j.root=" + System.getProperty("qlora4j.root"),
                "-cp",
                classPath(),
                KilledRun.class.getName(),
                run.toString()));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        try (BufferedReader output = process.inputReader()) {
            String line = output.readLine();
            while (line != null && !line.equals(at)) {
                line = output.readLine();
            }
            assertTrue(line != null, "the program ended before it printed " + at);
            Thread.sleep(millis);
        } finally {
            process.destroyForcibly();
            process.waitFor();
        }
    }

    /** Where this test's classes come from, modules or not. */
    private static String classPath() {
        Set<String> entries = new LinkedHashSet<>();
        for (Class<?> type : List.of(
                Trainer.class,
                LoraAdapter.class,
                Device.class,
                OneDnn.class,
                JsonNode.class,
                com.fasterxml.jackson.core.JsonParser.class,
                com.fasterxml.jackson.annotation.JsonCreator.class)) {
            Path place = Path.of(java.net.URI.create(
                    type.getProtectionDomain().getCodeSource().getLocation().toString()));
            entries.add(place.toString());
            Path tests = place.resolveSibling("test-classes");
            if (type == Trainer.class && Files.isDirectory(tests)) {
                entries.add(tests.toString());
            }
        }
        return String.join(File.pathSeparator, entries);
    }
}
