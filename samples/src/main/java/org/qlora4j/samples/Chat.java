package org.qlora4j.samples;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.text.Message;

/**
 * A conversation at the terminal, with ms-swift's words: exit, quit, clear, reset-system, multi-line; and adapter NAME.
 */
final class Chat {
    private static final String END_OF_LINES = "#";

    private final Function<List<Message>, String> answer;
    private final Adapters adapters;
    private final List<Message> messages = new ArrayList<>();
    private String system;
    private boolean multiLine;

    /**
     * @param answer shows and returns the model's answer
     * @param system its message; empty for none
     * @param adapters to change between, by {@code adapter NAME}
     */
    Chat(Function<List<Message>, String> answer, String system, Adapters adapters) {
        this.answer = answer;
        this.adapters = adapters;
        this.system = system;
    }

    void run(InputStream input) {
        System.out.println("type a message; 'clear' forgets the conversation, 'reset-system' asks for another system"
                + " message, 'multi-line' takes lines up to one with " + END_OF_LINES + ", 'exit' or 'quit' ends");
        if (!adapters.names().isEmpty()) {
            System.out.println("'adapter NAME' changes the adapter: " + String.join(", ", adapters.names()) + ", "
                    + Adapters.NONE);
        }
        BufferedReader in = new BufferedReader(new InputStreamReader(input, StandardCharsets.UTF_8));
        try {
            clear();
            while (true) {
                Sft.show(multiLine ? "<<<[M] " : "<<< ");
                String text = read(in);
                if (text == null || text.strip().equals("exit") || text.strip().equals("quit")) {
                    return;
                }
                switch (text.strip()) {
                    case "" -> {}
                    case "clear" -> clear();
                    case "multi-line" -> multiLine = true;
                    case "single-line" -> multiLine = false;
                    case "reset-system" -> {
                        Sft.show("<<<[S] ");
                        String line = in.readLine();
                        system = line == null ? "" : line.strip();
                        clear();
                    }
                    default -> {
                        if (!adapters.names().isEmpty() && text.startsWith("adapter ")) {
                            change(text.substring("adapter ".length()).strip());
                            continue;
                        }
                        messages.add(Message.user(text));
                        messages.add(Message.assistant(answer.apply(messages)));
                    }
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read standard input: " + e, e);
        }
    }

    private void change(String name) {
        try {
            adapters.use(name);
            System.out.println("adapter " + name);
        } catch (UserException e) {
            System.out.println(e.getMessage());
        }
    }

    private void clear() {
        messages.clear();
        if (!system.isEmpty()) {
            messages.add(Message.system(system));
        }
    }

    /** A line, or in multi-line mode all lines up to the one that ends them; null at the end of the input. */
    private @Nullable String read(BufferedReader in) throws IOException {
        String line = in.readLine();
        if (!multiLine || line == null) {
            return line;
        }
        StringBuilder text = new StringBuilder();
        while (line != null && !line.strip().equals(END_OF_LINES)) {
            text.append(text.isEmpty() ? "" : "\n").append(line);
            line = in.readLine();
        }
        return text.toString();
    }
}
