package org.qlora4j.nf4.parallel;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeSet;

/** Checks that all ranks have in common what they must have in common. */
public final class Agreement {
    private static final char SEPARATOR = '\0';

    private Agreement() {}

    /** Ranks that cannot train together; thrown on every rank, with the same message. */
    public static final class DifferentRanksException extends IllegalArgumentException {
        private static final long serialVersionUID = 1L;

        DifferentRanksException(String message) {
            super(message);
        }
    }

    /**
     * Compares values by their names with rank 0's.
     *
     * @throws DifferentRanksException on every rank if any rank has others; names rank, field and both values
     */
    public static void require(Communicator communicator, Map<String, String> values) {
        if (communicator.size() == 1) {
            return;
        }
        Map<String, String> wanted = parse(communicator.broadcast(text(values)));
        StringBuilder different = new StringBuilder();
        TreeSet<String> names = new TreeSet<>(wanted.keySet());
        names.addAll(values.keySet());
        for (String name : names) {
            String here = values.getOrDefault(name, "none");
            String there = wanted.getOrDefault(name, "none");
            if (!here.equals(there)) {
                different
                        .append(different.isEmpty() ? "" : "; ")
                        .append(name + " is " + here + " on rank " + communicator.rank() + " and " + there
                                + " on rank 0");
            }
        }
        for (byte[] message : communicator.allGather(different.toString().getBytes(StandardCharsets.UTF_8))) {
            if (message.length > 0) {
                throw new DifferentRanksException("the ranks cannot train together: "
                        + new String(message, StandardCharsets.UTF_8)
                        + "; start all with the same program, options, model and data");
            }
        }
    }

    private static byte[] text(Map<String, String> values) {
        StringBuilder text = new StringBuilder();
        values.forEach((name, value) ->
                text.append(name).append(SEPARATOR).append(value).append(SEPARATOR));
        return text.toString().getBytes(StandardCharsets.UTF_8);
    }

    private static Map<String, String> parse(byte[] bytes) {
        String[] words = new String(bytes, StandardCharsets.UTF_8).split(String.valueOf(SEPARATOR), -1);
        Map<String, String> values = new LinkedHashMap<>();
        for (int i = 0; i + 1 < words.length; i += 2) {
            values.put(words[i], words[i + 1]);
        }
        return values;
    }
}
