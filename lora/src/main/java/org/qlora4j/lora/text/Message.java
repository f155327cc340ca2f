package org.qlora4j.lora.text;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * One turn of a conversation.
 *
 * @param role {@code system}, {@code user}, {@code assistant} or {@code tool}
 * @param content the text; null, which templates see as None, for a turn that only calls tools
 * @param extra further fields as the template expects them, for example {@code tool_calls} or
 *     {@code reasoning_content}; a field {@code content} here, such as a list of parts, replaces the text
 */
public record Message(String role, @Nullable String content, Map<String, ? extends @Nullable Object> extra) {
    /** Copies the fields. */
    public Message {
        extra = Collections.unmodifiableMap(new LinkedHashMap<>(extra));
    }

    public Message(String role, String content) {
        this(role, content, Map.of());
    }

    public static Message system(String content) {
        return new Message("system", content);
    }

    public static Message user(String content) {
        return new Message("user", content);
    }

    public static Message assistant(String content) {
        return new Message("assistant", content);
    }

    /** What a template sees. */
    Map<String, @Nullable Object> fields() {
        Map<String, @Nullable Object> fields = new LinkedHashMap<>();
        fields.put("role", role);
        fields.put("content", content);
        fields.putAll(extra);
        return fields;
    }
}
