package org.qlora4j.lora.hub;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * What a hub has under an id, and the addresses of its files.
 *
 * @param revision the commit on Hugging Face; the branch on ModelScope
 */
record HubListing(Hub hub, Hub.Kind kind, HubId id, String revision, List<RepoFile> files) {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int PAGE = 100;
    private static final int MAX_PAGES = 1000;

    /** Asks the hub. */
    static HubListing of(HubConnection connection, Hub hub, Hub.Kind kind, HubId id) throws IOException {
        try {
            return hub == Hub.HUGGING_FACE ? huggingFace(connection, kind, id) : modelScope(connection, kind, id);
        } catch (IllegalArgumentException e) {
            throw new HubConnection.RefusedException(String.valueOf(e.getMessage()));
        }
    }

    private static HubListing huggingFace(HubConnection connection, Hub.Kind kind, HubId id) throws IOException {
        JsonNode json = JSON.readTree(connection.get(
                "/api/" + kind.plural + "/" + id + "/revision/" + Hub.HUGGING_FACE.revision + "?blobs=true"));
        String commit = json.path("sha").asText();
        if (!commit.matches("[0-9a-f]{40}")) {
            throw new IllegalArgumentException("the hub's answer about " + id + " names no commit");
        }
        List<RepoFile> files = new ArrayList<>();
        for (JsonNode file : json.path("siblings")) {
            JsonNode sha256 = file.path("lfs").path("sha256");
            ContentHash hash = sha256.isTextual()
                    ? hash(ContentHash.Kind.SHA256, sha256)
                    : hash(ContentHash.Kind.GIT_BLOB, file.path("blobId"));
            files.add(new RepoFile(
                    file.path("rfilename").asText(), file.path("size").asLong(-1), hash));
        }
        return new HubListing(Hub.HUGGING_FACE, kind, id, commit, files);
    }

    private static HubListing modelScope(HubConnection connection, Hub.Kind kind, HubId id) throws IOException {
        String revision = Hub.MODELSCOPE.revision;
        String repository = "/api/v1/" + kind.plural + "/" + id + "/repo/";
        List<RepoFile> files = new ArrayList<>();
        for (int page = 1; page <= MAX_PAGES; page++) {
            String query = kind == Hub.Kind.MODEL
                    ? "files?Revision=" + revision + "&Recursive=true"
                    : "tree?Revision=" + revision + "&Root=/&Recursive=true&PageNumber=" + page + "&PageSize=" + PAGE;
            JsonNode json = JSON.readTree(connection.get(repository + query));
            JsonNode listed = json.path("Data").path("Files");
            if (json.path("Code").asInt() != 200 || !listed.isArray()) {
                throw new IllegalArgumentException("the hub does not list " + id + ": "
                        + json.path("Message").asText("no message"));
            }
            for (JsonNode file : listed) {
                if (!file.path("Type").asText().equals("tree")) {
                    files.add(new RepoFile(
                            file.path("Path").asText(),
                            file.path("Size").asLong(-1),
                            hash(ContentHash.Kind.SHA256, file.path("Sha256"))));
                }
            }
            if (kind == Hub.Kind.MODEL || listed.size() < PAGE) {
                break;
            }
        }
        return new HubListing(Hub.MODELSCOPE, kind, id, revision, files);
    }

    private static @Nullable ContentHash hash(ContentHash.Kind kind, JsonNode value) {
        return value.isTextual() && !value.textValue().isEmpty() ? new ContentHash(kind, value.textValue()) : null;
    }

    /** Where a file's content is, below the endpoint. */
    String address(RepoFile file) {
        if (hub == Hub.MODELSCOPE) {
            return "/api/v1/" + kind.plural + "/" + id + "/repo?Revision=" + revision + "&FilePath="
                    + encoded(file.path());
        }
        String path =
                Arrays.stream(file.path().split("/")).map(HubListing::encoded).collect(Collectors.joining("/"));
        return (kind == Hub.Kind.DATASET ? "/datasets/" : "/") + id + "/resolve/" + revision + "/" + path;
    }

    private static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }
}
