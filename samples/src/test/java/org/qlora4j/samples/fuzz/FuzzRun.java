package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.provider.Arguments;

/**
 * Targets under Jazzer's own driver: one for hours (fuzz.sh), or all of them in one process for seconds (FuzzingTest).
 * Property {@code qlora4j.fuzz} names the classes, with commas between them; of several the first byte of an input
 * chooses. Their seeds are written into the folder {@code seeds}.
 */
public final class FuzzRun {
    private static final List<MethodHandle> TARGETS = new ArrayList<>();

    private FuzzRun() {}

    /** Called by Jazzer once. */
    public static void fuzzerInitialize() throws Throwable {
        String[] names =
                Objects.requireNonNull(System.getProperty("qlora4j.fuzz")).split(",");
        Path folder = Files.createDirectories(Path.of("seeds"));
        for (int i = 0; i < names.length; i++) {
            Class<?> type = Class.forName(names[i]);
            MethodHandle target = target(type);
            TARGETS.add(target);
            Method seeds = type.getDeclaredMethod("seeds");
            seeds.setAccessible(true);
            int count = 0;
            for (Object arguments : ((Stream<?>) seeds.invoke(null)).toList()) {
                byte[] seed = (byte[]) ((Arguments) arguments).get()[0];
                byte[] chosen = new byte[seed.length + 1];
                chosen[0] = (byte) i;
                System.arraycopy(seed, 0, chosen, 1, seed.length);
                Files.write(folder.resolve(type.getSimpleName() + "-" + count++), names.length == 1 ? seed : chosen);
                // classes are loaded and instrumented here, where no input's time runs
                target.invokeExact(seed);
            }
        }
    }

    private static MethodHandle target(Class<?> type) throws ReflectiveOperationException {
        MethodHandles.Lookup lookup = MethodHandles.privateLookupIn(type, MethodHandles.lookup());
        MethodHandle target = null;
        for (Method method : type.getDeclaredMethods()) {
            method.setAccessible(true);
            if (method.isAnnotationPresent(BeforeAll.class)) {
                method.invoke(null);
            } else if (method.isAnnotationPresent(FuzzTest.class)) {
                Constructor<?> constructor = type.getDeclaredConstructor();
                constructor.setAccessible(true);
                target = lookup.unreflect(method).bindTo(constructor.newInstance());
            }
        }
        return Objects.requireNonNull(target, () -> type + " has no @FuzzTest");
    }

    /** Called by Jazzer for each input. */
    public static void fuzzerTestOneInput(byte[] input) throws Throwable {
        if (TARGETS.size() == 1) {
            TARGETS.getFirst().invokeExact(input);
        } else {
            TARGETS.get(Fuzzing.choice(input, TARGETS.size())).invokeExact(Fuzzing.rest(input));
        }
    }
}
