package org.qlora4j.samples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Option files that would run something. */
class HostileOptionsTest {
    @TempDir
    Path folder;

    private String refused(String yaml) throws IOException {
        Path file = Files.writeString(folder.resolve("options.yaml"), yaml);
        Cli.Output output = assertTimeoutPreemptively(Duration.ofSeconds(20), () -> Cli.qlora("sft", file.toString()));
        assertEquals(2, output.exit(), output.err());
        assertTrue(output.err().startsWith("qlora: "), output.err());
        assertEquals(1, output.err().lines().count(), output.err());
        return output.err();
    }

    /** The engine makes maps, lists and scalars; a tag that names a class is no YAML to it. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "model: !!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[!!java.net.URL [\"http://127.0.0.1/\"]]]]",
                "model: !!python/object/apply:os.system [\"touch FILE\"]",
                "model: !!python/object:os.PathLike {}",
                "model: !!java.io.FileOutputStream [\"FILE\"]",
                "model: !<tag:yaml.org,2002:java.lang.ProcessBuilder> [[\"touch\", \"FILE\"]]"
            })
    void tagsMakeNoObjects(String yaml) throws IOException {
        Path made = folder.resolve("made");
        String message = refused(yaml.replace("FILE", made.toString()));
        assertTrue(message.contains("is not YAML"), message);
        assertFalse(Files.exists(made));
    }

    /** A list in itself, lists that double 30 times, and names that are none. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "model: &a [*a]",
                "model: &a {b: *a}",
                "a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\ne: &e [*d,*d]\nf: &f [*e,*e]\ng: &g [*f,*f]\nh: &h [*g,*g]\n"
                        + "i: &i [*h,*h,*h,*h,*h,*h,*h,*h]\nj: &j [*i,*i,*i,*i,*i,*i,*i,*i]\nk: &k [*j,*j,*j,*j,*j,*j,*j,*j]\nmodel: [*k,*k,*k,*k]",
                "? [a, b]\n: c",
                "? {a: b}\n: c",
                "~: c",
                "!null%3"
            })
    void aliasesDoNotGrowAndNamesAreTexts(String yaml) throws IOException {
        refused(yaml);
    }

    @Test
    void listsInLists() throws IOException {
        refused("model: " + "[".repeat(20_000) + "]".repeat(20_000));
        refused("model: " + "{a: ".repeat(2_000) + "b" + "}".repeat(2_000));
    }
}
