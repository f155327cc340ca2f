package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.text.jinja.Span;
import org.qlora4j.lora.text.jinja.TemplateException;

class ChatTemplateTest {
    private static final String CHATML =
            "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
                    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    private static final List<Message> TALK = List.of(
            Message.system("S"),
            Message.user("assistant says Hi"),
            Message.assistant("Hi"),
            Message.user("Hi"),
            Message.assistant(" Bye \n"));

    private static List<String> parts(RenderedChat chat) {
        List<String> parts = new ArrayList<>();
        chat.assistantSpans().forEach(span -> parts.add(span.of(chat.text())));
        return parts;
    }

    private static List<String> parts(String template, List<Message> messages) {
        return parts(new ChatTemplate(template, "<s>", "</s>").training(messages, Map.of()));
    }

    static Stream<Arguments> golden() {
        return StreamSupport.stream(
                        GoldenFiles.json("templates/template_cases.json").spliterator(), false)
                .filter(c -> !c.has("error") && !c.get("conversation").asText().equals("content_parts"))
                .map(c -> Arguments.of(
                        c.get("template_name").asText() + "/"
                                + c.get("conversation").asText(),
                        c));
    }

    private static List<Message> messages(JsonNode golden) {
        List<Message> messages = new ArrayList<>();
        for (JsonNode node : golden.get("context").get("messages")) {
            Map<String, Object> fields = fields(node);
            String role = (String) fields.remove("role");
            messages.add(new Message(role, (String) fields.remove("content"), fields));
        }
        return messages;
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> fields(JsonNode node) {
        return new ObjectMapper().convertValue(node, LinkedHashMap.class);
    }

    private static RenderedChat render(JsonNode golden, String template) {
        Map<String, Object> extra = new HashMap<>(fields(golden.get("context")));
        extra.remove("messages");
        boolean prompt = (Boolean) extra.remove("add_generation_prompt");
        return new ChatTemplate(template, "", "").render(messages(golden), extra, prompt);
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("golden")
    void rendersMessagesAsTransformers(String name, JsonNode golden) {
        assertEquals(
                golden.get("expected").asText(),
                render(golden, golden.get("template").asText()).text(),
                name);
    }

    /** The blocks were written by people who knew the model; the rules must find the same without them. */
    @ParameterizedTest(name = "{0}")
    @MethodSource("golden")
    void findsWhatGenerationBlocksSay(String name, JsonNode golden) {
        String template = golden.get("template").asText();
        if (!template.contains("endgeneration")) {
            return;
        }
        String unmarked = template.replaceAll("(\\{%-?\\s*)generation(\\s*-?%})", "$1if true$2")
                .replaceAll("(\\{%-?\\s*)endgeneration(\\s*-?%})", "$1endif$2");
        RenderedChat marked = render(golden, template);
        RenderedChat found = render(golden, unmarked);
        assertEquals(marked.text(), found.text(), name);
        // lfm2 marks the line break behind the end of the turn, too
        List<String> expected = new ArrayList<>(parts(marked));
        expected.replaceAll(part -> part.replaceAll("<\\|im_end\\|>\n$", "<|im_end|>"));
        assertEquals(expected, parts(found), name);
        assertTrue(found.unlocated().isEmpty(), name);
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("golden")
    void everyAnswerIsInASpan(String name, JsonNode golden) {
        RenderedChat chat = render(golden, golden.get("template").asText());
        String covered = String.join("\u0000", parts(chat));
        assertTrue(chat.unlocated().isEmpty(), name + chat.unlocated());
        for (Message message : messages(golden)) {
            String content = message.content() == null ? "" : message.content();
            int thought = content.lastIndexOf("</think>");
            String answer = content.substring(thought < 0 ? 0 : thought + "</think>".length())
                    .strip();
            if (message.role().equals("assistant") && chat.text().contains(answer)) {
                assertTrue(covered.contains(answer), name + ": " + answer + " in " + parts(chat));
            }
            if (message.role().equals("user")) {
                assertFalse(covered.contains(content), name + ": " + parts(chat));
            }
        }
    }

    @Test
    void chatMl() {
        assertEquals(List.of("Hi<|im_end|>", " Bye \n<|im_end|>"), parts(CHATML, TALK));
    }

    @Test
    void generationPromptIsNotTheAssistants() {
        RenderedChat chat = new ChatTemplate(CHATML, "", "").render(TALK, Map.of(), true);
        assertTrue(chat.text().endsWith("<|im_start|>assistant\n"));
        assertEquals(List.of("Hi<|im_end|>", " Bye \n<|im_end|>"), parts(chat));
    }

    @Test
    void generationBlocksAreHonoured() {
        String template = "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}"
                + "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}";
        assertEquals(List.of("Hi", " Bye \n"), parts(template, TALK));
    }

    @Test
    void blocksThatMarkNothingAreHonouredToo() {
        String template = "{% for m in messages %}{{ m.content }}"
                + "{% if false %}{% generation %}{% endgeneration %}{% endif %}{% endfor %}";
        assertThrows(IllegalArgumentException.class, () -> parts(template, TALK));
    }

    @Test
    void rolesAsWordsOfTheTemplate() {
        String template = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
                + "{{ 'ASSISTANT: ' + m['content'] | trim + eos_token }}{% else %}{{ 'USER: ' + m['content'] + ' ' }}"
                + "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}";
        assertEquals(List.of("Hi</s>", "Bye</s>"), parts(template, TALK));
    }

    @Test
    void thinkingIsTheAssistantsUnlessThePromptHasIt() {
        String template = "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' and loop.last %}"
                + "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}"
                + "<|assistant|>\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}";
        ChatTemplate chat = new ChatTemplate(template, "", "");
        List<Message> talk =
                List.of(Message.user("q"), Message.assistant("<a"), Message.user("r"), Message.assistant("b"));
        assertEquals(
                List.of("<a<|end|>", "<think>\n\n</think>\n\nb<|end|>"),
                parts(chat.render(talk, Map.of("enable_thinking", true), false)));
        assertEquals(
                List.of("<a<|end|>", "b<|end|>"), parts(chat.render(talk, Map.of("enable_thinking", false), false)));
    }

    @Test
    void turnsThatLookDifferentOnceMoreFollow() {
        // Qwen3 drops the thinking of earlier turns, so no prefix of the conversation is a prefix of the text
        String template = "{% for m in messages %}<{{ m.role }}>{% if loop.last %}{{ m.content }}{% else %}"
                + "{{ m.content.split('</think>')[-1] }}{% endif %}</turn>{% endfor %}"
                + "{% if add_generation_prompt %}<assistant>{% endif %}";
        List<Message> talk = List.of(
                Message.user("q"), Message.assistant("t</think>a"), Message.user("r"), Message.assistant("u</think>b"));
        assertEquals(List.of("a</turn>", "u</think>b</turn>"), parts(template, talk));
    }

    @Test
    void templatesWithoutALoopOverTheMessages() {
        String template = "{% set ns = namespace(out='') %}{% for i in range(messages | length) %}"
                + "{% set ns.out = ns.out ~ '<' ~ messages[i].role ~ '>' ~ messages[i].content ~ '</turn>\n' %}{% endfor %}"
                + "{{ ns.out }}{% if add_generation_prompt %}<assistant>{% endif %}";
        assertEquals(List.of("Hi</turn>", " Bye \n</turn>"), parts(template, TALK));
    }

    @Test
    void aPromptThatIsAlwaysWrittenIsNotTheEndOfTheTurn() {
        String template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]\n{% endfor %}[assistant]";
        assertEquals(List.of("Hi[/]", " Bye \n[/]"), parts(template, TALK));
    }

    @Test
    void toolCallsAreTheAssistants() {
        String template = "{% for m in messages %}<{{ m.role }}>\n{{ m.content or '' }}{% for c in m.tool_calls %}"
                + "<call>{{ c.function | tojson }}</call>{% endfor %}<end>\n{% endfor %}"
                + "{% if add_generation_prompt %}<assistant>\n{% endif %}";
        Message call = new Message(
                "assistant", null, Map.of("tool_calls", List.of(Map.of("function", Map.of("name", "add \"x\"")))));
        List<Message> talk = List.of(Message.user("q"), call, new Message("tool", "3"), Message.assistant("three"));
        assertEquals(List.of("<call>{\"name\": \"add \\\"x\\\"\"}</call><end>", "three<end>"), parts(template, talk));
    }

    @Test
    void toolCallsWithoutAHeadingStartWithTheTurn() {
        String template = "{% for m in messages %}{% if m.tool_calls %}[CALLS]{{ m.tool_calls[0].name }}</s>"
                + "{% elif m.role == 'assistant' %}{{ m.content }}</s>{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}";
        Message call = new Message("assistant", null, Map.of("tool_calls", List.of(Map.of("name", "f"))));
        List<Message> talk = List.of(Message.user("q"), call, Message.user("r"), Message.assistant("b"));
        assertEquals(List.of("[CALLS]f</s>", "b</s>"), parts(template, talk));
    }

    @Test
    void textThatCannotBeFollowedIsRefused() {
        // a length does not know whose length it is
        String template = "{% set ns = namespace(n=0) %}{% for i in range(messages | length) %}"
                + "{% set ns.n = ns.n + messages[i].content | length %}{% endfor %}{{ ns.n }}";
        RenderedChat chat = new ChatTemplate(template, "", "").render(TALK, Map.of(), false);
        assertEquals(List.of(2, 4), chat.unlocated());
        assertThrows(IllegalArgumentException.class, () -> parts(template, TALK));
    }

    @Test
    void conversationsWithoutAnAnswerCannotTrain() {
        assertThrows(IllegalArgumentException.class, () -> parts(CHATML, List.of(Message.user("q"))));
    }

    @Test
    void emptyAnswersTeachToStop() {
        assertEquals(List.of("<|im_end|>"), parts(CHATML, List.of(Message.user("q"), Message.assistant(""))));
    }

    @Test
    void refusalsOfTheTemplateAreItsOwnWords() {
        ChatTemplate template = new ChatTemplate("x\n{{ raise_exception('no system') }}", "", "");
        TemplateException e = assertThrows(TemplateException.class, () -> template.render(TALK, false));
        assertEquals("no system", e.reason());
        assertEquals(2, e.line());
        IllegalArgumentException row =
                assertThrows(IllegalArgumentException.class, () -> template.training(TALK, Map.of()));
        assertTrue(String.valueOf(row.getMessage()).contains("no system"), row.getMessage());
    }

    @Test
    void spansCountChars() {
        List<Message> talk = List.of(Message.user("😀"), Message.assistant("a😀b"));
        RenderedChat chat = new ChatTemplate(CHATML, "", "").training(talk, Map.of());
        Span span = chat.assistantSpans().getFirst();
        assertEquals("a😀b<|im_end|>", span.of(chat.text()));
        assertEquals(span.start() - 1, span.toCodePoints(chat.text()).start());
    }

    @Test
    void manyTurnsTakeLittleTime() {
        List<Message> talk = new ArrayList<>();
        for (int i = 0; i < 1000; i++) {
            talk.add(i % 2 == 0 ? Message.user("q" + i) : Message.assistant("a" + i));
        }
        long before = System.nanoTime();
        RenderedChat chat = new ChatTemplate(CHATML, "", "").training(talk, Map.of());
        assertEquals(500, chat.assistantSpans().size());
        assertTrue(System.nanoTime() - before < 5_000_000_000L);
    }
}
