package org.qlora4j.samples;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;

/** A YAML or JSON file of options. */
final class OptionFile {
    private static final int MAX_VALUES = 100_000;
    private static final int MAX_DEPTH = 50;

    private OptionFile() {}

    /** Its names and values: texts, lists of texts, or JSON as text. */
    static Map<String, @Nullable Object> read(String name) {
        Path file = Path.of(name);
        if (!Files.isRegularFile(file)) {
            throw new UserException("there is no configuration file " + file);
        }
        Object parsed;
        try {
            // YAML is a superset of JSON; the engine builds maps, lists and scalars only
            parsed = new Load(LoadSettings.builder().setLabel(file.toString()).build())
                    .loadFromString(Files.readString(file));
        } catch (YamlEngineException | IllegalArgumentException e) {
            // the engine's checks of tags are the JDK's exceptions
            throw new UserException(
                    file + " is not YAML: " + String.valueOf(e.getMessage()).replace('\n', ' '));
        } catch (StackOverflowError e) {
            throw new UserException(file + " is nested too deeply to be read");
        } catch (IOException e) {
            throw new UserException("cannot read " + file + ": " + e);
        }
        if (!(parsed instanceof Map<?, ?> map)) {
            throw new UserException(file + " must hold 'name: value' pairs");
        }
        new Size(file).count(map, 0);
        Map<String, @Nullable Object> values = new LinkedHashMap<>();
        map.forEach((key, value) -> values.put(String.valueOf(key), value));
        return values;
    }

    /** Aliases make a tree of any size, or one without end, of a few letters: it is walked before it is written out. */
    private static final class Size {
        private final Path file;
        private int values;

        Size(Path file) {
            this.file = file;
        }

        void count(@Nullable Object value, int depth) {
            if (++values > MAX_VALUES || depth > MAX_DEPTH) {
                throw new UserException(file + " holds more than " + MAX_VALUES
                        + " values, or lists nested deeper than " + MAX_DEPTH + ", with what its aliases repeat");
            }
            if (value instanceof Map<?, ?> map) {
                map.forEach((key, inner) -> {
                    if (key == null || key instanceof Map || key instanceof Collection) {
                        throw new UserException(
                                file + ": a name must be a text, found " + (key == null ? "none" : "a list"));
                    }
                    count(inner, depth + 1);
                });
            } else if (value instanceof Collection<?> list) {
                list.forEach(inner -> count(inner, depth + 1));
            }
        }
    }

    /** A value of the file as the words that say the same on the command line. */
    static List<String> words(@Nullable Object value, Option.Kind kind) {
        if (value == null) {
            return List.of();
        }
        return value instanceof List<?> many && kind != Option.Kind.JSON
                ? many.stream().map(OptionFile::scalar).toList()
                : List.of(scalar(value));
    }

    private static String scalar(@Nullable Object value) {
        return value instanceof Map<?, ?> || value instanceof List<?>
                ? Option.MAPPER.valueToTree(value).toString()
                : String.valueOf(value);
    }
}
