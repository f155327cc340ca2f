package org.qlora4j.lora.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.util.Objects;
import java.util.Set;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Python's and Jinja's corners, against what jinja2 gave (edge_cases.json says which). */
class EdgeCasesTest {
    /** Errors of jinja2's and Python's compilers: which of them it is depends on how jinja2 is built. */
    private static final Set<String> COMPILE_TIME =
            Set.of("TemplateSyntaxError", "SyntaxError", "TemplateAssertionError");

    static Stream<Arguments> cases() throws IOException {
        try (InputStream file = Objects.requireNonNull(EdgeCasesTest.class.getResourceAsStream("edge_cases.json"))) {
            JsonNode golden = new ObjectMapper().readTree(file);
            return StreamSupport.stream(golden.get("cases").spliterator(), false)
                    .map(c -> Arguments.of(c.get("template").asText(), golden.get("context"), c));
        }
    }

    @ParameterizedTest(name = "[{index}] {0}")
    @MethodSource("cases")
    void rendersAsJinja2(String template, JsonNode context, JsonNode golden) {
        if (!golden.has("error")) {
            assertEquals(
                    golden.get("expected").asText(),
                    GoldenTemplates.render(template, GoldenTemplates.context(context))
                            .text());
            return;
        }
        TemplateException e = assertThrows(
                TemplateException.class, () -> GoldenTemplates.render(template, GoldenTemplates.context(context)));
        String type = golden.get("error").asText();
        if (COMPILE_TIME.contains(type)) {
            assertTrue(e.type().startsWith("Template"), e.getMessage());
        } else if (!template.contains("include")) {
            // include is refused while reading: there is nothing to include from
            assertEquals(type, e.type(), e.getMessage());
        }
    }
}
