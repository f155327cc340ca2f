package org.qlora4j.samples.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * What Linux says about this process's time. The launcher becomes Java by exec, so that its own share is in both.
 *
 * @param seconds since the process was started
 * @param cpuSeconds of all its threads, in user mode and in the kernel
 */
public record ProcessTimes(double seconds, double cpuSeconds) {
    /** sysconf(_SC_CLK_TCK), which is 100 on every x86-64 Linux. */
    private static final double TICKS = 100;

    /** The file's fields are counted behind the name, which stands in parentheses and may hold blanks. */
    private static final int USER = 11;

    private static final int KERNEL = 12;
    private static final int STARTED = 19;

    /** Until now. */
    public static ProcessTimes now() {
        try {
            String stat = Files.readString(Path.of("/proc/self/stat"));
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            String uptime = Files.readString(Path.of("/proc/uptime"));
            double now = Double.parseDouble(uptime.substring(0, uptime.indexOf(' ')));
            return new ProcessTimes(
                    Math.round(now * TICKS - Long.parseLong(fields[STARTED])) / TICKS,
                    (Long.parseLong(fields[USER]) + Long.parseLong(fields[KERNEL])) / TICKS);
        } catch (IOException e) {
            throw new UncheckedIOException("cannot read this process's times: " + e, e);
        }
    }
}
