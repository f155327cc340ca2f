package org.qlora4j.lora.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Small templates of one feature each, against transformers' output. */
class SnippetGoldenTest {
    private static final int CASES = 62;

    static Stream<Arguments> cases() {
        JsonNode golden = GoldenTemplates.json("snippet_cases.json");
        return StreamSupport.stream(golden.get("cases").spliterator(), false)
                .map(c -> Arguments.of(c.get("template").asText(), golden.get("context"), c));
    }

    @Test
    void allCasesAreThere() {
        assertEquals(CASES, cases().count());
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("cases")
    void rendersAsTransformers(String template, JsonNode context, JsonNode golden) {
        if (golden.has("error")) {
            TemplateException e = assertThrows(
                    TemplateException.class, () -> GoldenTemplates.render(template, GoldenTemplates.context(context)));
            assertEquals(golden.get("error").get("message").asText(), e.reason());
            assertEquals(golden.get("error").get("type").asText(), e.type());
        } else {
            assertEquals(
                    golden.get("expected").asText(),
                    GoldenTemplates.render(template, GoldenTemplates.context(context))
                            .text());
        }
    }
}
