package org.qlora4j.samples;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.ref.WeakReference;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.FutureTask;
import java.util.stream.Stream;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.ModelLoader;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.model.Quantization;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.optim.OptimizerConfig;
import org.qlora4j.optim.Schedule;
import org.qlora4j.optim.train.Trainer;
import org.qlora4j.optim.train.TrainingConfig;
import org.qlora4j.optim.train.TrainingListener;

/** The library as a long-lived program uses it, and what the process holds meanwhile. */
public final class EnduranceRun {
    private EnduranceRun() {}

    /** What the process holds, from /proc/self. */
    record Sample(int done, double residentMb, int files, int threads) {
        static Sample of(int done) {
            // else the heap is as large as the collector has let it become
            System.gc();
            try (Stream<Path> open = Files.list(Path.of("/proc/self/fd"))) {
                String status = Files.readString(Path.of("/proc/self/status"));
                return new Sample(done, number(status, "VmRSS") * 1024 / 1e6, (int) open.count(), (int)
                        number(status, "Threads"));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        private static long number(String status, String key) {
            return Long.parseLong(status.replaceAll("(?s).*" + key + ":\\s+(\\d+).*", "$1"));
        }

        @Override
        public String toString() {
            return String.format(Locale.ROOT, "sample %d %.3f %d %d", done, residentMb, files, threads);
        }

        static Sample parse(String line) {
            String[] words = line.split(" ");
            return new Sample(
                    Integer.parseInt(words[1]),
                    Double.parseDouble(words[2]),
                    Integer.parseInt(words[3]),
                    Integer.parseInt(words[4]));
        }
    }

    /** @param arguments steps|models|loaders, how many, the model's folder, a folder to write into */
    public static void main(String[] arguments) throws Exception {
        int count = Integer.parseInt(arguments[1]);
        Path model = Path.of(arguments[2]);
        Path output = Path.of(arguments[3]);
        switch (arguments[0]) {
            case "steps" -> train(model, output, count, Math.max(1, count / 100));
            case "models" -> {
                for (int i = 1; i <= count; i++) {
                    train(model, output.resolve("of-" + i % 2), 1, 0);
                    if (i % Math.max(1, count / 50) == 0) {
                        System.out.println(Sample.of(i));
                    }
                }
            }
            case "loaders" -> {
                for (int i = 1; i <= count; i++) {
                    requireCollected(trainInALoader(model, output.resolve("of-" + i % 2)));
                    System.out.println(Sample.of(i));
                }
            }
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    /**
     * Opens a device, the tiny model and its tokenizer, trains, and closes all.
     *
     * @param every so many steps a sample is printed, if not 0
     * @return the adapter's bits
     */
    public static byte[] train(Path path, Path output, int steps, int every) {
        try (Device device = Devices.open("cpu", 1);
                ModelSource source = ModelSource.open(path);
                Transformer model = ModelLoader.load(
                        source,
                        device,
                        new ModelLoader.Options(DType.F32, Quantization.NF4_DOUBLE, 1),
                        (done, all) -> {});
                ChatText text = ChatText.load(path);
                LoraAdapter adapter = LoraAdapter.attach(model, LoraConfig.allLinear(8, 32), 42);
                Trainer trainer = new Trainer(
                        adapter,
                        config(output, steps),
                        Trainer.unpacked(rows(text)),
                        List.of(),
                        "tiny",
                        text::save,
                        listener(every))) {
            Path checkpoint = trainer.run().lastCheckpoint();
            return Files.readAllBytes(checkpoint.resolve("adapter_model.safetensors"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static TrainingListener listener(int every) {
        return new TrainingListener() {
            @Override
            public void step(int step, int totalSteps, double loss, double tokensPerSecond, double secondsLeft) {
                if (every > 0 && step % every == 0) {
                    System.out.println(Sample.of(step));
                }
            }
        };
    }

    private static List<Batch.Row> rows(ChatText text) {
        List<Batch.Row> rows = new ArrayList<>();
        for (int i = 1; i < 9; i++) {
            rows.add(text.trainingRow(
                    text.chatTemplate(), List.of(Message.user("Count"), Message.assistant("so ".repeat(i)))));
        }
        return rows;
    }

    private static TrainingConfig config(Path output, int steps) {
        return new TrainingConfig(
                new TrainingConfig.Steps(1, steps, 1, 1, true),
                new TrainingConfig.Rate(new Schedule.Constant(), 1e-4, 0, 0),
                OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0).withMaxGradNorm(1),
                TrainingConfig.Regularization.NONE,
                TrainingConfig.Evaluation.byLoss(1, 0),
                new TrainingConfig.Saving(output, 10, Math.max(1, steps / 20), 2),
                42);
    }

    /** Everything, natives included, in a class loader of its own, which is closed and dropped. */
    private static WeakReference<ClassLoader> trainInALoader(Path model, Path output) throws Exception {
        List<URL> urls = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
            urls.add(Path.of(entry).toUri().toURL());
        }
        try (URLClassLoader loader =
                new URLClassLoader(urls.toArray(URL[]::new), ClassLoader.getPlatformClassLoader())) {
            FutureTask<Object> use = new FutureTask<>(() -> loader.loadClass(EnduranceRun.class.getName())
                    .getMethod("train", Path.class, Path.class, int.class, int.class)
                    .invoke(null, model, output, 2, 0));
            // a thread of its own, as Jackson keeps a buffer for each thread that uses it
            Thread thread = new Thread(use);
            thread.setContextClassLoader(loader);
            thread.start();
            use.get();
            thread.join();
            return new WeakReference<>(loader);
        }
    }

    private static void requireCollected(WeakReference<ClassLoader> dropped) throws InterruptedException {
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (!dropped.refersTo(null)) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("the class loader is still held");
            }
            System.gc();
            Thread.sleep(20);
        }
    }
}
