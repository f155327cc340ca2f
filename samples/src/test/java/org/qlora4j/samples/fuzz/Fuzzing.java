package org.qlora4j.samples.fuzz;

import com.sun.management.ThreadMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;
import org.qlora4j.lora.model.UnsupportedModelException;
import org.qlora4j.lora.text.jinja.TemplateException;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * What holds for every reader of files, whatever a small file says: it ends within a second, takes little memory, and
 * says what is wrong in an exception of its own.
 */
public final class Fuzzing {
    /** Of the thread's own processor time: other programs of the machine do not count. */
    private static final long MAX_NANOS = 1_000_000_000;

    private static final long MAX_ALLOCATED = 128 << 20;

    private static final Set<String> OURS = Set.of(
            ModelFormatException.class.getName(),
            UnsupportedModelException.class.getName(),
            TemplateException.class.getName(),
            "org.qlora4j.samples.UserException");

    private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

    private Fuzzing() {}

    /** Reads the fuzzed bytes. */
    @FunctionalInterface
    public interface Reader {
        void read() throws IOException;
    }

    /** Runs a reader; what it may not do is an error. */
    public static void hold(Reader reader) {
        boolean cheap = isCheap(reader);
        if (!cheap) {
            // classes are loaded and compiled in the first run
            cheap = isCheap(reader);
        }
        if (!cheap) {
            throw new AssertionError("more than " + MAX_NANOS / 1_000_000 + " ms of processor time, or more than "
                    + (MAX_ALLOCATED >> 20) + " MiB allocated");
        }
    }

    private static boolean isCheap(Reader reader) {
        long nanos = THREADS.getCurrentThreadCpuTime();
        long bytes = THREADS.getCurrentThreadAllocatedBytes();
        try {
            reader.read();
        } catch (IOException e) {
            throw new AssertionError("an IOException is no exception of a reader", e);
        } catch (RuntimeException e) {
            if (!isOurs(e)) {
                throw e;
            }
        }
        return THREADS.getCurrentThreadCpuTime() - nanos < MAX_NANOS
                && THREADS.getCurrentThreadAllocatedBytes() - bytes < MAX_ALLOCATED;
    }

    /** An exception that was made for this fault, in code that saw it coming; not one of the JDK's own checks. */
    private static boolean isOurs(RuntimeException e) {
        boolean said = e.getMessage() != null && !e.getMessage().isBlank();
        boolean here = e.getStackTrace().length > 0
                && e.getStackTrace()[0].getClassName().startsWith("org.qlora4j.");
        boolean kind = OURS.contains(e.getClass().getName())
                || here && (e.getClass() == IllegalArgumentException.class || e instanceof UncheckedIOException);
        return said && kind;
    }

    /** A new folder, in memory where the system has such; deleted when the process ends. */
    public static Path folder() {
        Path memory = Path.of("/dev/shm");
        try {
            Path folder = Files.isWritable(memory)
                    ? Files.createTempDirectory(memory, "qlora4j-fuzz")
                    : Files.createTempDirectory("qlora4j-fuzz");
            Runtime.getRuntime().addShutdownHook(new Thread(() -> delete(folder)));
            return folder;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void delete(Path folder) {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted((a, b) -> b.compareTo(a)).toList()) {
                Files.delete(file);
            }
        } catch (IOException e) {
            System.err.println("cannot delete " + folder + ": " + e);
        }
    }

    /** A file of the golden values. */
    static Path golden(String name) {
        return Path.of(System.getProperty("qlora4j.golden"), name);
    }

    /** Inputs to start from. */
    public static Stream<Arguments> seeds(byte[]... seeds) {
        return Arrays.stream(seeds).map(seed -> Arguments.of((Object) seed));
    }

    /** Inputs to start from. */
    public static Stream<Arguments> seeds(String... seeds) {
        return Arrays.stream(seeds).map(seed -> Arguments.of((Object) seed.getBytes(StandardCharsets.UTF_8)));
    }

    /** A text, whatever the bytes. */
    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    /** The first byte, which chooses; 0 if there is none. */
    static int choice(byte[] bytes, int of) {
        return bytes.length == 0 ? 0 : (bytes[0] & 0xFF) % of;
    }

    /** What comes after the first byte. */
    static byte[] rest(byte[] bytes) {
        return Arrays.copyOfRange(bytes, Math.min(1, bytes.length), bytes.length);
    }

    /** A safetensors file of a header and as many bytes of data, with the header's true length. */
    static byte[] safetensors(byte[] header, byte[] data) {
        return ByteBuffer.allocate(8 + header.length + data.length)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(header.length)
                .put(header)
                .put(data)
                .array();
    }
}
