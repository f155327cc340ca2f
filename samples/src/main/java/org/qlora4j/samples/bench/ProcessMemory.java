package org.qlora4j.samples.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** What Linux says about this process's memory. */
final class ProcessMemory {
    private static final Path STATUS = Path.of("/proc/self/status");

    private ProcessMemory() {}

    /** Makes the peak start again from now. */
    static void resetPeak() {
        try {
            Files.writeString(Path.of("/proc/self/clear_refs"), "5");
        } catch (IOException e) {
            System.err.println("the peak of memory includes loading: " + e.getMessage());
        }
    }

    /** VmHWM, the largest resident set so far, in 10⁶ bytes. */
    static double peakMb() {
        return mb("VmHWM:");
    }

    /** RssFile: resident pages that belong to files, among them the JDK's, the libraries' and a mapped model's. */
    static double fileBackedMb() {
        return mb("RssFile:");
    }

    private static double mb(String key) {
        try {
            for (String line : Files.readAllLines(STATUS)) {
                if (line.startsWith(key)) {
                    return Long.parseLong(line.replaceAll("\\D", "")) * 1024 / 1e6;
                }
            }
            throw new IllegalStateException(STATUS + " has no line " + key);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
