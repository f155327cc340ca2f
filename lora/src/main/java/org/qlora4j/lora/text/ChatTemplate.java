package org.qlora4j.lora.text;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.text.jinja.Rendered;
import org.qlora4j.lora.text.jinja.Template;
import org.qlora4j.lora.text.jinja.TemplateException;

/**
 * A model's chat template, which turns messages into the text that the model reads, and knows which part of it the
 * assistant wrote.
 *
 * <p>Where the assistant's part is found, in this order:
 *
 * <ol>
 *   <li>A template with {@code {% generation %}} blocks says it itself; nothing is added to them or taken away.
 *   <li>Otherwise the template is watched while it runs: text that comes from a field of a message is followed into the
 *       output, and what a loop writes while its variable is a message is that message's turn. The assistant's part of
 *       a turn starts behind what {@code add_generation_prompt} writes, if the turn starts so, and else where its first
 *       field starts; it ends with the turn, without the space at the end. So it has the answer, what frames it
 *       (thinking, tool calls) and the token that ends the turn.
 *   <li>Where no loop runs over the messages, the part ends behind the text that follows the last field both in this
 *       conversation and in the same conversation cut off after this message: the token that ends the turn.
 * </ol>
 */
public final class ChatTemplate {
    private final Template template;
    private final String bos;
    private final String eos;

    /**
     * Compiles a template.
     *
     * @param source the template's text
     * @param bos value of {@code bos_token}; "" if the tokenizer has none, then the name is undefined as in
     *     transformers
     * @param eos value of {@code eos_token}, likewise
     * @throws TemplateException if the syntax is wrong; says what and in which line
     */
    public ChatTemplate(String source, String bos, String eos) {
        this.template = Template.compile(source);
        this.bos = bos;
        this.eos = eos;
    }

    /** Renders messages; with the generation prompt the model's answer comes next. */
    public String render(List<Message> messages, boolean addGenerationPrompt) {
        return rendered(messages, Map.of(), addGenerationPrompt).text();
    }

    /**
     * Renders messages and finds what the assistant wrote.
     *
     * @param extra further variables, for example {@code tools}, {@code documents} or {@code enable_thinking}
     * @throws TemplateException if the template refuses the messages, or fails
     */
    public RenderedChat render(List<Message> messages, Map<String, ?> extra, boolean addGenerationPrompt) {
        Rendered rendered = rendered(messages, extra, addGenerationPrompt);
        if (template.marksGeneration()) {
            return AssistantSpans.marked(messages, rendered);
        }
        return new AssistantSpans(this, messages, extra, rendered).find();
    }

    /**
     * Renders a conversation for training.
     *
     * @param extra further variables, for example {@code tools}
     * @throws IllegalArgumentException if the template refuses the messages, there is no assistant turn, or one cannot
     *     be found in the text: a guessed mask would train on the wrong tokens
     */
    public RenderedChat training(List<Message> messages, Map<String, ?> extra) {
        RenderedChat chat;
        try {
            chat = render(messages, extra, false);
        } catch (TemplateException e) {
            // for the reader of a data set it is the row that is wrong
            throw new IllegalArgumentException(e.getMessage(), e);
        }
        if (!chat.unlocated().isEmpty()) {
            throw new IllegalArgumentException(
                    "the chat template shows turn " + (chat.unlocated().getFirst() + 1)
                            + " of the conversation in a way that cannot be followed; its loss mask is unknown."
                            + " Mark the assistant's part by {% generation %} in the template");
        }
        if (chat.assistantParts().isEmpty()) {
            throw new IllegalArgumentException("the conversation has no assistant turn to learn from");
        }
        return chat;
    }

    Rendered rendered(List<Message> messages, Map<String, ?> extra, boolean addGenerationPrompt) {
        Map<String, @Nullable Object> context = new LinkedHashMap<>();
        context.put("messages", messages.stream().map(Message::fields).toList());
        context.put("add_generation_prompt", addGenerationPrompt);
        context.put("tools", null);
        context.put("documents", null);
        if (!bos.isEmpty()) {
            context.put("bos_token", bos);
        }
        if (!eos.isEmpty()) {
            context.put("eos_token", eos);
        }
        context.putAll(extra);
        return template.render(context);
    }
}
