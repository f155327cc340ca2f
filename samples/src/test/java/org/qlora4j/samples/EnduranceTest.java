package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.optim.report.Plots;
import org.qlora4j.optim.train.LogEntry;

/** The library in a program that lives long; a little of it here, and 5,000 steps and 200 models in endurance.sh. */
class EnduranceTest {
    private static final int STEPS = Integer.getInteger("qlora4j.steps", 200);
    private static final int MODELS = Integer.getInteger("qlora4j.models", 6);
    private static final int LOADERS = Integer.getInteger("qlora4j.loaders", 3);

    @TempDir
    static Path folder;

    private static Path model;

    @BeforeAll
    static void prepare() throws IOException {
        NativePackages.ensure(NativePackage.ONEDNN, System.out::println);
        model = TinyModel.write(folder.resolve("model"));
    }

    private static List<String> java(String mode, int count) throws IOException, InterruptedException {
        List<String> command = Cli.java("-Xmx64m", "-XX:SoftRefLRUPolicyMSPerMB=0", "-XX:+UseSerialGC");
        command.addAll(List.of(
                EnduranceRun.class.getName(),
                mode,
                String.valueOf(count),
                model.toString(),
                folder.resolve(mode).toString()));
        Path out = folder.resolve(mode + ".txt");
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(out.toFile())
                .start();
        assertTrue(process.waitFor(30, TimeUnit.MINUTES), "still running");
        assertEquals(0, process.exitValue(), Files.readString(out));
        return Files.readAllLines(out);
    }

    /** From the half on: before it the JVM still compiles. */
    private static List<EnduranceRun.Sample> flat(List<String> lines, String what, double growthMb) {
        List<EnduranceRun.Sample> all = lines.stream()
                .filter(line -> line.startsWith("sample "))
                .map(EnduranceRun.Sample::parse)
                .toList();
        EnduranceRun.Sample half = all.get(all.size() / 2);
        EnduranceRun.Sample end = all.getLast();
        System.out.printf(
                Locale.ROOT,
                "| %d %s | %.1f MB, %.1f MB half way | %d, %d | %d, %d |%n",
                end.done(),
                what,
                end.residentMb(),
                half.residentMb(),
                end.files(),
                half.files(),
                end.threads(),
                half.threads());
        assertEquals(half.files(), end.files(), "open files");
        // the JVM starts and ends compiler threads as it needs them
        assertEquals(half.threads(), end.threads(), 2, "threads");
        assertTrue(end.residentMb() < half.residentMb() + growthMb, half + ", " + end);
        return all;
    }

    @Test
    void stepsHoldNoMoreAndMore() throws IOException, InterruptedException {
        List<EnduranceRun.Sample> all = flat(java("steps", STEPS), "steps", 20);
        List<LogEntry> log = all.stream()
                .map(s -> new LogEntry(s.done(), Map.of("resident memory (MB)", s.residentMb())))
                .toList();
        List<Path> pictures = Plots.write(log, folder.resolve("plots"));
        String plot = System.getProperty("qlora4j.endurancePlot", "");
        if (!plot.isEmpty()) {
            assertEquals(1, pictures.size());
            Files.copy(pictures.getFirst(), Path.of(plot), StandardCopyOption.REPLACE_EXISTING);
        }
    }

    @Test
    void modelsAreFreedWhenTheyAreClosed() throws IOException, InterruptedException {
        flat(java("models", MODELS), "models opened, trained a step and closed", 20);
    }

    @Test
    void twoThreadsTrainTwoModelsAsEachAlone() throws Exception {
        byte[] alone = EnduranceRun.train(model, folder.resolve("alone"), 20, 0);
        try (ExecutorService two = Executors.newFixedThreadPool(2)) {
            equal(alone, two, "thread");
        }
    }

    /** A virtual thread may go on on another system thread than it was prepared on. */
    @Test
    void virtualThreadsTrainAsOthersDo() throws Exception {
        byte[] alone = EnduranceRun.train(model, folder.resolve("alone-v"), 20, 0);
        try (ExecutorService virtual = Executors.newVirtualThreadPerTaskExecutor()) {
            equal(alone, virtual, "virtual");
        }
    }

    private static void equal(byte[] alone, ExecutorService threads, String name) throws Exception {
        List<Future<byte[]>> results = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Path output = folder.resolve(name + i);
            Callable<byte[]> task = () -> EnduranceRun.train(model, output, 20, 0);
            results.add(threads.submit(task));
        }
        for (Future<byte[]> result : results) {
            assertArrayEquals(alone, result.get(120, TimeUnit.SECONDS));
        }
    }

    /** All of it, natives included, in class loaders that are dropped; in a process that does not use it otherwise. */
    @Test
    void aClassLoaderThatIsThrownAwayIsCollected() throws IOException, InterruptedException {
        flat(java("loaders", LOADERS), "class loaders, collected after use", 20);
    }
}
