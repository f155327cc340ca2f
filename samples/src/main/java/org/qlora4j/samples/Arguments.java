package org.qlora4j.samples;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;

/**
 * Options as ms-swift takes them: {@code --name value …} and a YAML or JSON file, flags overriding the file. Lists are
 * separated by spaces. Names are checked against what the command knows.
 */
final class Arguments {
    /** Older names of ms-swift and their present ones. */
    private static final Map<String, String> ALIASES = Map.of(
            "train_type", "tuner_type",
            "sft_type", "tuner_type",
            "ckpt_dir", "adapters",
            "dtype", "torch_dtype",
            "quantization_bit", "quant_bits",
            "init_lora_weights", "init_weights",
            "lora_target_modules", "target_modules");

    private static final ObjectMapper JSON = new ObjectMapper();

    private final Map<String, List<String>> values = new LinkedHashMap<>();
    private final Set<String> known;

    private Arguments(Set<String> known) {
        this.known = known;
    }

    /** Reads a command's words. @param known the names the command takes */
    static Arguments parse(List<String> words, Set<String> known) {
        Arguments arguments = new Arguments(known);
        int at = 0;
        if (!words.isEmpty() && !words.getFirst().startsWith("--")) {
            arguments.readFile(Path.of(words.getFirst()));
            at = 1;
        }
        while (at < words.size()) {
            String word = words.get(at++);
            if (!word.startsWith("--") || word.length() == 2) {
                throw new UserException("expected an option that begins with --, found '" + word + "'");
            }
            int equals = word.indexOf('=');
            List<String> list = new ArrayList<>();
            if (equals > 0) {
                list.add(word.substring(equals + 1));
                word = word.substring(0, equals);
            }
            while (at < words.size() && !words.get(at).startsWith("--")) {
                list.add(words.get(at++));
            }
            if (word.equals("--config")) {
                arguments.readFile(Path.of(list.isEmpty() ? "" : list.getFirst()));
            } else {
                arguments.put(word.substring(2), list);
            }
        }
        return arguments;
    }

    private void put(String name, List<String> list) {
        String plain = name.replace('-', '_');
        String present = ALIASES.getOrDefault(plain, plain);
        if (!known.contains(present)) {
            throw new UserException(
                    "there is no option --" + name + "; there are: " + String.join(", ", new TreeSet<>(known)));
        }
        values.put(present, List.copyOf(list));
    }

    private void readFile(Path file) {
        if (!Files.isRegularFile(file)) {
            throw new UserException("there is no configuration file " + file);
        }
        Object parsed;
        try {
            // YAML is a superset of JSON; the engine builds maps, lists and scalars only
            parsed = new Load(LoadSettings.builder().setLabel(file.toString()).build())
                    .loadFromString(Files.readString(file));
        } catch (YamlEngineException e) {
            throw new UserException(
                    file + " is not YAML: " + String.valueOf(e.getMessage()).replace('\n', ' '));
        } catch (IOException e) {
            throw new UserException("cannot read " + file + ": " + e);
        }
        if (!(parsed instanceof Map<?, ?> map)) {
            throw new UserException(file + " must hold 'name: value' pairs");
        }
        map.forEach((key, value) -> {
            List<String> list = new ArrayList<>();
            if (value instanceof List<?> many) {
                many.forEach(v -> list.add(scalar(v)));
            } else if (value != null) {
                list.add(scalar(value));
            }
            put(String.valueOf(key), list);
        });
    }

    private static String scalar(@Nullable Object value) {
        if (value instanceof Map<?, ?>) {
            return JSON.valueToTree(value).toString();
        }
        return String.valueOf(value);
    }

    boolean has(String name) {
        return values.containsKey(name)
                && !list(name).isEmpty()
                && !list(name).equals(List.of("None"))
                && !list(name).equals(List.of("null"));
    }

    List<String> list(String name) {
        return values.getOrDefault(name, List.of());
    }

    String text(String name, String otherwise) {
        if (!has(name)) {
            return otherwise;
        }
        if (list(name).size() > 1) {
            throw new UserException(
                    "--" + name + " takes one value, got " + list(name).size() + ": " + String.join(" ", list(name)));
        }
        return list(name).getFirst();
    }

    int integer(String name, int otherwise) {
        String v = text(name, "");
        try {
            return v.isEmpty() ? otherwise : Integer.parseInt(v);
        } catch (NumberFormatException e) {
            throw new UserException("--" + name + " must be an integer, got '" + v + "'");
        }
    }

    double number(String name, double otherwise) {
        String v = text(name, "");
        try {
            return v.isEmpty() ? otherwise : Double.parseDouble(v);
        } catch (NumberFormatException e) {
            throw new UserException("--" + name + " must be a number, got '" + v + "'");
        }
    }

    boolean bool(String name, boolean otherwise) {
        if (values.containsKey(name) && list(name).isEmpty()) {
            return true;
        }
        return switch (text(name, String.valueOf(otherwise)).toLowerCase(java.util.Locale.ROOT)) {
            case "true" -> true;
            case "false" -> false;
            default -> throw new UserException("--" + name + " must be true or false, got '" + text(name, "") + "'");
        };
    }

    /** A JSON value. */
    JsonNode json(String name) {
        if (!has(name)) {
            return JsonNodeFactory.instance.missingNode();
        }
        try {
            return JSON.readTree(String.join(" ", list(name)));
        } catch (JsonProcessingException e) {
            throw new UserException("--" + name + " must be JSON: " + e.getOriginalMessage());
        }
    }

    /** For args.json. */
    ObjectNode toJson() {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        values.forEach((name, list) -> {
            if (list.size() == 1) {
                json.put(name, list.getFirst());
            } else {
                ArrayNode array = json.putArray(name);
                list.forEach(array::add);
            }
        });
        return json;
    }
}
