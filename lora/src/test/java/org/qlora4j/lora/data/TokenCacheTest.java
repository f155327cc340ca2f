package org.qlora4j.lora.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.qlora4j.lora.model.Batch;
import org.qlora4j.lora.text.ChatText;

class TokenCacheTest {
    private static final String ROWS = "{\"query\": \"q\", \"response\": \"r\"}\nnonsense\n{\"text\": \"plain\"}\n";

    @TempDir
    Path folder;

    private Path data;
    private Path cached;

    @BeforeEach
    void write() throws IOException {
        data = folder.resolve("rows.jsonl");
        Files.writeString(data, ROWS);
        cached = folder.resolve("cache");
        Files.createDirectory(folder.resolve("model"));
    }

    private List<Batch.Row> read(ChatText text, LossScale scale, BrokenRows broken) {
        return new DatasetReader(
                        new DatasetFiles(folder, TinyModel.offline(folder), line -> {}),
                        TinyModel.encoder(text, scale),
                        Map.of(),
                        null,
                        null,
                        broken,
                        new TokenCache(cached))
                .read(DatasetSpec.of(data), false, 1, 0)
                .train();
    }

    private List<Path> files() throws IOException {
        try (var files = Files.list(cached)) {
            return files.toList();
        }
    }

    private static void assertSame(List<Batch.Row> expected, List<Batch.Row> found) {
        assertEquals(expected.size(), found.size());
        for (int i = 0; i < expected.size(); i++) {
            assertArrayEquals(expected.get(i).ids(), found.get(i).ids());
            assertArrayEquals(expected.get(i).labels(), found.get(i).labels());
        }
    }

    @Test
    void theSecondReadIsFromTheFileAndCountsBrokenRowsToo() throws IOException {
        try (ChatText text = TinyModel.text(folder.resolve("model"))) {
            BrokenRows first = new BrokenRows(false);
            List<Batch.Row> rows = read(text, LossScale.DEFAULT, first);
            assertEquals(1, files().size());
            // other tokens under the same key show that they are read
            String key = files().getFirst().getFileName().toString().replace(".rows", "");
            TokenCache cache = new TokenCache(cached);
            assertSame(rows, cache.read(key).orElseThrow().rows());
            Batch.Row other = new Batch.Row(new int[] {1, 2}, new int[] {-100, 2});
            cache.write(key, new TokenCache.Content(List.of(other), first.count(), first.first()));
            BrokenRows second = new BrokenRows(false);
            assertSame(List.of(other), read(text, LossScale.DEFAULT, second));
            assertEquals(1, second.count());
            assertEquals(first.first(), second.first());
            assertThrows(IllegalArgumentException.class, () -> read(text, LossScale.DEFAULT, new BrokenRows(true)));
        }
    }

    @Test
    void whateverDecidesAboutTheTokensIsInTheKey() throws IOException {
        try (ChatText text = TinyModel.text(folder.resolve("model"))) {
            read(text, LossScale.DEFAULT, new BrokenRows(false));
            read(text, LossScale.ALL, new BrokenRows(false));
            assertEquals(2, files().size());
            Files.writeString(data, ROWS + "{\"text\": \"more\"}");
            assertEquals(3, read(text, LossScale.ALL, new BrokenRows(false)).size());
            assertEquals(3, files().size());
        }
        List<RawRow> raw = List.of(new RawRow(data, 1, new byte[] {1}));
        assertNotEquals(TokenCache.key(List.of("a", "b"), raw), TokenCache.key(List.of("ab"), raw));
    }

    @Test
    void damagedAndHostileFilesAreMadeAgain() throws Exception {
        try (ChatText text = TinyModel.text(folder.resolve("model"))) {
            List<Batch.Row> rows = read(text, LossScale.DEFAULT, new BrokenRows(false));
            Path file = files().getFirst();
            byte[] good = Files.readAllBytes(file);
            SplittableRandom random = new SplittableRandom(9);
            for (int i = 0; i < 200; i++) {
                byte[] bad = i % 2 == 0 ? Arrays.copyOf(good, random.nextInt(good.length)) : good.clone();
                if (i % 2 == 1) {
                    // with a hash that fits: only the counts can betray it
                    int at = 8 + 4 * random.nextInt((good.length - 40) / 4);
                    ByteBuffer.wrap(bad).putInt(at, i % 3 == 0 ? Integer.MAX_VALUE : -1 - random.nextInt(1000));
                    MessageDigest digest = MessageDigest.getInstance("SHA-256");
                    digest.update(bad, 0, bad.length - 32);
                    System.arraycopy(digest.digest(), 0, bad, bad.length - 32, 32);
                }
                Files.write(file, bad);
                List<Batch.Row> found = read(text, LossScale.DEFAULT, new BrokenRows(false));
                if (i % 2 == 0) {
                    assertSame(rows, found);
                } else {
                    assertTrue(found.size() <= rows.size());
                }
            }
        }
        Files.write(cached.resolve("k.rows"), "QLROWS1\n".getBytes(StandardCharsets.UTF_8));
        assertTrue(new TokenCache(cached).read("k").isEmpty());
    }

    @Test
    void nobodyElseMayReadIt() throws IOException {
        new TokenCache(cached.resolve("rows")).write("key", new TokenCache.Content(List.of(), 0, List.of()));
        assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(cached.resolve("rows"))));
    }
}
