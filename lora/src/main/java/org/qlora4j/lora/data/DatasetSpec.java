package org.qlora4j.lora.data;

import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.hub.Hub;

/**
 * One entry of {@code --dataset}, in ms-swift's grammar: {@code [hf::|ms::]id-or-path[:subset[/subset]][#N]}. A path
 * that exists wins, whatever characters it has.
 *
 * @param name path or id
 * @param hub the hub that was named; null if none was
 * @param subsets parts of the data set; empty for all
 * @param count rows to take, or -1 for all; more than there are means that rows come again
 */
public record DatasetSpec(String name, @Nullable Hub hub, List<String> subsets, int count) {
    /** Copies the subsets. */
    public DatasetSpec {
        subsets = List.copyOf(subsets);
    }

    /** All rows of a file or folder. */
    public static DatasetSpec of(Path path) {
        return new DatasetSpec(path.toString(), null, List.of(), -1);
    }

    /**
     * Reads an entry.
     *
     * @throws IllegalArgumentException if what follows the last '#' is no positive number
     */
    public static DatasetSpec parse(String text) {
        if (exists(text)) {
            return new DatasetSpec(text, null, List.of(), -1);
        }
        Hub hub = null;
        String rest = text;
        if (rest.startsWith("hf::") || rest.startsWith("ms::")) {
            hub = rest.startsWith("hf::") ? Hub.HUGGING_FACE : Hub.MODELSCOPE;
            rest = rest.substring(4);
        }
        int count = -1;
        int hash = rest.lastIndexOf('#');
        if (hash >= 0) {
            count = count(text, rest.substring(hash + 1));
            rest = rest.substring(0, hash);
        }
        int colon = rest.indexOf(':');
        if (colon < 0 || hub == null && exists(rest)) {
            return new DatasetSpec(rest, hub, List.of(), count);
        }
        String subsets = rest.substring(colon + 1);
        return new DatasetSpec(
                rest.substring(0, colon),
                hub,
                subsets.isEmpty() || subsets.equals("all") ? List.of() : List.of(subsets.split("/")),
                count);
    }

    private static int count(String text, String number) {
        try {
            int count = Integer.parseInt(number);
            if (count >= 1) {
                return count;
            }
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException(
                    "dataset '" + text + "': what follows '#' must be a number of rows, found '" + number + "'", e);
        }
        throw new IllegalArgumentException(
                "dataset '" + text + "': the number of rows must be at least 1, found " + number);
    }

    private static boolean exists(String path) {
        try {
            return !path.isEmpty() && Files.exists(Path.of(path));
        } catch (InvalidPathException e) {
            return false;
        }
    }

    @Override
    public String toString() {
        return name + (subsets.isEmpty() ? "" : ":" + String.join("/", subsets)) + (count < 0 ? "" : "#" + count);
    }
}
