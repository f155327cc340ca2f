package org.qlora4j.samples;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import picocli.CommandLine.ParseResult;

/**
 * A command's options, as given on the command line, in the file or by default; in this order. {@code None} and
 * {@code null} stand for an option that is not given, as in ms-swift.
 */
final class Arguments {
    private static final Set<String> ABSENT = Set.of("None", "null");

    private final Map<String, Option> options = new LinkedHashMap<>();
    private final Map<String, List<String>> given = new LinkedHashMap<>();

    private Arguments(Command command) {
        command.groups.forEach(group -> group.options().forEach(option -> options.put(option.name(), option)));
    }

    /** Reads a command's words. @throws UserException if the command does not take them */
    static Arguments parse(Command command, List<String> words) {
        return of(command, CommandLines.parse(CommandLines.of(command), words));
    }

    /** What picocli found: the file's options first, then those on the command line. */
    static Arguments of(Command command, ParseResult line) {
        Arguments arguments = new Arguments(command);
        String file = line.matchedOptionValue("--config", line.matchedPositionalValue(0, ""));
        if (!file.isEmpty()) {
            OptionFile.read(file).forEach((name, value) -> {
                Option option = arguments.options.get(Options.presentName(name));
                if (option == null) {
                    throw new UserException(
                            file + ": " + CommandLines.unknownOption(CommandLines.of(command), "--" + name));
                }
                arguments.take(option, OptionFile.words(value, option.kind()));
            });
        }
        for (Option option : arguments.options.values()) {
            if (line.hasMatchedOption("--" + option.name())) {
                List<String> words = line.matchedOptionValue("--" + option.name(), List.of());
                boolean flag = option.kind() == Option.Kind.BOOLEAN || option.kind() == Option.Kind.AMOUNT;
                arguments.take(option, words.isEmpty() && flag ? List.of("true") : words);
            }
        }
        return arguments;
    }

    private void take(Option option, List<String> words) {
        if (words.isEmpty() || words.size() == 1 && ABSENT.contains(words.getFirst())) {
            given.remove(option.name());
        } else {
            option.check(words);
            given.put(option.name(), words);
        }
    }

    private Option option(String name) {
        Option option = options.get(name);
        if (option == null) {
            throw new NoSuchElementException("this command has no option --" + name);
        }
        return option;
    }

    /** Whether a value was given. */
    boolean has(String name) {
        return given.containsKey(name);
    }

    /** The values given, or the default, or none. */
    List<String> list(String name) {
        List<String> values = given.get(name);
        if (values != null) {
            return values;
        }
        String fallback = option(name).fallback();
        return fallback.isEmpty() ? List.of() : List.of(fallback);
    }

    /** The value given, or the default, or an empty text. */
    String text(String name) {
        return String.join(" ", list(name));
    }

    int integer(String name) {
        return Integer.parseInt(text(name));
    }

    double number(String name) {
        return Double.parseDouble(text(name));
    }

    boolean bool(String name) {
        return Boolean.parseBoolean(text(name));
    }

    /** A JSON value; missing if none was given. */
    JsonNode json(String name) {
        if (!has(name)) {
            return JsonNodeFactory.instance.missingNode();
        }
        try {
            return Option.MAPPER.readTree(text(name));
        } catch (JsonProcessingException e) {
            throw new UserException("--" + name + " must be JSON: " + e.getOriginalMessage());
        }
    }

    /** Settles an option whose default follows from others. */
    void settle(String name, Object value) {
        if (!has(name)) {
            given.put(option(name).name(), List.of(String.valueOf(value)));
        }
    }

    /** All options with the values that hold, for args.json. */
    ObjectNode toJson() {
        ObjectNode json = JsonNodeFactory.instance.objectNode();
        for (Option option : options.values()) {
            String name = option.name();
            if (option.kind() == Option.Kind.LIST) {
                ArrayNode array = json.putArray(name);
                list(name).forEach(array::add);
            } else if (list(name).isEmpty()) {
                json.putNull(name);
            } else {
                switch (option.kind()) {
                    case INTEGER -> json.put(name, integer(name));
                    case NUMBER -> json.put(name, number(name));
                    case BOOLEAN -> json.put(name, bool(name));
                    case JSON -> json.set(name, json(name));
                    case AMOUNT -> putAmount(json, name);
                    case TEXT, LIST -> json.put(name, text(name));
                }
            }
        }
        return json;
    }

    private void putAmount(ObjectNode json, String name) {
        if (Option.isBoolean(text(name))) {
            json.put(name, bool(name));
        } else if (text(name).equalsIgnoreCase("auto")) {
            json.put(name, "auto");
        } else {
            json.put(name, integer(name));
        }
    }
}
