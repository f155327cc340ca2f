package org.qlora4j.samples;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.qlora4j.lora.generate.Prompt;
import org.qlora4j.lora.generate.TextMetrics;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.model.TokenLosses;
import org.qlora4j.lora.model.Transformer;
import org.qlora4j.nf4.file.AtomicFile;

/**
 * {@code qlora eval}: loss, perplexity and token accuracy over all label tokens of a data set; on request the model
 * answers each row, and the answers are compared with the rows'.
 */
final class Eval {
    private Eval() {}

    /** Sums over rows. */
    private static final class Sums {
        double loss;
        long correct;
        long labels;
        double rougeL;
        double bleu;
        int exact;
    }

    static int run(Arguments a) {
        Answering answering = new Answering(a);
        boolean generate = a.bool("predict_with_generate");
        EvaluationRows wanted = new EvaluationRows(a);
        try (Session session = Session.open(a, 0)) {
            session.requireOneAdapter();
            List<Batch.Row> rows =
                    wanted.read(session.text(), session.model().config().vocabSize());
            List<Prompt> prompts = generate ? rows.stream().map(Prompt::of).toList() : List.of();
            List<int[]> ids = prompts.stream().map(Prompt::ids).toList();
            answering.requireRoom(ids, session);
            Sums sums = new Sums();
            List<ObjectNode> lines = new ArrayList<>();
            for (Batch.Row row : rows) {
                lines.add(losses(row, session.model(), sums));
                Progress.bar("evaluating", lines.size(), rows.size());
            }
            Progress.end();
            if (generate) {
                System.out.println(answering.all(
                        ids,
                        session,
                        (row, answer, tokens) -> compare(
                                answer,
                                session.text()
                                        .tokenizer()
                                        .decodeSkippingSpecial(prompts.get(row).reference()),
                                lines.get(row),
                                sums)));
            }
            if (a.has("result_path")) {
                StringBuilder out = new StringBuilder();
                lines.forEach(line -> out.append(line).append('\n'));
                AtomicFile.writeString(Path.of(a.text("result_path")), out.toString());
            }
            print(sums, rows.size(), generate);
        }
        return 0;
    }

    /** The beginning of a row's line. */
    private static ObjectNode losses(Batch.Row row, Transformer model, Sums sums) {
        ObjectNode line = JsonNodeFactory.instance.objectNode();
        int labels = row.labelTokens();
        if (labels > 0) {
            TokenLosses losses = model.evaluate(new Batch(List.of(row)));
            sums.loss += losses.sum();
            sums.correct += losses.correct();
            line.put("loss", losses.sum() / labels);
            line.put("token_acc", (double) losses.correct() / labels);
        }
        sums.labels += labels;
        return line.put("label_tokens", labels);
    }

    /** The rest of a row's line. */
    private static void compare(String answer, String reference, ObjectNode line, Sums sums) {
        double rougeL = TextMetrics.rougeL(answer, reference);
        double bleu = TextMetrics.bleu(answer, reference);
        boolean exact = TextMetrics.exactMatch(answer, reference);
        sums.rougeL += rougeL;
        sums.bleu += bleu;
        sums.exact += exact ? 1 : 0;
        line.put("response", answer);
        line.put("labels", reference);
        line.put("rouge-l", rougeL);
        line.put("bleu-4", bleu);
        line.put("exact_match", exact);
    }

    private static void print(Sums s, int rows, boolean generated) {
        System.out.printf(
                Locale.ROOT,
                "eval_loss %.6f, perplexity %.3f, token accuracy %.4f, over %d label tokens%n",
                s.loss / s.labels,
                Math.exp(s.loss / s.labels),
                (double) s.correct / s.labels,
                s.labels);
        if (generated) {
            System.out.printf(
                    Locale.ROOT,
                    "rouge-l %.4f, bleu-4 %.4f, exact match %.4f, means over %d answers%n",
                    s.rougeL / rows,
                    s.bleu / rows,
                    (double) s.exact / rows,
                    rows);
        }
    }
}
