package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.qlora4j.bindings.Messages.assertSays;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * With a small package and a package client that is a shell script; the real ones are fetched by the tests that call
 * the libraries.
 */
class NativePackagesTest {
    private static final String WHEEL = "demo-1.0-py3-none-any.whl";

    @TempDir
    Path folder;

    private Path cache;
    private Path registry;
    private Path bin;
    private Path calls;
    private String sha256;
    private final List<String> said = new ArrayList<>();

    @BeforeEach
    void makePackage() throws IOException {
        cache = folder.resolve("cache");
        registry = Files.createDirectory(folder.resolve("registry"));
        bin = Files.createDirectory(folder.resolve("bin"));
        calls = folder.resolve("calls");
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(registry.resolve(WHEEL)))) {
            for (String name : List.of(
                    "demo/libdemo.so",
                    "demo/libdemo_cuda1.so",
                    "demo/libdemo_cuda2.so",
                    "demo/sub/libdemo_cuda3.so",
                    "demo/big.py")) {
                zip.putNextEntry(new ZipEntry(name));
                zip.write(name.getBytes());
                zip.closeEntry();
            }
        }
        sha256 = PackageFetcher.sha256(registry.resolve(WHEEL));
    }

    private PackageSpec spec(PackageSpec.Client client) {
        return new PackageSpec(
                client,
                "demo==1.0",
                WHEEL,
                Long.MAX_VALUE,
                sha256,
                "demo-1.0",
                "MIT",
                List.of("demo/libdemo.so", "demo/libdemo_cuda*.so"));
    }

    /**
     * A client that answers to --version and otherwise copies the wheel to the folder after --dest, or fails as told.
     */
    private void installClient(String name, String whenAsked) throws IOException {
        Path script = bin.resolve(name);
        Files.writeString(script, """
                #!/bin/sh
                case "$*" in *--version*) exit 0;; esac
                echo "$0 $*" >> '%s'
                for a in "$@"; do case "$a" in -DoutputDirectory=*) dest="${a#*=}";; esac; [ "$previous" = --dest ] && dest="$a"; previous="$a"; done
                %s
                """.formatted(calls, whenAsked));
        assertTrue(script.toFile().setExecutable(true));
    }

    private String copy() {
        return "cp '" + registry.resolve(WHEEL) + "' \"$dest\"";
    }

    private PackageFetcher fetcher(Path... named) {
        return new PackageFetcher(cache, List.of(named), List.of(folder.resolve("nowhere"), bin));
    }

    private List<String> calls() throws IOException {
        return Files.exists(calls) ? Files.readAllLines(calls) : List.of();
    }

    @ParameterizedTest
    @EnumSource(PackageSpec.Client.class)
    void fetchesOnceAndUnpacksOnlyWhatIsNeeded(PackageSpec.Client client) throws IOException {
        installClient(client == PackageSpec.Client.PIP ? "pip3" : "mvn", copy());
        PackageSpec spec = spec(client);
        assertEquals(Optional.empty(), fetcher().find(spec));

        Path found = fetcher().ensure(spec, said::add);
        assertEquals(cache.resolve("demo-1.0"), found);
        try (Stream<Path> files = Files.list(found)) {
            assertEquals(
                    List.of("libdemo.so", "libdemo_cuda1.so", "libdemo_cuda2.so"),
                    files.map(p -> p.getFileName().toString()).sorted().toList());
        }
        assertEquals("demo/libdemo_cuda2.so", Files.readString(found.resolve("libdemo_cuda2.so")));
        assertEquals(1, calls().size());
        assertTrue(calls().getFirst().contains("demo==1.0"), calls().toString());
        assertTrue(said.getFirst().contains(WHEEL) && said.getFirst().contains(" MB"), said.toString());

        assertEquals(found, fetcher().ensure(spec, said::add));
        assertEquals(Optional.of(found), fetcher().find(spec));
        assertEquals(1, calls().size(), "fetched again");
        try (Stream<Path> left = Files.list(cache)) {
            assertEquals(2, left.count(), "only the folder and the lock stay");
        }
    }

    @Test
    void refusesAWrongHash() throws IOException {
        installClient("pip", copy() + "; echo changed >> \"$dest/" + WHEEL + "\"");
        NativeException e =
                assertThrows(NativeException.class, () -> fetcher().ensure(spec(PackageSpec.Client.PIP), said::add));
        assertSays(e, "expected SHA-256 " + sha256 + ", found ");
        assertFalse(Files.exists(cache.resolve("demo-1.0")), "something was unpacked");
        installClient("pip", copy());
        fetcher().ensure(spec(PackageSpec.Client.PIP), said::add);
    }

    @ParameterizedTest
    @EnumSource(PackageSpec.Client.class)
    void withoutTheClientOneSentenceSaysWhatToBring(PackageSpec.Client client) {
        NativeException e = assertThrows(NativeException.class, () -> fetcher().ensure(spec(client), said::add));
        assertEquals(
                "demo==1.0: " + client.command + " is not on the PATH or does not run; put the file " + WHEEL
                        + " (SHA-256 " + sha256
                        + "), or libdemo.so out of it, into a folder DIR and name that folder with --natives DIR, -Dqlora4j.natives=DIR or"
                        + " QLORA4J_NATIVES=DIR",
                e.getMessage());
        assertEquals(List.of(), said);
    }

    @Test
    void aFailingClientIsQuoted() throws IOException {
        installClient("python3", "echo; echo 'ERROR: no matching distribution'; echo; exit 3");
        NativeException e =
                assertThrows(NativeException.class, () -> fetcher().ensure(spec(PackageSpec.Client.PIP), said::add));
        assertSays(e, "(exit status 3: ERROR: no matching distribution); put the file " + WHEEL);
        assertTrue(calls().getFirst().contains("python3 -m pip download"), calls().toString());
    }

    @Test
    void aQuotedClientShowsNoPassword() throws IOException {
        installClient("mvn", "echo 'from (https://user:s3/cret@repo/x?sig=s3cret): refused'; exit 1");
        NativeException e =
                assertThrows(NativeException.class, () -> fetcher().ensure(spec(PackageSpec.Client.MAVEN), said::add));
        assertSays(e, "(exit status 1: from (https://repo/x refused)");
        assertFalse((e + said.toString()).contains("cret"), e.toString());
    }

    @Test
    void passesOverAPythonWithoutPip() throws IOException {
        Files.writeString(bin.resolve("python3"), "#!/bin/sh\necho 'No module named pip'; exit 1\n");
        assertTrue(bin.resolve("python3").toFile().setExecutable(true));
        installClient("pip3", copy());
        fetcher().ensure(spec(PackageSpec.Client.PIP), said::add);
        assertTrue(calls().getFirst().contains("pip3 download"), calls().toString());
    }

    @Test
    void takesTheFileFromAFolderTheUserNamed() {
        Path found = fetcher(registry).ensure(spec(PackageSpec.Client.PIP), said::add);
        assertTrue(Files.isRegularFile(found.resolve("libdemo.so")));
        assertEquals(1, said.size(), said.toString());
    }

    @Test
    void refusesADamagedFileInAFolderTheUserNamed() throws IOException {
        Files.writeString(registry.resolve(WHEEL), "not the wheel");
        installClient("pip", copy());
        NativeException e = assertThrows(
                NativeException.class, () -> fetcher(registry).ensure(spec(PackageSpec.Client.PIP), said::add));
        assertSays(e, registry.resolve(WHEEL).toString());
        assertEquals(List.of(), calls(), "the user's file was passed over in silence");
    }

    @Test
    void takesUnpackedFilesFromAFolderTheUserNamed() throws IOException {
        Path own = Files.createDirectory(folder.resolve("own"));
        Files.writeString(own.resolve("libdemo.so"), "built by hand");
        assertEquals(own, fetcher(own).ensure(spec(PackageSpec.Client.PIP), said::add));
        assertFalse(Files.exists(cache), "the cache was touched");
    }

    @Test
    void repairsAnIncompleteFolder() throws IOException {
        installClient("pip", copy());
        Path found = fetcher().ensure(spec(PackageSpec.Client.PIP), said::add);
        Files.delete(found.resolve("libdemo.so"));
        Files.createDirectory(cache.resolve("demo-1.0.part123"));
        fetcher().ensure(spec(PackageSpec.Client.PIP), said::add);
        assertTrue(Files.isRegularFile(found.resolve("libdemo.so")));
        assertFalse(
                Files.exists(cache.resolve("demo-1.0.part123")), "what a killed process left behind stays for ever");
    }

    @Test
    void threadsFetchOnce() throws Exception {
        installClient("pip", "sleep 0.2; " + copy());
        try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
            Callable<Path> ensure = () -> fetcher().ensure(spec(PackageSpec.Client.PIP), line -> {});
            for (var result : threads.invokeAll(List.of(ensure, ensure, ensure, ensure))) {
                assertEquals(cache.resolve("demo-1.0"), result.get());
            }
        }
        assertEquals(1, calls().size(), calls().toString());
    }

    @Test
    void theModelIsAFileNamedForWhatItIs() {
        assertEquals("SmolLM2-135M-Instruct.Q4_1.gguf", NativePackage.SMOLLM2.mainFile());
        for (NativePackage p : NativePackage.values()) {
            assertTrue(p.sha256().matches("[0-9a-f]{64}") && p.bytes() > 1_000_000, p.toString());
        }
        assertEquals("pkg:pypi/bitsandbytes@0.50.2", NativePackage.BITSANDBYTES.packageUrl());
        assertEquals(
                "pkg:maven/org.bytedeco/dnnl@3.13-1.5.14?classifier=linux-x86_64&type=jar",
                NativePackage.ONEDNN.packageUrl());
    }
}
