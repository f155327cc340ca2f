package org.qlora4j.lora.hub;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Downloads through a proxy on this machine; hub.example does not exist. */
class HubProxyTest {
    private HubServer proxy;

    @BeforeEach
    void start() throws IOException {
        proxy = new HubServer().body("http://hub.example/api/x", "there");
    }

    @AfterEach
    void stop() throws IOException {
        proxy.close();
    }

    private static HubConnection connection(String endpoint, String... variables) {
        Map<String, String> all = new HashMap<>(Map.of("HF_ENDPOINT", endpoint));
        for (int i = 0; i < variables.length; i += 2) {
            all.put(variables[i], variables[i + 1]);
        }
        return new HubConnection(Hub.HUGGING_FACE, new HubSettings(all, Path.of("unused")), 2000);
    }

    private static String get(String endpoint, String... variables) throws IOException {
        return new String(connection(endpoint, variables).get("/api/x"), StandardCharsets.UTF_8);
    }

    private static String failure(String endpoint, String... variables) {
        return assertThrows(IOException.class, () -> get(endpoint, variables)).getMessage();
    }

    private String address(String user) {
        return proxy.endpoint().replace("://", "://" + user);
    }

    @ParameterizedTest
    @ValueSource(strings = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"})
    void theProxyIsAsked(String variable) throws IOException {
        assertEquals("there", get("http://hub.example", variable, proxy.endpoint()));
        assertEquals("there", get("http://hub.example", variable, address("").substring("http://".length())));
    }

    @Test
    void userAndPasswordAreDecoded() throws IOException {
        proxy.proxyUser("me:p@ss/+");
        assertEquals("there", get("http://hub.example", "http_proxy", address("me:p%40ss%2F+@")));
    }

    /** https goes through a tunnel; the proxy is told who asks. */
    @Test
    void aTunnelIsAskedForWithThePassword() {
        proxy.proxyUser("me:secret").status("hub.example:443", 403);
        String said = failure("https://hub.example", "https_proxy", address("me:secret@"));
        assertTrue(said.startsWith("the proxy " + proxy.endpoint() + " (https_proxy): "), said);
        assertTrue(said.contains("403"), said);
        assertFalse(said.contains("secret"), said);
        assertTrue(proxy.requests.getLast().headers().containsKey("proxy-authorization"), proxy.requests::toString);
    }

    @Test
    void aRefusalNamesTheProxyWithoutThePassword() throws IOException {
        proxy.proxyUser("me:secret");
        String said = failure("http://hub.example", "http_proxy", address("me:guess@"));
        assertTrue(said.contains("the proxy " + proxy.endpoint() + " (http_proxy)"), said);
        assertTrue(said.contains("407"), said);
        assertFalse(said.contains("guess"), said);
        String none = failure("http://hub.example", "http_proxy", proxy.endpoint());
        assertTrue(none.contains("answers 407: it wants another user and password"), none);
        String closed;
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            closed = "http://127.0.0.1:" + socket.getLocalPort();
        }
        assertEquals(
                "the proxy " + closed + " (http_proxy): Connection refused",
                failure("http://hub.example", "http_proxy", closed.replace("://", "://me:secret@")));
        String nowhere = failure("http://hub.example", "http_proxy", "http://me:secret@proxy.invalid:1");
        assertEquals("the proxy http://proxy.invalid:1 (http_proxy): there is no host proxy.invalid", nowhere);
    }

    @ParameterizedTest
    @CsvSource({
        "'*', true",
        "hub.example, true",
        "example, true",
        ".example, true",
        "*.EXAMPLE, true",
        "'other, hub.example', true",
        "hub.example:80, true",
        "hub.example:81, false",
        "xample, false",
        "b.example, false",
        "'', false"
    })
    void hostsWithout(String list, boolean without) {
        String[] variables = {"http_proxy", "http://p:1", "NO_PROXY", list};
        HubProxy found = new HubSettings(
                        Map.of(variables[0], variables[1], variables[2], variables[3]), Path.of("unused"))
                .proxy(URI.create("http://hub.example/x"));
        assertEquals(without, found == null);
    }

    @Test
    void theVariableOfTheOtherSchemeIsNotTaken() {
        HubSettings settings = new HubSettings(Map.of("http_proxy", "http://p:1"), Path.of("unused"));
        assertNull(settings.proxy(URI.create("https://hub.example/x")));
    }

    @ParameterizedTest
    @ValueSource(strings = {"socks5://me:secret@host:1", "http://me:secret@", "http://me:se cret@host:x"})
    void whatIsNoProxyIsRefused(String value) {
        String said = assertThrows(IllegalArgumentException.class, () -> get("http://hub.example", "http_proxy", value))
                .getMessage();
        assertTrue(said.startsWith("http_proxy must be an address like http://proxy.example.com:8080"), said);
        assertFalse(said.contains("cret"), said);
    }
}
