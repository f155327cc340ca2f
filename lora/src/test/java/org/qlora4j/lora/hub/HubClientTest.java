package org.qlora4j.lora.hub;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Downloads from a server on this machine, and the folder layouts of both hubs' Python tools. */
class HubClientTest {
    private static final String COMMIT = "0123456789abcdef0123456789abcdef01234567";
    private static final HubId MODEL = HubId.parse("Qwen/Qwen3-0.6B");
    private static final HubId DATA = HubId.parse("AI-ModelScope/alpaca-gpt4-data-zh");
    private static final byte[] WEIGHTS = new byte[300_000];
    private static final byte[] CONFIG = "{\"model_type\": \"qwen3\"}".getBytes(StandardCharsets.UTF_8);

    static {
        new Random(1).nextBytes(WEIGHTS);
    }

    @TempDir
    Path home;

    private HubServer server;
    private final List<String> said = new ArrayList<>();
    private final List<Long> bytes = new ArrayList<>();

    @BeforeEach
    void start() throws IOException {
        server = new HubServer();
    }

    @AfterEach
    void stop() throws IOException {
        server.close();
    }

    private HubClient client(Hub hub, String... more) {
        Map<String, String> variables =
                new HashMap<>(Map.of("HF_ENDPOINT", server.endpoint() + "/", "MODELSCOPE_ENDPOINT", server.endpoint()));
        for (int i = 0; i < more.length; i += 2) {
            variables.put(more[i], more[i + 1]);
        }
        return new HubClient(
                new HubSettings(variables, home),
                hub,
                new HubProgress() {
                    @Override
                    public void say(String line) {
                        said.add(line);
                    }

                    @Override
                    public void bytes(String what, long done, long all) {
                        bytes.add(done);
                    }
                },
                2000,
                1);
    }

