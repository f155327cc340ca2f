package org.qlora4j.samples.bench;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;

/** One {@link Kernel} under JMH, each in a JVM of its own. */
@State(org.openjdk.jmh.annotations.Scope.Benchmark)
public class KernelBenchmark {
    private static final String THREADS = "qlora4j.bench.threads";

    /** The kernel's name. */
    @Param("FFM_CALL")
    public String kernel = "";

    private @Nullable Device device;
    private @Nullable Scope scope;
    private Runnable work = () -> {};

    @Setup(Level.Trial)
    @SuppressWarnings("MustBeClosedChecker") // closed in tearDown
    public void setUp() {
        Device d = Devices.open("cpu", Integer.getInteger(THREADS, 1));
        Scope s = d.newScope();
        device = d;
        scope = s;
        work = Kernel.valueOf(kernel).prepare(new Kernel.Data(d, s));
    }

    @TearDown(Level.Trial)
    public void tearDown() {
        if (scope != null && device != null) {
            scope.close();
            device.close();
        }
    }

    @Benchmark
    public void call() {
        work.run();
    }

    /**
     * Runs the kernels whose name contains the text, and gives a table with the time that this machine cannot beat
     * beside each.
     *
     * @param pattern part of {@link Kernel} names, empty for all
     * @throws IllegalArgumentException if no name contains it
     */
    public static String run(String pattern, int threads) {
        List<Kernel> kernels = Stream.of(Kernel.values())
                .filter(k -> k.name().contains(pattern.toUpperCase(Locale.ROOT)))
                .toList();
        if (kernels.isEmpty()) {
            throw new IllegalArgumentException(
                    "no kernel's name contains '" + pattern + "'; there are " + List.of(Kernel.values()));
        }
        Floor floor = Floor.measure(threads);
        var options = new OptionsBuilder()
                .include(KernelBenchmark.class.getName() + ".call")
                .param("kernel", kernels.stream().map(Kernel::name).toArray(String[]::new))
                .mode(Mode.AverageTime)
                .timeUnit(TimeUnit.MICROSECONDS)
                .forks(1)
                .warmupIterations(3)
                .warmupTime(TimeValue.milliseconds(700))
                .measurementIterations(5)
                .measurementTime(TimeValue.milliseconds(500))
                .jvmArgsAppend("-D" + THREADS + "=" + threads)
                .shouldFailOnError(true)
                .build();
        Collection<RunResult> results;
        try {
            results = new Runner(options).run();
        } catch (RunnerException e) {
            throw new IllegalStateException("JMH could not run: " + e.getMessage(), e);
        }
        List<String> lines = new ArrayList<>();
        lines.add(floor.toString());
        lines.add("| kernel | µs | ± | floor µs | of the floor's speed |");
        lines.add("|---|---|---|---|---|");
        for (RunResult result : results) {
            Kernel k = Kernel.valueOf(result.getParams().getParam("kernel"));
            double micros = result.getPrimaryResult().getScore();
            double least = floor.micros(k.flops, k.bytes);
            lines.add(String.format(
                    Locale.ROOT,
                    "| %s | %.2f | %.2f | %s | %s |",
                    k.what,
                    micros,
                    result.getPrimaryResult().getScoreError(),
                    least == 0 ? "" : String.format(Locale.ROOT, "%.2f", least),
                    least == 0 ? "" : String.format(Locale.ROOT, "%.0f %%", 100 * least / micros)));
        }
        return String.join(System.lineSeparator(), lines);
    }
}
