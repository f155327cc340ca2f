package org.qlora4j.lora.data;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.MappingIterator;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.csv.CsvMapper;
import com.fasterxml.jackson.dataformat.csv.CsvSchema;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** Data files, by the end of their names: {@code .jsonl .json .csv .tsv .txt .parquet}. */
final class RowFiles {
    static final Set<String> EXTENSIONS = Set.of("jsonl", "json", "csv", "tsv", "txt", "parquet");

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final CsvMapper CSV = new CsvMapper();

    /** Takes the rows of a file one by one. */
    private interface Sink {
        void row(long number, byte[] json);
    }

    private RowFiles() {}

    /** Whether a file of that name can be read. */
    static boolean reads(Path file) {
        return EXTENSIONS.contains(extension(file));
    }

    private static String extension(Path file) {
        String name = String.valueOf(file.getFileName());
        return name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT);
    }

    /**
     * All rows of a file.
     *
     * @throws IllegalArgumentException if the format is not known
     * @throws UncheckedIOException if it cannot be read
     */
    static List<RawRow> read(Path file, BrokenRows broken) {
        List<RawRow> rows = new ArrayList<>();
        Sink sink = (number, json) -> rows.add(new RawRow(file, number, json));
        try {
            switch (extension(file)) {
                case "jsonl" -> lines(file, sink);
                case "json" -> json(file, sink, broken);
                case "csv" -> csv(file, ',', sink, broken);
                case "tsv" -> csv(file, '\t', sink, broken);
                case "txt" -> lines(file, (number, line) -> sink.row(number, textRow(line)));
                case "parquet" -> ParquetRows.read(file, sink::row, broken);
                default ->
                    throw new IllegalArgumentException(
                            file + ": expected a .jsonl, .json, .csv, .tsv, .txt or .parquet file");
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + file + ": " + e, e);
        }
        return rows;
    }

    /** Lines that are not blank, as bytes: a line that is not UTF-8 must not cost the others. */
    private static void lines(Path file, Sink sink) throws IOException {
        byte[] buffer = new byte[1 << 16];
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        long number = 1;
        try (InputStream in = Files.newInputStream(file)) {
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                int from = 0;
                for (int i = 0; i < n; i++) {
                    if (buffer[i] == '\n') {
                        line.write(buffer, from, i - from);
                        emit(line, number++, sink);
                        from = i + 1;
                    }
                }
                line.write(buffer, from, n - from);
            }
        }
        emit(line, number, sink);
    }

    private static void emit(ByteArrayOutputStream line, long number, Sink sink) {
        byte[] bytes = line.toByteArray();
        line.reset();
        for (byte b : bytes) {
            if (b > ' ' || b < 0) {
                sink.row(number, bytes);
                return;
            }
        }
    }

    private static byte[] textRow(byte[] line) {
        String text = new String(line, StandardCharsets.UTF_8);
        return bytes(Map.of("text", text.endsWith("\r") ? text.substring(0, text.length() - 1) : text));
    }

    private static byte[] bytes(Object value) {
        try {
            return JSON.writeValueAsBytes(value);
        } catch (JsonProcessingException e) {
            throw new AssertionError("maps of texts and JSON trees can be written", e);
        }
    }

    /** One array of rows, or rows one behind the other. */
    private static void json(Path file, Sink sink, BrokenRows broken) throws IOException {
        try (InputStream in = Files.newInputStream(file);
                JsonParser parser = JSON.createParser(in)) {
            JsonToken first = parser.nextToken();
            JsonToken token = first == JsonToken.START_ARRAY ? parser.nextToken() : first;
            while (token != null && token != JsonToken.END_ARRAY) {
                long line = parser.currentTokenLocation().getLineNr();
                sink.row(line, bytes(parser.readValueAsTree()));
                token = parser.nextToken();
            }
        } catch (JsonProcessingException e) {
            long line = e.getLocation() == null ? 1 : e.getLocation().getLineNr();
            broken.add(
                    RawRow.where(file, line),
                    "is not JSON: " + e.getOriginalMessage() + "; what comes after it is not read");
        }
    }

    /** The first line names the columns. */
    private static void csv(Path file, char separator, Sink sink, BrokenRows broken) throws IOException {
        CsvSchema schema = CsvSchema.emptySchema().withHeader().withColumnSeparator(separator);
        long line = 1;
        try (InputStream in = Files.newInputStream(file);
                MappingIterator<Map<String, String>> rows =
                        CSV.readerForMapOf(String.class).with(schema).readValues(in)) {
            while (rows.hasNextValue()) {
                line = rows.getParser().currentTokenLocation().getLineNr();
                sink.row(line, bytes(rows.nextValue()));
            }
        } catch (JsonProcessingException e) {
            long at = e.getLocation() == null ? line : e.getLocation().getLineNr();
            broken.add(
                    RawRow.where(file, at),
                    "is not a line of this CSV file: " + e.getOriginalMessage() + "; what comes after it is not read");
        }
    }
}
