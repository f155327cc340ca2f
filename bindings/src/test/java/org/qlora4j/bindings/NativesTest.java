package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.bindings.Messages.assertSays;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.bindings.NativeFolders.Place;
import org.qlora4j.bindings.symbols.LibrarySymbols;

@SuppressWarnings("restricted")
class NativesTest {
    @TempDir
    Path folder;

    private static NativeException refused(String file, List<String> functions, Place... places) {
        return assertThrows(NativeException.class, () -> Natives.open("a library", file, functions, List.of(places)));
    }

    private Place place(boolean namedByUser) {
        return new Place(folder, "this test", namedByUser);
    }

    /** what is missing is said with every path tried. */
    @Test
    void unknownFileNamesEveryPathTried() throws IOException {
        Path second = Files.createDirectory(folder.resolve("second"));
        NativeException e =
                refused("libqlora4j_nowhere.so", List.of(), place(true), new Place(second, "the second place", false));
        assertSays(
                e,
                folder.resolve("libqlora4j_nowhere.so") + ": no such file (this test)",
                second.resolve("libqlora4j_nowhere.so") + ": no such file (the second place)",
                "the loader's default: libqlora4j_nowhere.so: cannot open shared object file",
                "qlora4j.natives",
                "QLORA4J_NATIVES");
        assertEquals("a library", e.library());
    }

    /** the loader's own reason, which SymbolLookup hides. */
    @Test
    void missingDependencyIsNamed() throws IOException {
        // the real library, with the name of the OpenMP runtime changed to one that nobody has
        byte[] library = Files.readAllBytes(RealNatives.bitsandbytes().resolve("libbitsandbytes_cpu.so"));
        String text = new String(library, StandardCharsets.ISO_8859_1).replace("libgomp.so.1", "libg0mp.so.1");
        Files.write(folder.resolve("libqlora4j_dependency.so"), text.getBytes(StandardCharsets.ISO_8859_1));
        assertSays(
                refused("libqlora4j_dependency.so", List.of(), place(false)),
                folder.resolve("libqlora4j_dependency.so").toString(),
                "libg0mp.so.1: cannot open shared object file");
    }

    @Test
    void damagedFileIsNamedWithTheLoadersReason() throws IOException {
        Files.writeString(folder.resolve("libqlora4j_damaged.so"), "This is no library. ".repeat(200));
        assertSays(
                refused("libqlora4j_damaged.so", List.of(), place(false)), "libqlora4j_damaged.so: invalid ELF header");
    }

    @Test
    void missingFunctionIsNamed() throws IOException {
        Files.copy(
                RealNatives.bitsandbytes().resolve("libbitsandbytes_cpu.so"), folder.resolve("libqlora4j_symbol.so"));
        NativeException e =
                refused("libqlora4j_symbol.so", List.of("has_avx512f_cpu", "cquantize_everything"), place(false));
        assertSays(
                e,
                folder.resolve("libqlora4j_symbol.so")
                        + ": it is of another version or build, it does not export cquantize_everything");
        assertFalse(Messages.of(e).contains("has_avx512f_cpu"), Messages.of(e));
    }

    @Test
    void aFailureInAFolderTheUserNamedEndsTheSearch() throws IOException {
        Path good = Files.createDirectory(folder.resolve("good"));
        Files.copy(RealNatives.bitsandbytes().resolve("libbitsandbytes_cpu.so"), good.resolve("libqlora4j_named.so"));
        Files.writeString(folder.resolve("libqlora4j_named.so"), "This is no library. ".repeat(200));
        Place second = new Place(good, "the second place", false);
        assertSays(refused("libqlora4j_named.so", List.of(), place(true), second), "invalid ELF header");
        assertEquals(
                good.resolve("libqlora4j_named.so").toString(),
                Natives.open("a library", "libqlora4j_named.so", List.of(), List.of(place(false), second))
                        .path());
    }

    @Test
    void aLaterCallTriesAgain() throws IOException {
        refused("libqlora4j_later.so", List.of(), place(true));
        LibrarySymbols symbols = LibrarySymbols.of("libqlora4j_later.so");
        UnsatisfiedLinkError closed = assertThrows(UnsatisfiedLinkError.class, () -> symbols.find("has_avx512f_cpu"));
        assertSays(closed, "libqlora4j_later.so is not open");

        Files.copy(RealNatives.bitsandbytes().resolve("libbitsandbytes_cpu.so"), folder.resolve("libqlora4j_later.so"));
        Natives.open("a library", "libqlora4j_later.so", List.of("has_avx512f_cpu"), List.of(place(true)));
        assertTrue(symbols.has("has_avx512f_cpu"));
        UnsatisfiedLinkError missing =
                assertThrows(UnsatisfiedLinkError.class, () -> symbols.find("cquantize_everything"));
        assertSays(missing, folder.resolve("libqlora4j_later.so") + " does not export cquantize_everything");
    }

