package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Disks that are full at any write, or cannot be written at all; model files that change under a run. */
class DiskFaultsTest {
    private static final String[] FULL = {"cannot", "make room there"};

    @TempDir
    static Path folder;

    private static FaultRun run;

    @BeforeAll
    static void train() throws IOException {
        run = new FaultRun(folder);
    }

    /** Limits of a file's size, from one that hits the first write to one that hits the largest. */
    @Test
    void aLimitOfFileSizes() throws IOException, InterruptedException {
        List<String> lost = new ArrayList<>();
        Path output = folder.resolve("limited");
        int hits = 0;
        int tries = Math.max(2, Math.min(40, FaultTable.TRIES));
        run.here(run.sft(output, "--max_steps", "2"));
        long largest = Files.size(output.resolve("checkpoint-2/optimizer.safetensors")) / 1024;
        for (int i = 0; i < tries; i++) {
            long limit = 1 + largest * i / tries;
            Process process = run.start(
                    "ulimit -f " + limit + "; ", "", run.sft(output, "--resume_from_checkpoint", output + ""));
            lost.addAll(run.sentence(process, FULL));
            lost.addAll(run.checkpointsLost(output));
            hits++;
        }
        lost.addAll(run.resumed(output));
        FaultTable.row(
                "full disk (ulimit -f), sft", tries, lost, hits + " sentences, resumed to the same bits at the end");
        export("full disk (ulimit -f), export", tries, i -> "ulimit -f " + (1 + 200 * i / tries) + "; ", folder);
    }

    /** Small disks, of a size that each write finds full once. */
    @Test
    void aSmallDisk() throws IOException, InterruptedException {
        Path disk = Files.createDirectories(folder.resolve("disk"));
        int tries = Math.min(40, FaultTable.TRIES);
        if (!mount(disk, "size=1m")) {
            FaultTable.row("full disk (tmpfs)", 0, List.of(), "not tried: this user may not mount");
            return;
        }
        unmount(disk);
        List<String> lost = new ArrayList<>();
        int sentences = 0;
        for (int i = 0; i < tries; i++) {
            // pages of 4 KiB, up to what all checkpoints take
            mount(disk, "size=" + 4 * (2 + 1800 * i / tries) + "k");
            Path output = disk.resolve("run");
            Process process = run.start("", "", run.sft(output, "--save_total_limit", "0"));
            if (run.finish(process) != 0) {
                lost.addAll(run.sentence(process, FULL));
                sentences++;
            }
            lost.addAll(run.checkpointsLost(output));
            if (!FaultRun.steps(output).isEmpty()) {
                mount(disk, "remount,size=64m");
                lost.addAll(run.resumed(output));
            }
            unmount(disk);
        }
        FaultTable.row("full disk (tmpfs), sft", tries, lost, sentences + " sentences, resumed with more room");
        mount(disk, "size=8k");
        export("full disk (tmpfs), export", tries, i -> resize(disk, 4L * (2 + 180 * i / tries)), disk);
        unmount(disk);
    }

    private interface Limit {
        /** @return what goes in front of the command */
        String of(int number) throws IOException, InterruptedException;
    }

    private static String resize(Path disk, long kib) throws IOException, InterruptedException {
        mount(disk, "remount,size=" + kib + "k");
        return "";
    }

    private static void export(String fault, int tries, Limit limit, Path in) throws IOException, InterruptedException {
        Path expected = folder.resolve(fault.contains("tmpfs") ? "expected-t" : "expected");
        Path output = in.resolve("exported");
        run.here(words(expected));
        Map<String, String> whole = FaultRun.whole(expected);
        List<String> lost = new ArrayList<>();
        int sentences = 0;
        for (int i = 0; i < tries; i++) {
            Process process = run.start(limit.of(i), "", words(output));
            if (run.finish(process) != 0) {
                lost.addAll(run.sentence(process, FULL));
                sentences++;
                if (Files.exists(output)) {
                    lost.add(output + " is there in part");
                }
            } else if (!whole.equals(FaultRun.whole(output))) {
                lost.add(output + " is not complete");
            }
            if (Files.exists(output)) {
                run.delete(output);
            }
        }
        FaultTable.row(fault, tries, lost, sentences + " sentences, output absent; else complete");
    }

    private static String[] words(Path output) {
        return ("export --threads 1 --quant_method bnb --quant_bits 4 --model " + run.model + " --output_dir " + output)
                .split(" ");
    }

