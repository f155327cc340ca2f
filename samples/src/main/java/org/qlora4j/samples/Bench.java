package org.qlora4j.samples;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.qlora4j.samples.bench.ModelBench;

/** {@code qlora bench}: how fast a whole model trains and answers here, one line of JSON. */
final class Bench {
    private static final Set<String> OPTIONS =
            Set.of("workload", "sequence", "gradient_checkpointing", "steps", "rows", "max_new_tokens");

    private Bench() {}

    static int run(List<String> words) {
        Set<String> names = new HashSet<>(Session.OPTIONS);
        names.addAll(OPTIONS);
        Arguments a = Arguments.parse(words, names);
        String workload = a.text("workload", "train");
        boolean checkpointing = a.bool("gradient_checkpointing", false);
        int steps = a.integer("steps", 4);
        int sequence = a.integer("sequence", 512);
        if (!Set.of("train", "instructions", "generate").contains(workload)) {
            throw new UserException("workload must be train, instructions or generate, got '" + workload + "'");
        }
        if (steps < 1 || sequence < 2) {
            throw new UserException(
                    "steps must be at least 1 and sequence at least 2, got " + steps + " and " + sequence);
        }
        long start = System.nanoTime();
        try (Session session = Session.open(a, 0)) {
            double loaded = (System.nanoTime() - start) / 1e9;
            ModelBench bench = new ModelBench(session.model());
            ObjectNode line = switch (workload) {
                case "instructions" -> bench.instructions(a.integer("rows", 16), sequence, checkpointing, steps);
                case "generate" -> bench.generate(a.integer("max_new_tokens", 128), steps);
                default -> bench.train(sequence, checkpointing, steps);
            };
            System.out.println(line.put("workload", workload).put("load_s", loaded));
        }
        return 0;
    }
}
