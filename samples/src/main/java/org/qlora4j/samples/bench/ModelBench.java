package org.qlora4j.samples.bench;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.KvCache;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.optim.Optimizer;
import org.qlora4j.optim.OptimizerConfig;

/**
 * A whole model's speed and memory: training steps and generation, as {@code benchmarks/peer_train.py} and
 * {@code peer_generate.py} measure them for transformers with peft and bitsandbytes. One line of JSON each.
 */
public final class ModelBench {
    private static final int RANK = 8;
    private static final int ALPHA = 32;
    private static final int PROMPT = 64;

    private final Transformer model;
    private final Runnable timingStarts;

    /** @param timingStarts called after the rounds that warm up */
    public ModelBench(Transformer model, Runnable timingStarts) {
        this.model = model;
        this.timingStarts = timingStarts;
    }

    /**
     * AdamW steps on one sequence of random tokens, all of them labelled.
     *
     * @param tokens its length
     * @param steps timed ones, after as many that are not
     */
    public ObjectNode train(int tokens, boolean checkpointing, int steps) {
        int[] ids = randomIds(tokens, 0);
        return time(List.of(new Batch(List.of(new Batch.Row(ids, ids.clone())))), checkpointing, steps)
                .put("sequence", tokens);
    }

    /**
     * Rows as instruction data has them, 30 to 400 tokens long, the second half of each labelled, packed one behind the
     * other into batches.
     *
     * @param rows how many; one step takes all of them
     * @param packed tokens of a batch
     */
    public ObjectNode instructions(int rows, int packed, boolean checkpointing, int steps) {
        List<Batch> batches = new ArrayList<>();
        List<Batch.Row> open = new ArrayList<>();
        int used = 0;
        for (int i = 0; i < rows; i++) {
            int[] ids = randomIds(30 + i * 97 % 371, i);
            int[] labels = ids.clone();
            Arrays.fill(labels, 0, labels.length / 2, Batch.IGNORED);
            if (used + ids.length > packed) {
                batches.add(new Batch(open));
                open = new ArrayList<>();
                used = 0;
            }
            open.add(new Batch.Row(ids, labels));
            used += ids.length;
        }
        batches.add(new Batch(open));
        return time(batches, checkpointing, steps).put("rows", rows);
    }

    private ObjectNode time(List<Batch> batches, boolean checkpointing, int steps) {
        model.setGradientCheckpointing(checkpointing);
        int tokens = batches.stream().mapToInt(Batch::tokens).sum();
        int labels = batches.stream().mapToInt(Batch::labelTokens).sum();
        double[] seconds = new double[steps];
        double loss = 0;
        ProcessTimes started;
        try (LoraAdapter adapter = LoraAdapter.attach(model, LoraConfig.allLinear(RANK, ALPHA), 1);
                Optimizer optimizer = new Optimizer(
                        model.device(), adapter.parameters(), OptimizerConfig.adamW(0.9, 0.999, 1e-8, 0))) {
            ProcessMemory.resetPeak();
            started = ProcessTimes.now();
            for (int i = -steps; i < steps; i++) {
                if (i == 0) {
                    timingStarts.run();
                }
                long start = System.nanoTime();
                adapter.parameters().zeroGradients();
                double sum = 0;
                for (Batch batch : batches) {
                    for (double l : model.gradients(batch, 1.0 / labels, i)) {
                        sum += l;
                    }
                }
                optimizer.step(1e-4);
                loss = sum / labels;
                if (i >= 0) {
                    seconds[i] = (System.nanoTime() - start) / 1e9;
                }
            }
        }
        double step = median(seconds);
        ObjectNode line = JsonNodeFactory.instance.objectNode();
        line.put("tokens", tokens);
        line.put("gradient_checkpointing", checkpointing);
        line.put("seconds_to_first_step", started.seconds());
        line.put("cpu_seconds_to_first_step", started.cpuSeconds());
        line.put("step_s", step);
        line.put("tokens_per_second", tokens / step);
        line.put("loss", loss);
        line.put("peak_mb", ProcessMemory.peakMb());
        line.put("file_backed_mb", ProcessMemory.fileBackedMb());
        line.put("device_mb", model.device().peakBytes() / 1e6);
        return line;
    }

    /**
     * Greedy tokens behind prompts of 64 random ones: time to the first, and the rate of the others in all.
     *
     * @param tokens to generate
     * @param batch prompts at a time
     * @param rounds timed ones, after as many that are not
     */
    public ObjectNode generate(int tokens, int batch, int rounds) {
        List<int[]> prompts =
                IntStream.range(0, batch).mapToObj(i -> randomIds(PROMPT, i)).toList();
        double[] first = new double[rounds];
        double[] rate = new double[rounds];
        for (int i = -rounds; i < rounds; i++) {
            if (i == 0) {
                timingStarts.run();
            }
            try (Scope scope = model.device().newScope()) {
                List<KvCache> caches = prompts.stream()
                        .map(p -> model.newCache(PROMPT + tokens, scope))
                        .toList();
                long start = System.nanoTime();
                float[][] logits = model.nextLogits(prompts, caches);
                long answered = System.nanoTime();
                for (int n = 1; n < tokens; n++) {
                    List<int[]> next = Arrays.stream(logits)
                            .map(row -> new int[] {best(row)})
                            .toList();
                    logits = model.nextLogits(next, caches);
                }
                if (i >= 0) {
                    first[i] = (answered - start) / 1e9;
                    rate[i] = (double) batch * (tokens - 1) / ((System.nanoTime() - answered) / 1e9);
                }
            }
        }
        ObjectNode line = JsonNodeFactory.instance.objectNode();
        line.put("max_batch_size", batch);
        line.put("first_token_s", median(first));
        line.put("tokens_per_second", median(rate));
        line.put("peak_mb", ProcessMemory.peakMb());
        return line;
    }

    private static int best(float[] logits) {
        int best = 0;
        for (int i = 1; i < logits.length; i++) {
            if (logits[i] > logits[best]) {
                best = i;
            }
        }
        return best;
    }

    private int[] randomIds(int n, long seed) {
        SplittableRandom random = new SplittableRandom(seed);
        int[] ids = new int[n];
        for (int i = 0; i < n; i++) {
            ids[i] = 3 + random.nextInt(model.config().vocabSize() - 3);
        }
        return ids;
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        int mid = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[mid] : (sorted[mid - 1] + sorted[mid]) / 2;
    }
}