    private static String sha256(byte[] content) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
    }

    private static String gitBlob(byte[] content) throws Exception {
        MessageDigest sha1 = MessageDigest.getInstance("SHA-1");
        sha1.update(("blob " + content.length + "\0").getBytes(StandardCharsets.UTF_8));
        return HexFormat.of().formatHex(sha1.digest(content));
    }

    private static final String WEIGHTS_AT = "/Qwen/Qwen3-0.6B/resolve/" + COMMIT + "/model.safetensors";

    /** A repository with configuration and tokenizer in git, weights in LFS behind a redirect, and a script. */
    private void publishModel(String weightsHash) throws Exception {
        server.body("/api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true", """
                {"sha": "%s", "siblings": [
                 {"rfilename": ".gitattributes", "size": 5, "blobId": "%s"},
                 {"rfilename": "config.json", "size": %d, "blobId": "%s"},
                 {"rfilename": "tokenizer.json", "size": %d, "blobId": "%s"},
                 {"rfilename": "modeling_qwen.py", "size": 9, "blobId": "%s"},
                 {"rfilename": "model.safetensors", "size": %d, "blobId": "%s", "lfs": {"sha256": "%s"}}]}
                """.formatted(
                        COMMIT,
                        gitBlob(CONFIG),
                        CONFIG.length,
                        gitBlob(CONFIG),
                        CONFIG.length,
                        gitBlob(CONFIG),
                        gitBlob(CONFIG),
                        WEIGHTS.length,
                        gitBlob(WEIGHTS),
                        weightsHash));
        server.body("/Qwen/Qwen3-0.6B/resolve/" + COMMIT + "/config.json", CONFIG);
        server.body("/Qwen/Qwen3-0.6B/resolve/" + COMMIT + "/tokenizer.json", CONFIG);
        server.redirect(WEIGHTS_AT, "/cdn/weights?key=1");
        server.body("/cdn/weights?key=1", WEIGHTS);
    }

    private long asked(String path) {
        return server.requests.stream().filter(r -> r.path().equals(path)).count();
    }

    @Test
    void downloadsAModelIntoHuggingFacesCacheAndFindsItThere() throws Exception {
        publishModel(sha256(WEIGHTS));
        Path folder = client(Hub.HUGGING_FACE).model(MODEL);
        Path repository = home.resolve(".cache/huggingface/hub/models--Qwen--Qwen3-0.6B");
        assertEquals(repository.resolve("snapshots").resolve(COMMIT), folder);
        assertArrayEquals(WEIGHTS, Files.readAllBytes(folder.resolve("model.safetensors")));
        assertTrue(Files.isSymbolicLink(folder.resolve("model.safetensors")));
        assertEquals(
                repository.resolve("blobs").resolve(sha256(WEIGHTS)).toRealPath(),
                folder.resolve("model.safetensors").toRealPath());
        assertEquals(COMMIT, Files.readString(repository.resolve("refs/main")));
        assertFalse(Files.exists(folder.resolve("modeling_qwen.py")), "code is not even downloaded");
        assertTrue(said.getFirst().contains("3 files, 0.3 MB"), said.toString());
        assertEquals(WEIGHTS.length + 2L * CONFIG.length, bytes.getLast());
        int before = server.requests.size();
        assertEquals(folder, client(Hub.HUGGING_FACE).model(MODEL));
        assertEquals(folder, client(Hub.MODELSCOPE).model(MODEL), "the other hub's cache is looked into, too");
        assertEquals(folder, client(Hub.HUGGING_FACE, "HF_HUB_OFFLINE", "1").model(MODEL));
        assertEquals(before, server.requests.size(), "what is in the cache needs no network");
    }

    @Test
    void brokenConnectionsAreTakenUpWhereTheyBroke() throws Exception {
        publishModel(sha256(WEIGHTS));
        server.breaking("/cdn/weights?key=1", 100_000, 0, 70_001);
        Path folder = client(Hub.HUGGING_FACE).model(MODEL);
        assertArrayEquals(WEIGHTS, Files.readAllBytes(folder.resolve("model.safetensors")));
        List<String> ranges = server.requests.stream()
                .filter(r -> r.path().startsWith("/cdn"))
                .map(r -> r.headers().getOrDefault("range", "all"))
                .toList();
        assertEquals(List.of("all", "bytes=100000-", "bytes=100000-", "bytes=170001-"), ranges);
    }

    @Test
    void aLaterRunGoesOnWhereAnEarlierOneGaveUp() throws Exception {
        publishModel(sha256(WEIGHTS));
        server.breaking("/cdn/weights?key=1", 5000, 0, 0, 0, 0, 0, 0);
        UncheckedIOException e = assertThrows(
                UncheckedIOException.class, () -> client(Hub.HUGGING_FACE).model(MODEL));
        assertTrue(e.getMessage().contains("5000 of 300000 bytes are here"), e.getMessage());
        server.requests.clear();
        server.breaking("/cdn/weights?key=1");
        Path folder = client(Hub.HUGGING_FACE).model(MODEL);
        assertArrayEquals(WEIGHTS, Files.readAllBytes(folder.resolve("model.safetensors")));
        assertEquals("bytes=5000-", server.requests.getLast().headers().get("range"));
        assertEquals(0, asked("/Qwen/Qwen3-0.6B/resolve/" + COMMIT + "/config.json"));
    }

    @Test
    void contentWithAnotherHashIsNotKept() throws Exception {
        publishModel(sha256(CONFIG));
        UncheckedIOException e = assertThrows(
                UncheckedIOException.class, () -> client(Hub.HUGGING_FACE).model(MODEL));
        assertTrue(e.getMessage().contains("model.safetensors was damaged on the way"), e.getMessage());
        Path repository = home.resolve(".cache/huggingface/hub/models--Qwen--Qwen3-0.6B");
        assertFalse(Files.exists(repository.resolve("refs/main")));
        try (var blobs = Files.list(repository.resolve("blobs"))) {
            assertEquals(
                    List.of(gitBlob(CONFIG)),
                    blobs.map(b -> b.getFileName().toString()).toList());
        }
    }

    @Test
    void aPartOfAnotherVersionIsThrownAway() throws Exception {
        publishModel(sha256(WEIGHTS));
        Path blobs = Files.createDirectories(home.resolve(".cache/huggingface/hub/models--Qwen--Qwen3-0.6B/blobs"));
        Files.write(blobs.resolve(sha256(WEIGHTS) + ".qlora4j.incomplete"), new byte[1000]);
        Path folder = client(Hub.HUGGING_FACE).model(MODEL);
        assertArrayEquals(WEIGHTS, Files.readAllBytes(folder.resolve("model.safetensors")));
    }

    @Test
    void theTokenGoesToTheHubOnly() throws Exception {
        publishModel(sha256(WEIGHTS));
        try (HubServer elsewhere = new HubServer()) {
            elsewhere.body("/weights", WEIGHTS);
            server.redirect(WEIGHTS_AT, elsewhere.endpoint() + "/weights");
            client(Hub.HUGGING_FACE, "HF_TOKEN", "secret").model(MODEL);
            assertTrue(server.requests.stream()
                    .allMatch(r -> "Bearer secret".equals(r.headers().get("authorization"))));
            assertEquals(1, elsewhere.requests.size());
            assertFalse(elsewhere.requests.getFirst().headers().containsKey("authorization"));
        }
    }

    @Test
    void secretsAreNeitherSaidNorKept() throws Exception {
        publishModel(sha256(WEIGHTS));
        String[] secrets = {"HF_ENDPOINT", server.endpoint().replace("//", "//user:s3cret@"), "HF_TOKEN", "token-s3cret"
        };
        client(Hub.HUGGING_FACE, secrets).model(MODEL);
        assertFalse(said.toString().contains("s3cret"), said.toString());
        try (var files = Files.walk(home)) {
            for (Path file : files.filter(Files::isRegularFile).toList()) {
                String text = file + new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1);
                assertFalse(text.contains("s3cret"), file.toString());
            }
        }
        HubId other = HubId.parse("Qwen/Qwen3-0.6B-Base");
        String listing = "/api/models/Qwen/Qwen3-0.6B-Base/revision/main?blobs=true";
        for (String location : List.of(listing, "ftp://user:s3cret@cdn/weights?sig=s3cret", "http://:s3cret@?s3cret")) {
            server.redirect(listing, location);
            Throwable refused = assertThrows(
                    UncheckedIOException.class,
                    () -> client(Hub.HUGGING_FACE, secrets).model(other));
            for (Throwable e = refused; e != null; e = e.getCause()) {
                assertFalse(String.valueOf(e.getMessage()).contains("s3cret"), e.toString());
            }
        }
    }

    @ParameterizedTest
    @CsvSource(
            quoteCharacter = '"',
            value = {
                "HF_ENDPOINT, https://user:s3cret/x@host, 'https://host'",
                "HF_TOKEN, \"token\ns3cret\", HF_TOKEN must be one token"
            })
    void unusableSecretsAreNotShown(String name, String value, String expected) {
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class,
                () -> client(Hub.HUGGING_FACE, name, value).model(MODEL));
        assertTrue(e.getMessage().contains(expected), e.getMessage());
        assertFalse(e.getMessage().contains("s3cret"), e.getMessage());
    }

    @Test
    void refusalsSayWhatToDo() throws Exception {
        String missing = assertThrows(
                        UncheckedIOException.class,
                        () -> client(Hub.HUGGING_FACE).model(MODEL))
                .getMessage();
        assertTrue(missing.contains("answers 404") && missing.contains("--use_hf false"), missing);
        String offline = assertThrows(
                        UncheckedIOException.class,
                        () -> client(Hub.HUGGING_FACE, "HF_HUB_OFFLINE", "1").model(MODEL))
                .getMessage();
        assertTrue(offline.contains("HF_HUB_OFFLINE"), offline);
        publishModel(sha256(WEIGHTS));
        server.redirect(WEIGHTS_AT, WEIGHTS_AT);
        String loop = assertThrows(
                        UncheckedIOException.class,
                        () -> client(Hub.HUGGING_FACE).model(MODEL))
                .getMessage();
        assertTrue(loop.contains("redirected more than"), loop);
        server.redirect(WEIGHTS_AT, "file:///etc/passwd");
        String file = assertThrows(
                        UncheckedIOException.class,
                        () -> client(Hub.HUGGING_FACE).model(MODEL))
                .getMessage();
        assertTrue(file.contains("is not followed"), file);
        server.status("/api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true", 401);
        String gated = assertThrows(
                        UncheckedIOException.class,
                        () -> client(Hub.HUGGING_FACE).model(MODEL))
                .getMessage();
        assertTrue(gated.contains("set HF_TOKEN"), gated);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"../../evil.jsonl", "/etc/evil.jsonl", "a/./b.jsonl", "a//b.jsonl", "a\\\\b.jsonl", "c:x.jsonl"})
    void pathsThatLeaveTheRepositoryAreRefused(String path) throws Exception {
        server.body(
                "/api/datasets/AI-ModelScope/alpaca-gpt4-data-zh/revision/main?blobs=true",
                "{\"sha\": \"%s\", \"siblings\": [{\"rfilename\": \"%s\", \"size\": 1}]}".formatted(COMMIT, path));
        UncheckedIOException e = assertThrows(
                UncheckedIOException.class, () -> client(Hub.HUGGING_FACE).dataset(DATA, null, names -> names));
        assertTrue(e.getMessage().contains("no path inside the repository"), e.getMessage());
        try (var files = Files.walk(home)) {
            assertTrue(files.noneMatch(f -> f.toString().contains("evil")));
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"../x", "a/..", "a/b/c", "a", "a/b c", "/a", "a/", ".a/b", "a/b--c", "a/-b", "a/b?c", "a/%2e"})
    void idsThatAreNone(String id) {
        assertFalse(HubId.isId(id));
        assertThrows(IllegalArgumentException.class, () -> HubId.parse(id));
    }

    @Test
    void downloadsADataSetFromModelScopePageByPage() throws Exception {
        byte[] rows = "{\"query\": \"q\", \"response\": \"r\"}\n".getBytes(StandardCharsets.UTF_8);
        StringBuilder first = new StringBuilder();
        for (int i = 0; i < 100; i++) {
            first.append(i == 0 ? "" : ",").append("{\"Path\": \"d%d\", \"Type\": \"tree\"}".formatted(i));
        }
        String tree =
                "/api/v1/datasets/AI-ModelScope/alpaca-gpt4-data-zh/repo/tree?Revision=master&Root=/&Recursive=true&PageNumber=%d&PageSize=100";
        server.body(tree.formatted(1), "{\"Code\": 200, \"Data\": {\"Files\": [" + first + "]}}");
        server.body(
                tree.formatted(2),
                "{\"Code\": 200, \"Data\": {\"Files\": [{\"Path\": \"zh/tr ain.jsonl\", \"Type\": \"blob\", \"Size\": %d, \"Sha256\": \"%s\"},"
                                .formatted(rows.length, sha256(rows))
                        + "{\"Path\": \"en/train.jsonl\", \"Type\": \"blob\", \"Size\": 2, \"Sha256\": \""
                        + sha256(rows)
                        + "\"}]}}");
        server.body(
                "/api/v1/datasets/AI-ModelScope/alpaca-gpt4-data-zh/repo?Revision=master&FilePath=zh%2Ftr%20ain.jsonl",
                rows);
        List<Path> files = client(Hub.MODELSCOPE)
                .dataset(
                        DATA,
                        null,
                        names -> names.stream().filter(n -> n.startsWith("zh")).toList());
        Path folder = home.resolve(".cache/modelscope/hub/datasets/AI-ModelScope/alpaca-gpt4-data-zh");
        assertEquals(List.of(folder.resolve("zh/tr ain.jsonl")), files);
        assertArrayEquals(rows, Files.readAllBytes(files.getFirst()));
        int before = server.requests.size();
        client(Hub.MODELSCOPE)
                .dataset(
                        DATA,
                        null,
                        names -> names.stream().filter(n -> n.startsWith("zh")).toList());
        assertEquals(before, server.requests.size());
        // the other part was never asked for: it must not be taken for all there is
        assertThrows(UncheckedIOException.class, () -> client(Hub.MODELSCOPE).dataset(DATA, null, names -> names));
        assertTrue(server.requests.size() > before);
    }

    @Test
    void modelScopesFoldersAreFoundWithTheirThreeUnderscores() throws Exception {
        for (String place : List.of("models/Qwen/Qwen3-0___6B", "Qwen/Qwen3-0___6B")) {
            Path cache = home.resolve(place.replace('/', '_'));
            Path folder = Files.createDirectories(cache.resolve(place));
            for (String name : List.of("config.json", "tokenizer.json", "model-00001-of-00002.safetensors")) {
                Files.createFile(folder.resolve(name));
            }
            HubClient client = client(Hub.MODELSCOPE, "MODELSCOPE_CACHE", cache.toString());
            assertThrows(UncheckedIOException.class, () -> client.model(MODEL), "a shard is missing");
            Files.createFile(folder.resolve("model-00002-of-00002.safetensors"));
            assertEquals(folder, client.model(MODEL));
        }
    }

    @Test
    void modelsInOtherFormatsAreNamed() throws Exception {
        server.body(
                "/api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true",
                "{\"sha\": \"%s\", \"siblings\": [{\"rfilename\": \"q4.gguf\", \"size\": 1, \"blobId\": \"%s\"}]}"
                        .formatted(COMMIT, gitBlob(CONFIG)));
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class, () -> client(Hub.HUGGING_FACE).model(MODEL));
        assertTrue(e.getMessage().contains("q4.gguf"), e.getMessage());
    }
}