    @Test
    void oneOpenMpRuntimeServesBothLibraries() throws IOException {
        RealNatives.bitsandbytes();
        Path oneDnn = RealNatives.oneDnn();
        assertEquals(oneDnn.resolve("libdnnl.so.3").toString(), Natives.oneDnn().path());
        assertEquals("libbitsandbytes_cpu.so", Natives.bitsandbytes().file());
        Set<String> runtimes;
        try (var maps = Files.lines(Path.of("/proc/self/maps"), StandardCharsets.ISO_8859_1)) {
            runtimes = maps.filter(l -> l.contains("libgomp"))
                    .map(l -> l.substring(l.indexOf('/')))
                    .collect(Collectors.toCollection(TreeSet::new));
        }
        // another test may have had the system's loaded before
        assertEquals(1, runtimes.size(), "settings made in one do not reach the other: " + runtimes);
        if (!Natives.openMp().path().equals("libgomp.so.1")) {
            assertEquals(Set.of(Natives.openMp().path()), runtimes);
            assertTrue(
                    cGetenv("GOMP_SPINCOUNT") != null && cGetenv("OMP_WAIT_POLICY") != null,
                    "not set before libgomp was loaded");
        }
    }

    @Test
    void environmentOfTheUserStays() {
        DynamicLoader.setEnvironmentIfAbsent("QLORA4J_TEST_VARIABLE", "first");
        DynamicLoader.setEnvironmentIfAbsent("QLORA4J_TEST_VARIABLE", "second");
        assertEquals("first", cGetenv("QLORA4J_TEST_VARIABLE"));
    }

    private static @org.jspecify.annotations.Nullable String cGetenv(String name) {
        Linker linker = Linker.nativeLinker();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment value = (MemorySegment) linker.downcallHandle(
                            linker.defaultLookup().find("getenv").orElseThrow(),
                            FunctionDescriptor.of(ValueLayout.ADDRESS, ValueLayout.ADDRESS))
                    .invokeExact(arena.allocateFrom(name));
            return value.equals(MemorySegment.NULL)
                    ? null
                    : value.reinterpret(Long.MAX_VALUE).getString(0);
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    @ParameterizedTest
    @CsvSource({"Mac OS X, aarch64", "Windows 11, amd64", "Linux, aarch64", "FreeBSD, amd64"})
    void otherSystemsGetOneSentence(String os, String arch) {
        NativeException e = assertThrows(NativeException.class, () -> DynamicLoader.requirePlatform(os, arch));
        assertEquals(
                "qlora4j: its native libraries run on Linux x86-64 with glibc only, and this is " + os + " " + arch,
                e.getMessage());
        DynamicLoader.requirePlatform("Linux", "amd64");
    }

    @Test
    void findsPythonsPackagesWithoutRunningPython() throws IOException {
        Path environment = Files.createDirectories(folder.resolve("venv/lib/python3.12/site-packages"));
        Path system = Files.createDirectories(folder.resolve("usr/lib/python3/dist-packages"));
        Path user = Files.createDirectories(folder.resolve("home/.local/lib/python3.11/site-packages"));
        Path python = Files.createDirectories(folder.resolve("usr/bin")).resolve("python3");
        Files.writeString(python, "#!/bin/false\n");
        assertTrue(python.toFile().setExecutable(true));
        Map<String, String> variables = Map.of(
                "VIRTUAL_ENV", folder.resolve("venv").toString(),
                "PATH", folder.resolve("nowhere") + ":" + folder.resolve("usr/bin"),
                "HOME", folder.resolve("home").toString());
        assertEquals(List.of(environment, system, user), NativeFolders.sitePackages(variables::get));
        assertEquals(List.of(), NativeFolders.sitePackages(name -> null));
    }

    @Test
    void searchOrder() {
        String before = System.getProperty(NativeFolders.PROPERTY);
        System.setProperty(NativeFolders.PROPERTY, folder.toString());
        try {
            List<Place> places = NativeFolders.ofThisProcess();
            assertEquals(new Place(folder, "system property qlora4j.natives", true), places.getFirst());
            int cache = places.indexOf(new Place(NativePackage.ONEDNN.folder(), "the cache", false));
            assertTrue(cache > 0, places.toString());
            assertTrue(
                    places.subList(cache, places.size()).stream().noneMatch(Place::namedByUser),
                    "a named folder comes after the cache: " + places);
        } finally {
            if (before == null) {
                System.clearProperty(NativeFolders.PROPERTY);
            } else {
                System.setProperty(NativeFolders.PROPERTY, before);
            }
        }
    }
}
