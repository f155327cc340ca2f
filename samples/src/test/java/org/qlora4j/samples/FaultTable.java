package org.qlora4j.samples;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Assertions;

/** What {@code faults.sh} prints: fault × tries × lost, one row for each test, also appended to a file. */
final class FaultTable {
    /** How often a fault is tried: few times in verify, as often as faults.sh says there. */
    static final int TRIES = Integer.getInteger("qlora4j.tries", 1);

    static final long SEED = Long.getLong("qlora4j.seed", 1);

    private FaultTable() {}

    /** Says every 20 tries how many there were, for runs that are stopped. @param i the try that has ended, from 0 */
    static void count(String fault, int i, List<String> lost) {
        if ((i + 1) % 20 == 0) {
            System.out.println(fault + ": " + (i + 1) + " of " + TRIES + " tries, lost " + lost.size());
        }
    }

    /**
     * Adds a row, and fails if anything was lost.
     *
     * @param lost what was lost, a sentence for each
     * @param seen what else there is to say
     */
    static void row(String fault, int tries, List<String> lost, String seen) throws IOException {
        String row = String.format(Locale.ROOT, "| %s | %d | %d | %s |", fault, tries, lost.size(), seen);
        System.out.println(row);
        String file = System.getProperty("qlora4j.faultTable", "");
        if (!file.isEmpty()) {
            Files.write(
                    Path.of(file),
                    (row + "\n").getBytes(StandardCharsets.UTF_8),
                    StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND);
        }
        Assertions.assertEquals(List.of(), lost, fault);
    }
}
