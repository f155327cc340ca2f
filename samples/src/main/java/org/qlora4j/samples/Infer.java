package org.qlora4j.samples;

import java.util.ArrayList;
import java.util.List;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.text.Message;

/** {@code qlora infer}: one question, a conversation, or all rows of a data set. */
final class Infer {
    private Infer() {}

    static int run(Arguments a) {
        Answering answering = new Answering(a);
        EvaluationRows rows = a.has("val_dataset") || a.bool("load_data_args") ? new EvaluationRows(a) : null;
        try (Session session = Session.open(a, 0)) {
            if (rows != null || a.has("prompt")) {
                session.requireOneAdapter();
            }
            if (rows != null) {
                BatchAnswers.write(a, rows, session, answering);
                return 0;
            }
            Generator generator = new Generator(session.model(), session.text());
            boolean stream = a.bool("stream");
            if (a.has("prompt")) {
                List<Message> messages = new ArrayList<>();
                if (a.has("system")) {
                    messages.add(Message.system(a.text("system")));
                }
                messages.add(Message.user(a.text("prompt")));
                answer(generator, messages, answering, stream);
                return 0;
            }
            new Chat(messages -> answer(generator, messages, answering, stream), a.text("system"), session.adapters())
                    .run(System.in);
        }
        return 0;
    }

    private static String answer(Generator generator, List<Message> messages, Answering answering, boolean stream) {
        String text =
                generator.answer(messages, answering.sampling(), answering.ending(), stream ? Sft::show : piece -> {});
        System.out.println(stream ? "" : text);
        return text;
    }
}