    private static boolean mount(Path where, String options) throws IOException, InterruptedException {
        return command("mount", "-t", "tmpfs", "-o", options, "tmpfs", where.toString());
    }

    private static void unmount(Path where) throws IOException, InterruptedException {
        assertEquals(true, command("umount", where.toString()), "umount");
    }

    private static boolean command(String... words) throws IOException, InterruptedException {
        try {
            return new ProcessBuilder(words)
                            .redirectErrorStream(true)
                            .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                            .start()
                            .waitFor()
                    == 0;
        } catch (IOException e) {
            return false;
        }
    }

    @Test
    void aReadOnlyFolder() throws IOException, InterruptedException {
        Path disk = Files.createDirectories(folder.resolve("read-only"));
        boolean mounted = mount(disk, "ro");
        if (!mounted && (!disk.toFile().setWritable(false) || Files.isWritable(disk))) {
            FaultTable.row(
                    "read-only output", 0, List.of(), "not tried: this user may write everywhere, and not mount");
            return;
        }
        List<String> lost = new ArrayList<>();
        try {
            String[] sentence = {"cannot write " + disk, "give this user the right to it, or name another folder"};
            lost.addAll(run.sentence(run.start("", "", run.sft(disk)), sentence));
            lost.addAll(run.sentence(run.start("", "", run.sft(disk.resolve("new"))), sentence));
            lost.addAll(run.sentence(run.start("", "", words(disk.resolve("model"))), sentence));
        } finally {
            if (mounted) {
                unmount(disk);
            } else {
                disk.toFile().setWritable(true);
            }
        }
        FaultTable.row("read-only output, sft and export", 3, lost, "a sentence before the first step");
    }

    /** Weights are read, not mapped: once a run trains, their file may go. */
    @Test
    void theModelChangesWhileTraining() throws IOException, InterruptedException {
        Path file = run.model.resolve("model.safetensors");
        byte[] bytes = Files.readAllBytes(file);
        List<String> lost = new ArrayList<>();
        int each = Math.min(10, FaultTable.TRIES);
        int tries = each == 1 ? 1 : 4 * each;
        for (int i = 0; i < tries; i++) {
            Path output = folder.resolve("changed");
            Process process = run.start("", "", run.sft(output, "--save_total_limit", "0"));
            run.await(process, () -> Files.exists(output.resolve("checkpoint-2")));
            switch (i % 4) {
                case 0 -> Files.write(file, new byte[100]);
                case 1 -> Files.write(file, new byte[bytes.length]);
                case 2 ->
                    Files.move(
                            Files.write(folder.resolve("other"), new byte[5]),
                            file,
                            StandardCopyOption.REPLACE_EXISTING);
                default -> Files.delete(file);
            }
            int status = run.finish(process);
            if (status != 0 || !FaultRun.steps(output).contains(FaultRun.STEPS)) {
                lost.add("change " + i % 4 + ": status " + status + ", " + run.stderr());
            }
            lost.addAll(run.checkpointsLost(output));
            run.delete(output);
            Files.write(file, bytes);
        }
        FaultTable.row(
                "model file truncated, overwritten, replaced or removed while training",
                tries,
                lost,
                "no effect: all steps done, the same bits");
    }

    /** A model that is read while it is written to is refused, or read before; never half one and half the other. */
    @Test
    void theModelChangesWhileItIsRead() throws IOException, InterruptedException {
        Path file = run.model.resolve("model.safetensors");
        byte[] bytes = Files.readAllBytes(file);
        Path expected = folder.resolve("expected-model");
        run.here(words(expected));
        Path output = folder.resolve("of-changed");
        Path lock = folder.resolve(".of-changed.lock");
        List<String> lost = new ArrayList<>();
        int sentences = 0;
        int tries = Math.min(20, FaultTable.TRIES);
        for (int i = 0; i < tries; i++) {
            Process process = run.start("", "", words(output));
            run.await(process, () -> Files.exists(lock));
            Thread.sleep(i / 2);
            Files.write(file, i % 2 == 0 ? new byte[1000] : new byte[bytes.length]);
            if (run.finish(process) != 0) {
                lost.addAll(run.sentence(process, "model.safetensors: "));
                sentences++;
            } else if (!FaultRun.whole(expected).equals(FaultRun.whole(output))) {
                lost.add(output + " has other weights");
            }
            if (Files.exists(output)) {
                run.delete(output);
            }
            Files.write(file, bytes);
        }
        FaultTable.row(
                "model file truncated or overwritten while it is exported",
                tries,
                lost,
                sentences + " sentences, output absent; else complete");
    }
}
