package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.lora.text.Message;

class RowParserTest {
    private static Example parse(String json) {
        return TinyModel.parser().parse(json.getBytes(StandardCharsets.UTF_8));
    }

    private static String shown(Example example) {
        return switch (example) {
            case Example.Tokens t ->
                java.util.Arrays.toString(t.row().ids())
                        + java.util.Arrays.toString(t.row().labels());
            case Example.Text t -> "text:" + t.text();
            case Example.Conversation c ->
                c.turns().stream()
                        .map(t -> t.message().role().charAt(0) + ":"
                                + t.message().content() + (t.loss() == null ? "" : t.loss() ? "+" : "-"))
                        .collect(Collectors.joining(" "));
        };
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "{'messages': [{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': 'a', 'loss': false}]} | u:q a:a-",
                "{'conversations': [{'from': 'system', 'value': 's'}, {'from': 'human', 'value': 'q'}, {'from': 'gpt', 'value': 'a'}]} | s:s u:q a:a",
                "{'conversation': [{'human': 'q', 'assistant': 'a'}, {'human': 'r', 'assistant': 'b'}], 'system': 's'} | s:s u:q a:a u:r a:b",
                "{'messages': '[{\\\"role\\\": \\\"user\\\", \\\"content\\\": \\\"q\\\"}, {\\\"role\\\": \\\"assistant\\\", \\\"content\\\": \\\"a\\\"}]'} | u:q a:a",
                "{'instruction': 'i', 'input': '', 'output': 'o'} | u:i a:o",
                "{'instruction': 'i', 'input': 'x', 'output': 'o', 'system': 's'} | s:s u:i\\nx a:o",
                "{'query': 'q', 'response': 'r', 'history': [['a', 'b'], ['c', 'd']]} | u:a a:b u:c a:d u:q a:r",
                "{'prompt': 'p', 'completion': 'c'} | u:p a:c",
                "{'prompt': [{'role': 'user', 'content': 'p'}, {'role': 'assistant', 'content': 'x'}, {'role': 'user', 'content': 'q'}], 'completion': [{'role': 'assistant', 'content': 'c'}]} | u:p- a:x- u:q- a:c",
                "{'question': 'q', 'answer': '4', 'id': 1} | u:q a:4",
                "{'problem': 'q', 'solution': 7} | u:q a:7",
                "{'text': 'plain'} | text:plain",
                "{'input_ids': [1, 2], 'labels': [-100, 2]} | [1, 2][-100, 2]"
            })
    void understandsTheFormatsPeopleUse(String json, String expected) {
        assertEquals(
                expected.replace("\\n", "\n"),
                shown(parse(
                        json.replace("'", "\"").replace("\"[{\\\"", "\"[{\\\"").replace("}]\"}", "}]\"}"))));
    }

    @Test
    void toolsAndCallsReachTheTemplate() {
        Example.Conversation c = assertInstanceOf(Example.Conversation.class, parse("""
                        {"tools": "[{\\"name\\": \\"f\\"}]", "messages": [
                         {"role": "user", "content": "q"},
                         {"role": "tool_call", "content": "{\\"name\\": \\"f\\", \\"arguments\\": {\\"x\\": 1}}"},
                         {"role": "tool_response", "content": "1"},
                         {"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning_content": "r"}]}
                        """));
        assertEquals(Map.of("tools", List.of(Map.of("name", "f"))), c.extra());
        Message call = c.messages().get(1);
        assertEquals("assistant", call.role());
        assertEquals(
                List.of(Map.of("type", "function", "function", Map.of("name", "f", "arguments", Map.of("x", 1)))),
                call.extra().get("tool_calls"));
        assertEquals("tool", c.messages().get(2).role());
        assertEquals("r", c.messages().get(3).extra().get("reasoning_content"));
        assertEquals(
                List.of(Map.of("type", "text", "text", "a")),
                c.messages().get(3).extra().get("content"));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "[1] | expected a JSON object",
                "{'a' | is not JSON",
                "{'a': 1} | has no question",
                "{'query': 'q', 'response': ''} | has no answer",
                "{'query': ['x'], 'response': 'r'} | 'query' must be a text",
                "{'messages': []} | has no message of an assistant",
                "{'messages': [{'role': 'user', 'content': 'q'}]} | has no message of an assistant",
                "{'messages': 'x'} | 'messages' must be a list",
                "{'messages': [{'content': 'q'}]} | must have a role",
                "{'messages': [{'role': 'assistant', 'content': 5}]} | content must be a text",
                "{'messages': [{'role': 'assistant', 'content': 'a', 'loss': 0.5}]} | loss must be true, false",
                "{'query': 'q', 'response': 'r', 'history': [['a']]} | 'history' must be a list of pairs",
                "{'query': '{{NAME}}?', 'response': 'r'} | set model_name",
                "{'input_ids': [1, 2.5], 'labels': [1, 2]} | list of integers",
                "{'input_ids': [1], 'labels': [1, 2]} | as many labels as ids"
            })
    void saysWhatIsWrongWithARow(String json, String expected) {
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> parse(json.replace("'", "\"")));
        assertTrue(e.getMessage().contains(expected.replace("\"", "'")), e.getMessage());
    }

    @Test
    void bytesThatAreNotUtf8AreOneBrokenRow() {
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class,
                () -> TinyModel.parser().parse(new byte[] {'{', '"', (byte) 0xff, '"', ':', '1', '}'}));
        assertTrue(e.getMessage().startsWith("is not JSON"), e.getMessage());
    }

    @Test
    void columnsAreRenamed() {
        RowParser parser = new RowParser(Map.of("frage", "query", "antwort", "response"), null, null);
        Example example = parser.parse("{\"frage\": \"q\", \"antwort\": \"a\"}".getBytes(StandardCharsets.UTF_8));
        assertEquals("u:q a:a", shown(example));
        IllegalArgumentException e =
                assertThrows(IllegalArgumentException.class, () -> new RowParser(Map.of("x", "qeury"), null, null));
        assertTrue(e.getMessage().contains("'x' cannot be read as 'qeury'"), e.getMessage());
    }

    @Test
    void namesAreFilledInTheRowsLanguage() {
        RowParser parser = new RowParser(
                Map.of(), Names.of("model_name", List.of("小羽", "Xiaoyu")), Names.of("model_author", List.of("F")));
        String row = "{\"query\": \"q\", \"response\": \"{{NAME}} by {{AUTHOR}}\", \"tag\": \"%s\"}";
        assertEquals("u:q a:小羽 by F", shown(parser.parse(row.formatted("zh").getBytes(StandardCharsets.UTF_8))));
        assertEquals("u:q a:Xiaoyu by F", shown(parser.parse(row.formatted("en").getBytes(StandardCharsets.UTF_8))));
    }
}
