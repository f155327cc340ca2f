package org.qlora4j.bindings;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.SplittableRandom;

/** The real libraries, fetched at the first use on a machine, and memory to call them with. */
final class RealNatives {
    private RealNatives() {}

    static Path bitsandbytes() {
        return NativePackages.ensure(NativePackage.BITSANDBYTES, System.err::println);
    }

    static Path oneDnn() {
        return NativePackages.ensure(NativePackage.ONEDNN, System.err::println);
    }

    static MemorySegment floats(Arena arena, float... values) {
        return arena.allocateFrom(ValueLayout.JAVA_FLOAT, values);
    }

    static float[] random(long seed, int length) {
        SplittableRandom random = new SplittableRandom(seed);
        float[] values = new float[length];
        for (int i = 0; i < length; i++) {
            values[i] = (float) (random.nextDouble() * 2 - 1);
        }
        return values;
    }

    /** Rounds to nearest even. */
    static short toBf16(float value) {
        int bits = Float.floatToRawIntBits(value);
        return (short) ((bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16);
    }

    static float fromBf16(short bits) {
        return Float.intBitsToFloat(bits << 16);
    }

    /** A file of the repository, found from system property qlora4j.root or upwards from the working directory. */
    static Path repositoryFile(String name) {
        String root = System.getProperty("qlora4j.root");
        Path folder = root == null ? Path.of("").toAbsolutePath() : Path.of(root);
        while (!Files.exists(folder.resolve(name)) && folder.getParent() != null) {
            folder = folder.getParent();
        }
        return folder.resolve(name);
    }
}
