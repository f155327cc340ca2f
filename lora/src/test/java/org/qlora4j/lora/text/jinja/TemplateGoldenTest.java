package org.qlora4j.lora.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Published chat templates over several conversations, against transformers' output. */
class TemplateGoldenTest {
    private static final int CASES = 119;

    static Stream<Arguments> cases() {
        JsonNode cases = GoldenTemplates.json("template_cases.json");
        return StreamSupport.stream(cases.spliterator(), false)
                .map(c -> Arguments.of(
                        c.get("template_name").asText() + "/"
                                + c.get("conversation").asText(),
                        c));
    }

    @Test
    void allCasesAreThere() {
        assertEquals(CASES, cases().count());
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("cases")
    void rendersAsTransformers(String name, JsonNode golden) {
        String template = golden.get("template").asText();
        if (golden.has("error")) {
            TemplateException e = assertThrows(
                    TemplateException.class,
                    () -> GoldenTemplates.render(template, GoldenTemplates.context(golden.get("context"))),
                    name);
            JsonNode error = golden.get("error");
            assertEquals(error.get("message").asText(), e.reason(), name);
            assertEquals(error.get("type").asText(), e.type(), name);
            assertEquals(error.get("raised_by_template").asBoolean(), e.raisedByTemplate(), name);
            return;
        }
        Rendered rendered = GoldenTemplates.render(template, GoldenTemplates.context(golden.get("context")));
        assertEquals(golden.get("expected").asText(), rendered.text(), name);
        List<Span> spans = new ArrayList<>();
        rendered.generationSpans().forEach(span -> spans.add(span.toCodePoints(rendered.text())));
        List<Span> expected = new ArrayList<>();
        golden.path("generation_spans")
                .forEach(span ->
                        expected.add(new Span(span.get(0).asInt(), span.get(1).asInt())));
        assertEquals(expected, spans, name);
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("cases")
    void piecesAreWhatTheContextHolds(String name, JsonNode golden) {
        if (golden.has("error")) {
            return;
        }
        Rendered rendered =
                GoldenTemplates.render(golden.get("template").asText(), GoldenTemplates.context(golden.get("context")));
        for (Piece piece : rendered.pieces()) {
            if (piece.sourceStart() >= 0) {
                JsonNode value = golden.get("context");
                for (Object key : piece.source().path()) {
                    value = key instanceof Integer index ? value.get(index) : value.get((String) key);
                }
                String part = value.asText()
                        .substring(
                                piece.sourceStart(),
                                piece.sourceStart() + piece.span().length());
                assertEquals(part, piece.span().of(rendered.text()), name + ": " + piece.source());
            }
        }
        assertFalse(rendered.pieces().isEmpty(), name);
    }
}
