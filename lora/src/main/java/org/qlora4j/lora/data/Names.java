package org.qlora4j.lora.data;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What {{NAME}} and {{AUTHOR}} in self-cognition data stand for: one value, or a Chinese and an English one.
 *
 * @param chinese for rows with tag zh
 * @param english for all others
 */
public record Names(String chinese, String english) {
    /** From the command line's one or two values (Chinese first); null if there are none. */
    public static @Nullable Names of(String option, List<String> values) {
        return switch (values.size()) {
            case 0 -> null;
            case 1 -> new Names(values.getFirst(), values.getFirst());
            case 2 -> new Names(values.getFirst(), values.getLast());
            default ->
                throw new IllegalArgumentException(
                        option + " takes one value, or two (Chinese and English), got " + values.size());
        };
    }

    String in(String tag) {
        return tag.equals("zh") ? chinese : english;
    }
}
