package org.qlora4j.samples;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.Message;
import org.qlora4j.lora.text.jinja.Rendered;
import org.qlora4j.lora.text.jinja.Span;
import org.qlora4j.lora.text.jinja.Template;

/** {@code qlora template}: renders a chat template as transformers does, and shows what would be learned. */
final class RenderTemplate {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final List<String> NOT_EXTRA =
            List.of("messages", "add_generation_prompt", "bos_token", "eos_token");

    private RenderTemplate() {}

    static int run(Arguments a) {
        if (!a.has("template") || !a.has("context")) {
            throw new UserException(
                    "--template FILE.jinja and --context FILE.json are needed: the template, and its variables as a JSON object");
        }
        String source = read(Path.of(a.text("template")));
        Map<String, @Nullable Object> context = context(Path.of(a.text("context")));
        Rendered rendered = Template.compile(source).render(context);
        String text = a.bool("spans") ? spans(source, context, rendered).toString() + "\n" : rendered.text();
        new PrintStream(System.out, true, StandardCharsets.UTF_8).print(text);
        System.out.flush();
        return 0;
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + file + ": " + e, e);
        }
    }

    private static Map<String, @Nullable Object> context(Path file) {
        try {
            JsonNode json = JSON.readTree(read(file));
            if (json.isObject()) {
                return JSON.convertValue(json, new TypeReference<>() {});
            }
            throw new UserException(file + " must hold a JSON object, found " + json.getNodeType());
        } catch (IOException e) {
            throw new UserException(file + " is not JSON: " + e.getMessage());
        }
    }

    /** Counted in code points, as Python counts. */
    private static ObjectNode spans(String source, Map<String, @Nullable Object> context, Rendered rendered) {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        json.put("text", rendered.text());
        add(json.putArray("generation_spans"), rendered.generationSpans(), rendered.text());
        if (context.get("messages") instanceof List<?> list && !list.isEmpty()) {
            List<Message> messages = new ArrayList<>();
            for (Object item : list) {
                messages.add(message(item));
            }
            Map<String, @Nullable Object> extra = new LinkedHashMap<>(context);
            extra.keySet().removeAll(NOT_EXTRA);
            boolean prompt = Boolean.TRUE.equals(context.get("add_generation_prompt"));
            ChatTemplate chat = new ChatTemplate(source, token(context, "bos_token"), token(context, "eos_token"));
            List<Span> parts = chat.render(messages, extra, prompt).assistantSpans();
            add(json.putArray("assistant_spans"), parts, rendered.text());
        }
        return json;
    }

    private static String token(Map<String, @Nullable Object> context, String name) {
        return context.get(name) instanceof String token ? token : "";
    }

    private static Message message(@Nullable Object item) {
        if (!(item instanceof Map<?, ?> fields) || !(fields.get("role") instanceof String role)) {
            throw new UserException("--spans true needs messages that each have a role, found " + item);
        }
        Map<String, @Nullable Object> extra = new LinkedHashMap<>();
        fields.forEach((key, value) -> extra.put(String.valueOf(key), value));
        extra.remove("role");
        Object content = extra.get("content");
        if (content instanceof String) {
            extra.remove("content");
        }
        return new Message(role, content instanceof String text ? text : null, extra);
    }

    private static void add(ArrayNode array, List<Span> spans, String text) {
        for (Span span : spans) {
            Span points = span.toCodePoints(text);
            array.addArray().add(points.start()).add(points.end());
        }
    }
}
