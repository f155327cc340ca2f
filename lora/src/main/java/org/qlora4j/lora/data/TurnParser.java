package org.qlora4j.lora.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.text.Message;

/**
 * Reads the messages of a conversation: OpenAI's {@code role} and {@code content}, sharegpt's {@code from} and
 * {@code value}, or pairs of {@code human} and {@code assistant}.
 */
final class TurnParser {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<String, String> ROLES = Map.of(
            "human", "user",
            "gpt", "assistant",
            "bot", "assistant",
            "chatgpt", "assistant",
            "observation", "tool",
            "tool_response", "tool",
            "function_response", "tool");
    private static final Set<String> CALLS = Set.of("tool_call", "function_call");
    private static final Set<String> CONSUMED = Set.of("role", "from", "content", "value", "loss");

    private TurnParser() {}

    static List<Example.Turn> turns(JsonNode list) {
        List<Example.Turn> turns = new ArrayList<>();
        for (JsonNode node : list) {
            if (node.has("human") && node.has("assistant")) {
                turns.add(new Example.Turn(Message.user(node.path("human").asText()), null));
                turns.add(new Example.Turn(
                        Message.assistant(node.path("assistant").asText()), loss(node)));
            } else {
                turns.add(turn(node));
            }
        }
        return turns;
    }

    private static Example.Turn turn(JsonNode node) {
        JsonNode role = node.has("role") ? node.path("role") : node.path("from");
        JsonNode content = node.has("content") ? node.path("content") : node.path("value");
        if (!role.isTextual()) {
            throw new IllegalArgumentException(
                    "a message must have a role and a content (or from and value), found " + RowParser.shown(node));
        }
        if (CALLS.contains(role.textValue())) {
            return new Example.Turn(call(content), loss(node));
        }
        Map<String, @Nullable Object> extra = new LinkedHashMap<>();
        node.properties().forEach(field -> {
            if (!CONSUMED.contains(field.getKey())) {
                extra.put(field.getKey(), JSON.convertValue(field.getValue(), Object.class));
            }
        });
        if (content.isArray()) {
            extra.put("content", JSON.convertValue(content, Object.class));
        } else if (!content.isTextual() && extra.isEmpty()) {
            throw new IllegalArgumentException("a message's content must be a text, found " + RowParser.shown(node));
        }
        String name = ROLES.getOrDefault(role.textValue(), role.textValue());
        return new Example.Turn(new Message(name, content.isTextual() ? content.textValue() : null, extra), loss(node));
    }

    /** ms-swift and LLaMA-Factory write a call as a message of its own: {@code {"name": …, "arguments": …}}. */
    private static Message call(JsonNode content) {
        try {
            JsonNode call = content.isTextual() ? JSON.readTree(content.textValue()) : content;
            if (call.path("name").isTextual()) {
                Object function = JSON.convertValue(call, Object.class);
                return new Message(
                        "assistant",
                        null,
                        Map.of("tool_calls", List.of(Map.of("type", "function", "function", function))));
            }
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("a tool call must be JSON: " + e.getOriginalMessage(), e);
        }
        throw new IllegalArgumentException(
                "a tool call must have a name and arguments, found " + RowParser.shown(content));
    }

    private static @Nullable Boolean loss(JsonNode message) {
        JsonNode loss = message.path("loss");
        if (loss.isMissingNode() || loss.isNull()) {
            return null;
        }
        if (loss.isBoolean() || loss.isNumber() && (loss.doubleValue() == 0 || loss.doubleValue() == 1)) {
            return loss.isBoolean() ? loss.booleanValue() : loss.doubleValue() == 1;
        }
        throw new IllegalArgumentException("a message's loss must be true, false, 1 or 0, found " + loss);
    }
}
