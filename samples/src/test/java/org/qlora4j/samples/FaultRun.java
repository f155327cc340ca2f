package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.nf4.file.AtomicFolder;

/** The tiny model trained unbroken, as what broken runs are compared with; commands as processes of their own. */
final class FaultRun {
    static final int STEPS = 12;

    final Path folder;
    final Path model;
    /** The unbroken run's folder, with a checkpoint of each step. */
    final Path unbroken;

    private final List<String> sft;

    FaultRun(Path folder) throws IOException {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        this.folder = folder;
        this.model = TinyModel.write(folder.resolve("model"));
        this.unbroken = folder.resolve("unbroken");
        this.sft = List.of(("--model " + model + " --dataset " + TinyModel.rows(folder.resolve("rows.jsonl"))
                        + " --add_version false --gradient_accumulation_steps 1 --logging_steps 1"
                        + " --save_steps 1 --eval_strategy no --lr_scheduler_type constant --threads 1 --max_steps "
                        + STEPS)
                .split(" "));
        here(sft(unbroken, "--save_total_limit", "0"));
    }

    /** The words of a training run into a folder. @param more options, which go before those of all runs */
    String[] sft(Path output, String... more) {
        Map<String, String> options = new LinkedHashMap<>();
        for (int i = 0; i < sft.size(); i += 2) {
            options.put(sft.get(i), sft.get(i + 1));
        }
        options.put("--output_dir", output.toString());
        for (int i = 0; i < more.length; i += 2) {
            options.put(more[i], more[i + 1]);
        }
        List<String> words = new ArrayList<>(List.of("sft"));
        options.forEach((name, value) -> words.addAll(List.of(name, value)));
        return words.toArray(String[]::new);
    }

    /** Runs a command in this process, which has to succeed. */
    void here(String... words) {
        Cli.Output result = Cli.qlora(words);
        assertEquals(0, result.exit(), String.join(" ", words) + "\n" + result.out() + result.err());
    }

    /** @param shell in front of the command, e.g. a limit */
    Process start(String shell, String javaOptions, String... words) throws IOException {
        List<String> command = new ArrayList<>(List.of("bash", "-c", shell + "exec \"$@\"", "bash"));
        // the first compiler alone: starts faster, and the bits are the same
        command.addAll(Cli.java(("-Xshare:auto -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData "
                        + (javaOptions.isEmpty() ? "-Xmx256m" : javaOptions))
                .split(" ")));
        command.add(Main.class.getName());
        command.addAll(List.of(words));
        return new ProcessBuilder(command)
                .redirectOutput(folder.resolve("stdout.txt").toFile())
                .redirectError(folder.resolve("stderr.txt").toFile())
                .start();
    }

    int finish(Process process) throws InterruptedException, IOException {
        assertTrue(process.waitFor(120, TimeUnit.SECONDS), "still running: " + stdout() + stderr());
        return process.exitValue();
    }

    static void signal(Process process, String number) throws IOException, InterruptedException {
        new ProcessBuilder("kill", "-" + number, String.valueOf(process.pid()))
                .start()
                .waitFor();
    }

    String stdout() throws IOException {
        return Files.readString(folder.resolve("stdout.txt"));
    }

    /** Without the JDK's own warnings. */
    String stderr() throws IOException {
        return Files.readString(folder.resolve("stderr.txt")).replaceAll("(?m)^(WARNING|OpenJDK).*\\R", "");
    }

