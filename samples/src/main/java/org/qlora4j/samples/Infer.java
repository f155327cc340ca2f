package org.qlora4j.samples;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.lora.generate.Ending;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Sampling;
import org.qlora4j.lora.text.Message;

/** {@code qlora infer}: one question, a conversation, or all rows of a data set. */
final class Infer {
    private Infer() {}

    static int run(Arguments a) {
        Sampling sampling = sampling(a);
        Ending ending = ending(a);
        EvaluationRows rows = a.has("val_dataset") || a.bool("load_data_args") ? new EvaluationRows(a) : null;
        try (Session session = Session.open(a, 0)) {
            Generator generator = new Generator(session.model(), session.text());
            if (rows != null || a.has("prompt")) {
                session.requireOneAdapter();
            }
            if (rows != null) {
                BatchAnswers.write(a, rows, session, generator, sampling, ending);
                return 0;
            }
            boolean stream = a.bool("stream");
            if (a.has("prompt")) {
                List<Message> messages = new ArrayList<>();
                if (a.has("system")) {
                    messages.add(Message.system(a.text("system")));
                }
                messages.add(Message.user(a.text("prompt")));
                answer(generator, messages, sampling, ending, stream);
                return 0;
            }
            new Chat(
                            messages -> answer(generator, messages, sampling, ending, stream),
                            a.text("system"),
                            session.adapters())
                    .run(System.in);
        }
        return 0;
    }

    static Sampling sampling(Arguments a) {
        return new Sampling(
                a.number("temperature"),
                a.integer("top_k"),
                a.number("top_p"),
                a.number("repetition_penalty"),
                a.integer("seed"));
    }

    static Ending ending(Arguments a) {
        return new Ending(a.integer("max_new_tokens"), a.list("stop_words"));
    }

    private static String answer(
            Generator generator, List<Message> messages, Sampling sampling, Ending ending, boolean stream) {
        String text = generator.answer(messages, sampling, ending, stream ? Sft::show : piece -> {});
        System.out.println(stream ? "" : text);
        return text;
    }
}
