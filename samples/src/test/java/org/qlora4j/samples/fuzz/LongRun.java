package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.provider.Arguments;

/**
 * One target without JUnit, for fuzz.sh: the durations in the annotations are those of verify. Property
 * {@code qlora4j.fuzz} names the class; its seeds are written into the folder {@code seeds}.
 */
public final class LongRun {
    private static MethodHandle target;

    private LongRun() {}

    /** Called by Jazzer once. */
    public static void fuzzerInitialize() throws Throwable {
        Class<?> type = Class.forName(Objects.requireNonNull(System.getProperty("qlora4j.fuzz")));
        MethodHandles.Lookup lookup = MethodHandles.privateLookupIn(type, MethodHandles.lookup());
        for (Method method : type.getDeclaredMethods()) {
            method.setAccessible(true);
            if (method.isAnnotationPresent(BeforeAll.class)) {
                method.invoke(null);
            }
        }
        for (Method method : type.getDeclaredMethods()) {
            if (method.isAnnotationPresent(FuzzTest.class)) {
                var constructor = type.getDeclaredConstructor();
                constructor.setAccessible(true);
                target = lookup.unreflect(method).bindTo(constructor.newInstance());
            }
        }
        Method seeds = type.getDeclaredMethod("seeds");
        seeds.setAccessible(true);
        Path folder = Files.createDirectories(Path.of("seeds"));
        List<?> all = ((Stream<?>) seeds.invoke(null)).toList();
        for (int i = 0; i < all.size(); i++) {
            byte[] seed = (byte[]) ((Arguments) all.get(i)).get()[0];
            Files.write(folder.resolve("seed-" + i), seed);
            // classes are loaded and instrumented here, where no input's time runs
            target.invokeExact(seed);
        }
    }

    /** Called by Jazzer for each input. */
    public static void fuzzerTestOneInput(byte[] input) throws Throwable {
        target.invokeExact(input);
    }
}
