package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RowFilesTest {
    @TempDir
    Path folder;

    private final BrokenRows broken = new BrokenRows(false);

    private List<String> read(String name, String content) throws IOException {
        Path file = folder.resolve(name);
        Files.writeString(file, content);
        return RowFiles.read(file, broken).stream()
                .map(r -> r.number() + " " + new String(r.json(), StandardCharsets.UTF_8))
                .toList();
    }

    @Test
    void jsonLines() throws IOException {
        assertEquals(List.of("1 {\"a\":1}\r", "4 x", "5 é"), read("a.jsonl", "{\"a\":1}\r\n\n  \nx\né"));
        assertEquals(List.of(), read("b.jsonl", "\n\n"));
        String large = "{\"a\": \"" + "x".repeat(200_000) + "\"}";
        assertEquals(List.of("1 " + large, "2 " + large), read("c.jsonl", large + "\n" + large));
    }

    @Test
    void jsonArraysAndRowsOneBehindTheOther() throws IOException {
        assertEquals(List.of("2 {\"a\":1}", "3 {\"a\":2}"), read("a.json", "[\n{\"a\": 1},\n{\"a\": 2}]"));
        assertEquals(List.of("1 {\"a\":1}", "3 {\"a\":2}"), read("b.json", "\uFEFF{\"a\": 1}\n\n{\"a\":\n 2}"));
        assertEquals(List.of("1 {\"a\":1}"), read("cut.json", "[{\"a\": 1}, {\"a\""));
        assertEquals(1, broken.count());
        assertTrue(
                broken.first().getFirst().contains("cut.json line 1: is not JSON"),
                broken.first().toString());
    }

    @Test
    void commasAndTabs() throws IOException {
        assertEquals(
                List.of("{\"q\":\"a, \\\"b\\\"\",\"r\":\"1\\n2\"}", "{\"q\":\"ü\",\"r\":\"\"}"),
                read("a.csv", "\uFEFFq,r\r\n\"a, \"\"b\"\"\",\"1\n2\"\r\nü,\r\n").stream()
                        .map(r -> r.substring(r.indexOf(' ') + 1))
                        .toList());
        assertEquals(1, read("a.tsv", "q\tr\na,b\tc\n").size());
        read("wide.csv", "q,r\n1,2\n1,2,3\n");
        assertEquals(1, broken.count());
        assertTrue(
                broken.first().getFirst().contains("wide.csv line 3"),
                broken.first().toString());
    }

    @Test
    void textLines() throws IOException {
        assertEquals(
                List.of("1 {\"text\":\"one \\\"line\\\"\"}", "3 {\"text\":\"two\"}"),
                read("a.txt", "one \"line\"\r\n\ntwo\n"));
    }

    @Test
    void otherFilesAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> RowFiles.read(folder.resolve("a.arrow"), broken));
        assertThrows(java.io.UncheckedIOException.class, () -> RowFiles.read(folder.resolve("no.jsonl"), broken));
    }
}
