package org.qlora4j.samples;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.qlora4j.lora.data.DatasetReader;
import org.qlora4j.lora.data.DatasetSpec;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.nf4.file.AtomicFile;

/** {@code qlora eval}: the loss of each row of a data set. */
final class Eval {
    private Eval() {}

    static int run(Arguments a) {
        if (!a.has("val_dataset")) {
            throw new UserException("--val_dataset is missing: one or more files, folders or ids");
        }
        Datasets datasets = new Datasets(a);
        List<DatasetSpec> specs = datasets.specs("val_dataset");
        try (Session session = Session.open(a, 0)) {
            DatasetReader reader =
                    datasets.reader(session.text(), session.model().config().vocabSize());
            StringBuilder out = new StringBuilder();
            double total = 0;
            long tokens = 0;
            for (DatasetSpec spec : specs) {
                for (Batch.Row row : reader.read(spec, false, 0, 0).train()) {
                    double sum = 0;
                    if (row.labelTokens() > 0) {
                        for (float loss : session.model().losses(new Batch(List.of(row)))) {
                            sum += loss;
                        }
                    }
                    total += sum;
                    tokens += row.labelTokens();
                    var line = JsonNodeFactory.instance.objectNode();
                    line.put("loss", row.labelTokens() == 0 ? Double.NaN : sum / row.labelTokens());
                    line.put("label_tokens", row.labelTokens());
                    out.append(line).append('\n');
                }
            }
            datasets.printBroken();
            if (a.has("result_path")) {
                AtomicFile.writeString(Path.of(a.text("result_path")), out.toString());
            }
            System.out.printf(
                    Locale.ROOT,
                    "eval_loss %.6f over %d label tokens, perplexity %.3f%n",
                    total / tokens,
                    tokens,
                    Math.exp(total / tokens));
        }
        return 0;
    }
}
