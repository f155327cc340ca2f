package org.qlora4j.lora.hub;

import java.io.IOException;
import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.Proxy;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * The proxy that the variables of curl, git and pip name, in lower or upper case: {@code https_proxy},
 * {@code http_proxy}, {@code all_proxy}, and {@code no_proxy} for hosts without. The JDK knows its own properties only
 * ({@code https.proxyHost}), which are followed where they are set.
 *
 * @param variable that names it
 * @param host of the proxy
 * @param user with password as {@code user:password}, which nobody is shown
 */
record HubProxy(
        String variable, String host, int port, @Nullable String user) {
    /**
     * The proxy on the way to an address.
     *
     * @param variables the value of a name; null if it has none
     * @return null for none
     * @throws IllegalArgumentException if the variable's value is no address of a proxy
     */
    static @Nullable HubProxy of(Function<String, @Nullable String> variables, URI to) {
        boolean javas = System.getProperty(to.getScheme() + ".proxyHost") != null
                || System.getProperty("socksProxyHost") != null;
        String without = first(variables, "no_proxy");
        if (javas || without != null && excepts(without, to)) {
            return null;
        }
        for (String name : List.of(to.getScheme() + "_proxy", "all_proxy")) {
            String value = first(variables, name);
            if (value != null) {
                return parse(name, value);
            }
        }
        return null;
    }

    private static @Nullable String first(Function<String, @Nullable String> variables, String name) {
        String lower = variables.apply(name);
        return lower != null ? lower : variables.apply(name.toUpperCase(Locale.ROOT));
    }

    /** Names with their subdomains, with a port for that one alone; * for all. */
    private static boolean excepts(String list, URI to) {
        String host = to.getHost().toLowerCase(Locale.ROOT);
        int port = to.getPort() >= 0 ? to.getPort() : to.getScheme().equals("https") ? 443 : 80;
        for (String entry : list.toLowerCase(Locale.ROOT).split("[,\\s]+")) {
            String name =
                    entry.endsWith(":" + port) ? entry.substring(0, entry.length() - (":" + port).length()) : entry;
            name = name.equals("*") ? name : name.replaceFirst("^\\*?\\.", "");
            if (name.equals("*") || host.equals(name) || !name.isEmpty() && host.endsWith("." + name)) {
                return true;
            }
        }
        return false;
    }

    private static HubProxy parse(String name, String value) {
        String address = value.contains("://") ? value : "http://" + value;
        try {
            URI uri = new URI(address);
            if ("http".equals(uri.getScheme()) && uri.getHost() != null) {
                return new HubProxy(name, uri.getHost(), uri.getPort() < 0 ? 80 : uri.getPort(), uri.getRawUserInfo());
            }
        } catch (URISyntaxException e) {
            // its message would show the password
        }
        throw new IllegalArgumentException(name + " must be an address like http://proxy.example.com:8080, with"
                + " user:password@ before the host if need be and %XX for special characters, found '"
                + address.replaceFirst("://.*@", "://") + "'");
    }

    /** A connection to an address, which asks the proxy at its first use. */
    HttpURLConnection open(URI to) throws IOException {
        Proxy proxy = new Proxy(Proxy.Type.HTTP, InetSocketAddress.createUnresolved(host, port));
        HttpURLConnection connection = (HttpURLConnection) to.toURL().openConnection(proxy);
        if (user != null) {
            String[] parts = user.split(":", 2);
            PasswordAuthentication answer = new PasswordAuthentication(
                    decoded(parts[0]),
                    decoded(parts.length == 1 ? "" : parts[1]).toCharArray());
            connection.setAuthenticator(new Authenticator() {
                @Override
                protected @Nullable PasswordAuthentication getPasswordAuthentication() {
                    return getRequestorType() == RequestorType.PROXY ? answer : null;
                }
            });
        }
        return connection;
    }

    private static String decoded(String text) {
        return URLDecoder.decode(text.replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    /** What it is called in messages: without user and password. */
    @Override
    public String toString() {
        return "the proxy http://" + host + ":" + port + " (" + variable + ")";
    }
}
