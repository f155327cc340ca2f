package org.qlora4j.nf4.device.cuda;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.qlora4j.bindings.CacheFolder;
import org.qlora4j.bindings.Nvrtc;
import org.qlora4j.nf4.file.AtomicFile;

/**
 * Kernels from source to machine code for one architecture, kept in the cache folder under the SHA-256 of all that they
 * are made of. Always machine code, never PTX: a driver that is older than the compiler loads it, PTX it refuses.
 */
final class KernelCompiler {
    private static final Pattern INCLUDE = Pattern.compile("(?m)^#include \"(\\w+\\.cuh)\"");

    private KernelCompiler() {}

    /** Options for an architecture, e.g. 90. No fast math: it flushes denormals and approximates division. */
    static List<String> options(int architecture) {
        return List.of("--gpu-architecture=sm_" + architecture, "--std=c++17", "--fmad=true");
    }

    /**
     * A unit's machine code.
     *
     * @param unit file name of the source, e.g. {@code norm.cu}
     * @param architecture compute capability, e.g. 90 for 9.0
     */
    static byte[] cubin(String unit, int architecture) {
        Nvrtc.require();
        List<String> options = options(architecture);
        String source = source(unit);
        Map<String, String> headers = headers(source);
        Path file = CacheFolder.path()
                .resolve("kernels")
                .resolve(sha256(Nvrtc.version() + options + headers + source) + ".cubin");
        try {
            if (Files.isRegularFile(file)) {
                return Files.readAllBytes(file);
            }
            byte[] cubin = Nvrtc.compile(source, unit, headers, options).cubin();
            Files.createDirectories(file.getParent());
            AtomicFile.write(file, channel -> channel.write(ByteBuffer.wrap(cubin)));
            return cubin;
        } catch (IOException e) {
            throw new UncheckedIOException("cannot keep the compiled kernels of " + unit + " in " + file + ": " + e, e);
        }
    }

    /** What a source includes of this project, by name. */
    static Map<String, String> headers(String source) {
        Map<String, String> headers = new TreeMap<>();
        for (Matcher m = INCLUDE.matcher(source); m.find(); ) {
            String header = source(m.group(1));
            headers.putAll(headers(header));
            headers.put(m.group(1), header);
        }
        return headers;
    }

    /** The text of a unit or of a header. */
    static String source(String name) {
        try (InputStream in = KernelCompiler.class.getResourceAsStream(name)) {
            if (in == null) {
                throw new IllegalStateException("the resource " + name + " is missing from this build");
            }
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static String sha256(String text) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest);
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every Java has SHA-256", e);
        }
    }
}
