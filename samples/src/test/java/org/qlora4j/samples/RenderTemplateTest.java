package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code qlora template} on every golden case, as a user runs it. */
class RenderTemplateTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    Path folder;

    private Cli.Output run(String template, JsonNode context, String spans) throws IOException {
        Path file = folder.resolve("t.jinja");
        Path variables = folder.resolve("c.json");
        Files.writeString(file, template);
        Files.writeString(variables, context.toString());
        return Cli.qlora(
                "template", "--template", file.toString(), "--context", variables.toString(), "--spans", spans);
    }

    @Test
    void everyGoldenCase() throws IOException {
        JsonNode cases = JSON.readTree(Path.of(System.getProperty("qlora4j.golden"), "templates/template_cases.json")
                .toFile());
        int rendered = 0;
        for (JsonNode golden : cases) {
            String name = golden.get("template_name").asText() + "/"
                    + golden.get("conversation").asText();
            String template = golden.get("template").asText();
            if (template.contains("strftime_now")) {
                continue;
            }
            Cli.Output plain = run(template, golden.get("context"), "false");
            if (golden.has("error")) {
                assertEquals(2, plain.exit(), name);
                assertTrue(
                        plain.err().contains(golden.get("error").get("message").asText()), name + plain.err());
                continue;
            }
            assertEquals(0, plain.exit(), name + plain.err());
            assertEquals(golden.get("expected").asText(), plain.out(), name);
            JsonNode spans =
                    JSON.readTree(run(template, golden.get("context"), "true").out());
            assertEquals(golden.get("expected"), spans.get("text"), name);
            JsonNode expected = golden.path("generation_spans");
            assertEquals(expected.isMissingNode() ? JSON.createArrayNode() : expected, spans.get("generation_spans"));
            rendered++;
        }
        assertTrue(rendered > 70, "rendered only " + rendered);
    }

    @Test
    void assistantSpansCountCodePoints() throws IOException {
        JsonNode context = JSON.readTree(
                "{\"messages\": [{\"role\": \"user\", \"content\": \"😀\"}, {\"role\": \"assistant\", \"content\": \"a😀\"}]}");
        String template = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
        assertEquals(
                "{\"text\":\"[😀][a😀]\",\"generation_spans\":[],\"assistant_spans\":[[4,7]]}\n",
                run(template, context, "true").out());
    }

    @Test
    void mistakesAreOneSentence() throws IOException {
        assertTrue(Cli.qlora("template").err().contains("--template FILE.jinja and --context FILE.json are needed"));
        assertTrue(run("x", JSON.createArrayNode(), "false").err().contains("must hold a JSON object"));
        Cli.Output syntax = run("{% if %}", JSON.createObjectNode(), "false");
        assertEquals(2, syntax.exit());
        assertTrue(syntax.err().contains("line 1"), syntax.err());
    }
}
