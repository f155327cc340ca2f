package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.Message;
import org.qlora4j.lora.text.jinja.Limits;
import org.qlora4j.lora.text.jinja.Template;

/** Chat templates; rendered with one hundredth of the limits in use, then the search for the assistant's parts. */
class TemplateFuzz {
    private static final Limits LIMITS = new Limits(200_000, 200, 1 << 18, 1 << 20);
    /** Of longer inputs too few fit into the time. */
    private static final int MAX_SEED = 2000;

    private static final Clock CLOCK = Clock.fixed(Instant.EPOCH, ZoneOffset.UTC);
    private static final List<Message> CONVERSATION = List.of(
            Message.system("be kind"),
            Message.user("what is 2 + 2?"),
            Message.assistant("four"),
            Message.user("thanks"),
            Message.assistant("gladly"));
    private static final Map<String, Object> TOOLS = Map.of(
            "tools",
            List.of(Map.of("type", "function", "function", Map.of("name", "add", "parameters", Map.of("a", 1.5)))));

    static Stream<Arguments> seeds() throws IOException {
        ObjectMapper json = new ObjectMapper();
        List<String> seeds = new ArrayList<>();
        for (String file : List.of("snippet_cases.json", "template_cases.json")) {
            JsonNode cases = json.readTree(Fuzzing.golden("templates/" + file).toFile());
            seeds.addAll(cases.findValuesAsText("template"));
        }
        return Fuzzing.seeds(seeds.stream()
                .distinct()
                .filter(text -> text.length() < MAX_SEED)
                .toArray(String[]::new));
    }

    @MethodSource("seeds")
    @FuzzTest
    void template(byte[] input) {
        String source = Fuzzing.text(input);
        Fuzzing.hold(() -> {
            Map<String, Object> context = new HashMap<>(TOOLS);
            context.put(
                    "messages",
                    CONVERSATION.stream()
                            .map(m -> Map.of("role", m.role(), "content", String.valueOf(m.content())))
                            .toList());
            context.put("add_generation_prompt", true);
            Template.compile(source).render(context, LIMITS, CLOCK);
            new ChatTemplate(source, "<s>", "</s>").training(CONVERSATION, TOOLS);
        });
    }
}