    /** Waits; gives up when the process has ended. */
    void await(Process process, BooleanSupplier condition) throws IOException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
        while (!condition.getAsBoolean() && process.isAlive()) {
            assertTrue(System.nanoTime() < deadline, stdout() + stderr());
            Thread.onSpinWait();
        }
    }

    /** The sentence of a refused command: exit code not zero, one line on standard error. @return what is wrong */
    List<String> sentence(Process process, String... expected) throws IOException, InterruptedException {
        int status = finish(process);
        List<String> lines = stderr().lines().toList();
        boolean good = status == 2
                && lines.size() == 1
                && lines.getFirst().startsWith("qlora: ")
                && Arrays.stream(expected).allMatch(lines.getFirst()::contains);
        return good ? List.of() : List.of("status " + status + ", expected " + List.of(expected) + ", said " + lines);
    }

    static TreeSet<Integer> steps(Path run) throws IOException {
        TreeSet<Integer> steps = new TreeSet<>();
        if (Files.isDirectory(run)) {
            try (Stream<Path> entries = Files.list(run)) {
                entries.map(e -> e.getFileName().toString())
                        .filter(n -> n.startsWith("checkpoint-"))
                        .forEach(n -> steps.add(Integer.valueOf(n.substring("checkpoint-".length()))));
            }
        }
        return steps;
    }

    /** Each checkpoint there has the files and bits of the unbroken run's; what was said to be saved is there. */
    List<String> checkpointsLost(Path run) throws IOException {
        List<String> lost = new ArrayList<>();
        TreeSet<Integer> steps = steps(run);
        for (int step : steps) {
            Path checkpoint = run.resolve("checkpoint-" + step);
            if (!whole(unbroken.resolve("checkpoint-" + step)).equals(whole(checkpoint))) {
                lost.add(checkpoint + " is not the unbroken run's");
            }
        }
        Matcher saved = Pattern.compile("(?m)^saved .*checkpoint-(\\d+)$").matcher(stdout());
        int newest = 0;
        while (saved.find()) {
            newest = Integer.parseInt(saved.group(1));
        }
        if (newest > (steps.isEmpty() ? 0 : steps.last())) {
            lost.add("checkpoint-" + newest + " of " + run + " was saved, there are " + steps);
        }
        Path last = run.resolve("last");
        if (Files.isSymbolicLink(last) && !Files.isDirectory(last)) {
            lost.add(last + " leads nowhere");
        }
        return lost;
    }

    /** A folder's files and their sums; the training log in trainer_state.json holds times and memory. */
    static Map<String, String> whole(Path folder) throws IOException {
        Map<String, String> sums = new TreeMap<>();
        if (Files.isRegularFile(folder)) {
            sums.put("", hash(folder));
            return sums;
        }
        try (Stream<Path> files = Files.list(folder)) {
            for (Path file : files.toList()) {
                String name = file.getFileName().toString();
                sums.put(name, name.equals("trainer_state.json") ? state(file) : hash(file));
            }
        }
        return sums;
    }

    private static String hash(Path file) throws IOException {
        return Files.size(file) + " " + Arrays.hashCode(Files.readAllBytes(file));
    }

    private static String state(Path file) throws IOException {
        String json = Files.readString(file);
        assertTrue(json.endsWith("}\n"), json);
        return json.substring(0, json.indexOf("log_history"));
    }

    /** Takes a broken run up from its newest checkpoint. @return what differs from the unbroken run at the end */
    List<String> resumed(Path run) throws IOException {
        TreeSet<Integer> steps = steps(run);
        boolean done = !steps.isEmpty() && steps.last() == STEPS;
        if (steps.isEmpty()) {
            here(sft(run));
        } else if (!done) {
            here(sft(run, "--resume_from_checkpoint", run.toString()));
        }
        String end = "checkpoint-" + STEPS;
        boolean same = whole(unbroken.resolve(end)).equals(whole(run.resolve(end)));
        List<String> hidden;
        try (Stream<Path> files = Files.list(run)) {
            hidden = files.map(f -> f.getFileName().toString())
                    .filter(n -> n.startsWith("."))
                    // of one killed after its last step: there is nothing to resume, and the next run takes it
                    .filter(n -> !(done && n.equals(".lock")))
                    .toList();
        }
        List<String> wrong = new ArrayList<>();
        if (!same) {
            wrong.add(run + " resumed from " + steps + " ends with other bits");
        }
        if (!hidden.isEmpty()) {
            wrong.add(run + " holds " + hidden);
        }
        return wrong;
    }

    void delete(Path root) throws IOException {
        AtomicFolder.delete(root);
    }
}
