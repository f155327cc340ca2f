package org.qlora4j.lora.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatTemplate;
import org.qlora4j.lora.text.ChatText;
import org.qlora4j.lora.text.Message;

/**
 * Reads JSONL rows and makes token rows of them. A row is one of: {@code messages} (role, content);
 * {@code query}/{@code response} with {@code history}; alpaca's {@code instruction}/{@code input}/{@code output};
 * {@code prompt}/{@code completion}; or {@code input_ids} and {@code labels}, taken as they are.
 */
public final class DatasetReader {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final ChatText text;
    private final @Nullable ChatTemplate template;
    private final @Nullable String system;
    private final @Nullable Names modelName;
    private final @Nullable Names modelAuthor;
    private final int vocabSize;

    /**
     * A reader for one model.
     *
     * @param template null to accept tokenized rows only
     * @param system a system turn for rows that have none; null for none
     * @param modelName what {{NAME}} stands for
     * @param modelAuthor what {{AUTHOR}} stands for
     * @param vocabSize token ids must be below it
     */
    public DatasetReader(
            ChatText text,
            @Nullable ChatTemplate template,
            @Nullable String system,
            @Nullable Names modelName,
            @Nullable Names modelAuthor,
            int vocabSize) {
        this.text = text;
        this.template = template;
        this.system = system;
        this.modelName = modelName;
        this.modelAuthor = modelAuthor;
        this.vocabSize = vocabSize;
    }

    /**
     * Reads and tokenizes a data set.
     *
     * @param shuffle whether N of more rows are drawn at random; else the first N are taken
     * @throws IllegalArgumentException at the first broken row; names file and line
     */
    public List<Batch.Row> read(DatasetSpec spec, boolean shuffle, long seed) {
        List<Batch.Row> all = new ArrayList<>();
        try (BufferedReader in = Files.newBufferedReader(spec.path(), StandardCharsets.UTF_8)) {
            int number = 0;
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                number++;
                if (!line.isBlank()) {
                    all.add(row(spec.path(), number, line));
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + spec.path() + ": " + e, e);
        }
        if (all.isEmpty()) {
            throw new IllegalArgumentException(spec.path() + " holds no rows");
        }
        return spec.count() < 0 ? all : sample(all, spec.count(), shuffle, seed);
    }

    /** As ms-swift: whole repetitions first, then a sample of the rest. */
    private static List<Batch.Row> sample(List<Batch.Row> all, int count, boolean shuffle, long seed) {
        List<Batch.Row> taken = new ArrayList<>();
        for (int i = 0; i < count / all.size(); i++) {
            taken.addAll(all);
        }
        int rest = count % all.size();
        if (!shuffle) {
            taken.addAll(all.subList(0, rest));
            return taken;
        }
        int[] order = Permutation.of(all.size(), new SplittableRandom(seed));
        for (int i = 0; i < rest; i++) {
            taken.add(all.get(order[i]));
        }
        return taken;
    }

    private Batch.Row row(Path file, int number, String line) {
        try {
            JsonNode json = JSON.readTree(line);
            if (!json.isObject()) {
                throw new IllegalArgumentException("expected a JSON object");
            }
            return json.has("input_ids") ? tokenized(json) : conversation(json);
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException(
                    file + " line " + number + ": is not JSON: " + e.getOriginalMessage(), e);
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(file + " line " + number + ": " + e.getMessage(), e);
        }
    }

    private Batch.Row tokenized(JsonNode json) {
        int[] ids = integers(json, "input_ids");
        int[] labels = integers(json, "labels");
        for (int i = 0; i < ids.length; i++) {
            if (ids[i] < 0 || ids[i] >= vocabSize) {
                throw new IllegalArgumentException(
                        "input_ids[" + i + "] is " + ids[i] + ", the vocabulary has " + vocabSize + " tokens");
            }
        }
        for (int i = 0; i < labels.length; i++) {
            if (labels[i] != Batch.IGNORED && (labels[i] < 0 || labels[i] >= vocabSize)) {
                throw new IllegalArgumentException(
                        "labels[" + i + "] is " + labels[i] + "; expected -100 or a token id below " + vocabSize);
            }
        }
        return new Batch.Row(ids, labels);
    }

    private static int[] integers(JsonNode json, String key) {
        JsonNode array = json.path(key);
        if (!array.isArray()) {
            throw new IllegalArgumentException("'" + key + "' must be a list of integers");
        }
        int[] values = new int[array.size()];
        for (int i = 0; i < values.length; i++) {
            if (!array.get(i).canConvertToInt() || !array.get(i).isIntegralNumber()) {
                throw new IllegalArgumentException("'" + key + "' must be a list of integers, found " + array.get(i));
            }
            values[i] = array.get(i).intValue();
        }
        return values;
    }

    private Batch.Row conversation(JsonNode json) {
        ChatTemplate chat = template;
        if (chat == null) {
            throw new IllegalArgumentException("the model has no chat template; expected input_ids and labels");
        }
        List<Message> messages = messages(json);
        if (system != null && !messages.getFirst().role().equals("system")) {
            messages.addFirst(Message.system(system));
        }
        return text.trainingRow(chat, messages);
    }

    private List<Message> messages(JsonNode json) {
        String tag = json.path("tag").asText("en");
        List<Message> messages = new ArrayList<>();
        if (json.has("messages")) {
            for (JsonNode m : json.path("messages")) {
                messages.add(new Message(string(m, "role"), filled(string(m, "content"), tag)));
            }
        } else if (json.has("response") || json.has("query")) {
            for (JsonNode turn : json.path("history")) {
                messages.add(Message.user(turn.path(0).asText()));
                messages.add(Message.assistant(turn.path(1).asText()));
            }
            messages.add(Message.user(filled(string(json, "query"), tag)));
            messages.add(Message.assistant(filled(string(json, "response"), tag)));
        } else if (json.has("instruction")) {
            String input = json.path("input").asText("");
            String question = string(json, "instruction");
            messages.add(Message.user(input.isEmpty() ? question : question + "\n" + input));
            messages.add(Message.assistant(string(json, "output")));
        } else if (json.has("prompt")) {
            messages.add(Message.user(string(json, "prompt")));
            messages.add(Message.assistant(string(json, "completion")));
        }
        if (messages.isEmpty() || messages.stream().noneMatch(m -> m.role().equals("assistant"))) {
            throw new IllegalArgumentException(
                    "has no response; expected messages, query and response, instruction and output, prompt and completion, or input_ids and labels");
        }
        return messages;
    }

    private static String string(JsonNode json, String key) {
        JsonNode v = json.path(key);
        if (!v.isTextual() || v.textValue().isEmpty()) {
            throw new IllegalArgumentException("'" + key + "' must be a text that is not empty"
                    + (v.isMissingNode() ? "; it is missing" : ", found " + v));
        }
        return v.textValue();
    }

    private String filled(String value, String tag) {
        return fill(
                fill(value, "{{NAME}}", modelName, "model_name", tag), "{{AUTHOR}}", modelAuthor, "model_author", tag);
    }

    private static String fill(String value, String placeholder, @Nullable Names names, String option, String tag) {
        if (!value.contains(placeholder)) {
            return value;
        }
        if (names == null) {
            throw new IllegalArgumentException("contains " + placeholder + "; set " + option);
        }
        return value.replace(placeholder, names.in(tag));
    }
}
