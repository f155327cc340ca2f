package org.qlora4j.lora.hub;

import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.Secrets;

/**
 * The variables that the Python tools of both hubs read: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE;
 * MODELSCOPE_ENDPOINT, MODELSCOPE_CACHE, MODELSCOPE_API_TOKEN; https_proxy, http_proxy, all_proxy and no_proxy.
 */
public final class HubSettings {
    private final Map<String, String> variables;
    private final UnaryOperator<@Nullable String> fallback;
    private final Path home;

    /**
     * Settings of this process: system properties of those names, then the environment.
     *
     * @return read anew at each use
     */
    public static HubSettings ofProcess() {
        return new HubSettings(
                Map.of(),
                name -> System.getProperty(name, System.getenv(name)),
                Path.of(System.getProperty("user.home")));
    }

    /**
     * Given settings.
     *
     * @param variables by name
     * @param home the folder that {@code ~} stands for
     */
    public HubSettings(Map<String, String> variables, Path home) {
        this(Map.copyOf(variables), name -> null, home);
    }

    private HubSettings(Map<String, String> variables, UnaryOperator<@Nullable String> fallback, Path home) {
        this.variables = variables;
        this.fallback = fallback;
        this.home = home;
    }

    private @Nullable String value(String name) {
        String value = variables.containsKey(name) ? variables.get(name) : fallback.apply(name);
        return value == null || value.isBlank() ? null : value.strip();
    }

    /** The address of a hub, without a slash at the end. @throws IllegalArgumentException if it is none */
    String endpoint(Hub hub) {
        String named = value(hub.endpointVariable);
        String address = named == null ? hub.endpoint : named.replaceAll("/+$", "");
        String url = address.contains("://") ? address : "https://" + address;
        if (!isWeb(url)) {
            throw new IllegalArgumentException(hub.endpointVariable + " must be an address like " + hub.endpoint
                    + ", found '" + Secrets.hidden(url) + "'");
        }
        return url;
    }

    private static boolean isWeb(String url) {
        try {
            URI uri = new URI(url);
            return uri.getHost() != null && List.of("http", "https").contains(uri.getScheme());
        } catch (URISyntaxException e) {
            return false;
        }
    }

    /** @throws IllegalArgumentException if it cannot be one; the JDK's refusal of such a header would show it */
    @Nullable
    String token(Hub hub) {
        String token = value(hub.tokenVariable);
        if (token != null && !token.chars().allMatch(c -> c > ' ' && c < 127)) {
            throw new IllegalArgumentException(
                    hub.tokenVariable + " must be one token, but has a space, a line break or another such character");
        }
        return token;
    }

    /** The proxy on the way to an address; null for none. */
    @Nullable
    HubProxy proxy(URI to) {
        return HubProxy.of(this::value, to);
    }

    /** Whether nothing may be downloaded. */
    boolean offline() {
        String value = value("HF_HUB_OFFLINE");
        return value != null && !List.of("0", "false", "no", "off").contains(value.toLowerCase(java.util.Locale.ROOT));
    }

    /** The folder in which a hub's Python tools keep what they downloaded. */
    Path cache(Hub hub) {
        if (hub == Hub.MODELSCOPE) {
            String cache = value("MODELSCOPE_CACHE");
            return cache == null ? home.resolve(".cache/modelscope/hub") : Path.of(cache);
        }
        for (String name : List.of("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")) {
            String cache = value(name);
            if (cache != null) {
                return Path.of(cache);
            }
        }
        String hfHome = value("HF_HOME");
        return (hfHome == null ? home.resolve(".cache/huggingface") : Path.of(hfHome)).resolve("hub");
    }
}
