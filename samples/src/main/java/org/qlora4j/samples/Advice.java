package org.qlora4j.samples;

import java.io.IOException;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** What to do about what the machine refuses: room on a disk, the right to write, memory. */
final class Advice {
    private static final List<String> FULL = List.of("No space left", "File too large", "quota exceeded");
    private static final List<String> FORBIDDEN =
            List.of("AccessDenied", "Permission denied", "Read-only file system", "Operation not permitted");

    private Advice() {}

    /** The message of a failure, and what to do where the system's own text is all there is. */
    static String sentence(Throwable e) {
        if (e instanceof OutOfMemoryError) {
            return outOfMemory(
                    String.valueOf(e.getMessage()), Runtime.getRuntime().maxMemory());
        }
        String cause = causeText(e);
        if (cause != null && FULL.stream().anyMatch(cause::contains)) {
            return e.getMessage()
                    + "; make room there, or name a folder on another disk. What was saved before is whole";
        }
        if (cause != null && FORBIDDEN.stream().anyMatch(cause::contains)) {
            return e.getMessage() + "; give this user the right to it, or name another folder";
        }
        return String.valueOf(e.getMessage());
    }

    private static @Nullable String causeText(Throwable e) {
        for (Throwable t = e; t != null; t = t.getCause()) {
            if (t instanceof IOException) {
                return t.toString();
            }
        }
        return null;
    }

    /** @param heapBytes the most the heap may have */
    static String outOfMemory(String message, long heapBytes) {
        if (message.contains("heap space") || message.contains("array size") || message.contains("GC overhead")) {
            // neither String.format nor +: what the JDK makes for them did not fit into what was left of 6 MiB
            return "the Java heap of "
                    .concat(Long.toString(heapBytes >> 20))
                    .concat(" MiB is full (")
                    .concat(message)
                    .concat(
                            "); give it more with QLORA_JAVA_OPTS=-Xmx4g, or read fewer rows (--dataset FILE#N) or shorter"
                                    + " ones (--max_length)");
        }
        if (message.contains("native thread")) {
            return "the system gives no more threads (" + message + "); lower --threads, or raise ulimit -u";
        }
        return "the system gives no more memory (" + message + "); lower --max_length or --per_device_train_batch_size,"
                + " set --gradient_checkpointing true, or raise the limit of this process (ulimit -v, the container's)";
    }
}
