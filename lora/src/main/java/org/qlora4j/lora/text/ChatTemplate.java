package org.qlora4j.lora.text;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.qlora4j.lora.text.jinja.Template;
import org.qlora4j.lora.text.jinja.TemplateException;

/**
 * A model's chat template.
 *
 * <p>Which part of the text an assistant turn covers is found by rendering the conversation up to that turn with the
 * generation prompt, and once more with the turn: what the second adds to the first is what the model would have to
 * write, with the token that ends the turn. A template for which the first is no beginning of the second is refused: a
 * guessed mask would train on the wrong tokens.
 */
public final class ChatTemplate {
    private final Template template;
    private final String bos;
    private final String eos;

    /**
     * Compiles a template.
     *
     * @param source the template's text
     * @param bos value of {@code bos_token}, "" if there is none
     * @param eos value of {@code eos_token}, "" if there is none
     * @throws TemplateException if it is no valid template; names the line
     */
    public ChatTemplate(String source, String bos, String eos) {
        this.template = Template.compile(source);
        this.bos = bos;
        this.eos = eos;
    }

    /** Part of a text, in Java chars. */
    public record Span(int start, int end) {}

    /**
     * A rendered conversation.
     *
     * @param text what the model reads
     * @param assistant the parts an assistant wrote, each with the end of its turn
     */
    public record Conversation(String text, List<Span> assistant) {}

    /** Renders messages; with the generation prompt the model's answer comes next. */
    public String render(List<Message> messages, boolean addGenerationPrompt) {
        List<Object> list = new ArrayList<>();
        for (Message m : messages) {
            list.add(Map.of("role", m.role(), "content", m.content()));
        }
        Map<String, Object> context = new HashMap<>();
        context.put("messages", list);
        context.put("add_generation_prompt", addGenerationPrompt);
        context.put("bos_token", bos);
        context.put("eos_token", eos);
        return template.render(context).text();
    }

    /**
     * Renders a conversation for training.
     *
     * @throws IllegalArgumentException if there is no assistant turn, or the template does not let turns be told apart
     */
    public Conversation training(List<Message> messages) {
        String text = render(messages, false);
        List<Span> spans = new ArrayList<>();
        for (int i = 0; i < messages.size(); i++) {
            if (!messages.get(i).role().equals("assistant")) {
                continue;
            }
            String prompt = render(messages.subList(0, i), true);
            String through = render(messages.subList(0, i + 1), false);
            if (!through.startsWith(prompt) || !text.startsWith(through)) {
                throw new IllegalArgumentException("the chat template renders turn " + (i + 1)
                        + " of the conversation in another way once more turns follow; its loss mask cannot be found");
            }
            // the line break behind the end-of-turn token belongs to the next turn
            int end = through.length();
            while (end > prompt.length() && Character.isWhitespace(through.charAt(end - 1))) {
                end--;
            }
            spans.add(new Span(prompt.length(), end));
        }
        if (spans.isEmpty()) {
            throw new IllegalArgumentException("the conversation has no assistant turn to learn from");
        }
        return new Conversation(text, spans);
    }
}
