package org.qlora4j.nf4.file;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeSet;

/**
 * A {@code *.safetensors.index.json} file: which shard holds which tensor.
 *
 * @param weightMap tensor name to shard file name, in file order
 */
record ShardIndex(Map<String, String> weightMap) {

    static ShardIndex read(Path file) {
        byte[] json;
        try {
            long bytes = Files.size(file);
            if (bytes > SafetensorsHeader.MAX_HEADER_BYTES) {
                throw new ModelFormatException(
                        file,
                        "index of " + bytes + " bytes is above the limit of " + SafetensorsHeader.MAX_HEADER_BYTES);
            }
            json = Files.readAllBytes(file);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read " + file + ": " + e, e);
        }
        ShardIndex index = parse(file, json);
        index.weightMap().forEach((name, shard) -> checkPlainName(file, name, shard));
        return index;
    }

    private static ShardIndex parse(Path file, byte[] json) {
        Map<String, String> weightMap = Map.of();
        try (JsonParser parser = StrictJson.parser(json)) {
            StrictJson.expect(file, parser, parser.nextToken(), JsonToken.START_OBJECT, "the index");
            while (parser.nextToken() != JsonToken.END_OBJECT) {
                String field = parser.currentName();
                JsonToken value = parser.nextToken();
                if (field.equals("weight_map")) {
                    weightMap = StrictJson.stringMap(file, parser, value, field);
                } else {
                    parser.skipChildren();
                }
            }
            StrictJson.expectEnd(file, parser, "the index");
        } catch (IOException e) {
            throw StrictJson.invalid(file, "the index", e);
        }
        if (weightMap.isEmpty()) {
            throw new ModelFormatException(file, "has no weight_map, or an empty one");
        }
        return new ShardIndex(weightMap);
    }

    /** A downloaded index must not make us open files elsewhere. */
    private static void checkPlainName(Path file, String tensor, String shard) {
        boolean plain =
                shard.endsWith(".safetensors") && shard.chars().noneMatch(c -> c == '/' || c == '\\' || c < ' ');
        if (!plain) {
            throw ModelFormatException.ofTensor(
                    file,
                    tensor,
                    "the index names the shard '" + shard
                            + "'; expected the plain name of a .safetensors file in the same folder");
        }
    }

    /** Names of the shards in alphabetical order, which is the order of their numbers. */
    Iterable<String> shards() {
        return new TreeSet<>(weightMap.values());
    }
}
