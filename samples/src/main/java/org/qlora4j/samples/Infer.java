package org.qlora4j.samples;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Sampling;
import org.qlora4j.lora.text.Message;

/** {@code qlora infer}: talks to a model, with or without an adapter. */
final class Infer {
    private Infer() {}

    static int run(Arguments a) {
        Sampling sampling =
                new Sampling(a.number("temperature"), a.integer("top_k"), a.number("top_p"), a.integer("seed"));
        int maxNewTokens = a.integer("max_new_tokens");
        boolean stream = a.bool("stream");
        try (Session session = Session.open(a, 0)) {
            Generator generator = new Generator(session.model(), session.text());
            List<Message> messages = new ArrayList<>();
            if (a.has("system")) {
                messages.add(Message.system(a.text("system")));
            }
            if (a.has("prompt")) {
                messages.add(Message.user(a.text("prompt")));
                answer(generator, messages, sampling, maxNewTokens, stream);
                return 0;
            }
            System.out.println("type a message; 'clear' forgets the conversation, 'exit' or 'quit' ends");
            chat(generator, messages, sampling, maxNewTokens, stream);
        }
        return 0;
    }

    private static void chat(
            Generator generator, List<Message> messages, Sampling sampling, int maxNewTokens, boolean stream) {
        List<Message> start = List.copyOf(messages);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try {
            while (true) {
                Sft.show("<<< ");
                String line = in.readLine();
                if (line == null || line.strip().equals("exit") || line.strip().equals("quit")) {
                    return;
                }
                if (line.isBlank()) {
                    continue;
                }
                if (line.strip().equals("clear")) {
                    messages.clear();
                    messages.addAll(start);
                    continue;
                }
                messages.add(Message.user(line));
                messages.add(Message.assistant(answer(generator, messages, sampling, maxNewTokens, stream)));
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read standard input: " + e, e);
        }
    }

    private static String answer(
            Generator generator, List<Message> messages, Sampling sampling, int maxNewTokens, boolean stream) {
        String text = generator.answer(messages, sampling, maxNewTokens, stream ? Sft::show : piece -> {});
        System.out.println(stream ? "" : text);
        return text;
    }
}
