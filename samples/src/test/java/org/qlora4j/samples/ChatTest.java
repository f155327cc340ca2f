package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.qlora4j.lora.text.Message;

/** The conversation at the terminal: what the model gets to see. */
class ChatTest {
    private final List<String> seen = new ArrayList<>();

    private void type(String system, String... lines) {
        Chat chat = new Chat(
                messages -> {
                    seen.add(String.join(
                            " | ", messages.stream().map(ChatTest::show).toList()));
                    return "answer " + seen.size();
                },
                system,
                Adapters.none());
        chat.run(new ByteArrayInputStream(String.join("\n", lines).getBytes(StandardCharsets.UTF_8)));
    }

    private static String show(Message m) {
        return m.role().charAt(0) + ":" + m.content();
    }

    @Test
    void earlierTurnsStayUntilTheyAreCleared() {
        type("", "one", "", "two", "clear", "three", "exit", "four");
        assertEquals(List.of("u:one", "u:one | a:answer 1 | u:two", "u:three"), seen);
    }

    @Test
    void theSystemMessageStaysAndCanBeReplaced() {
        type("be kind", "one", "reset-system", "be brief", "two", "quit");
        assertEquals(List.of("s:be kind | u:one", "s:be brief | u:two"), seen);
    }

    @Test
    void severalLinesAreOneMessage() {
        type("", "multi-line", "a", "b", "#", "single-line", "#", "c");
        assertEquals(List.of("u:a\nb", "u:a\nb | a:answer 1 | u:c"), seen);
    }
}
