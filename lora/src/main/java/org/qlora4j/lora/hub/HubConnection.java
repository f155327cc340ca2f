package org.qlora4j.lora.hub;

import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.UnknownHostException;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.Secrets;

/** Asks a hub by HTTP. Redirects are followed; the token goes to the hub's own host only. */
final class HubConnection {
    private static final int MAX_REDIRECTS = 10;
    /** A listing of a hundred thousand files has some 30 MB. */
    private static final int MAX_LISTING = 64 << 20;

    static {
        // else the JDK tells no proxy on the way to https a password; it reads this once, before its first connection,
        // so this cannot wait until a proxy asks for one
        String schemes = "jdk.http.auth.tunneling.disabledSchemes";
        if (System.getProperty(schemes) == null) {
            System.setProperty(schemes, "");
        }
    }

    private final Hub hub;
    private final String endpoint;
    private final @Nullable String token;
    private final HubSettings settings;
    private final int timeoutMillis;

    HubConnection(Hub hub, HubSettings settings, int timeoutMillis) {
        this.hub = hub;
        this.endpoint = settings.endpoint(hub);
        this.token = settings.token(hub);
        this.settings = settings;
        this.timeoutMillis = timeoutMillis;
    }

    /** The server answered that it will not do it; asking again is of no use. */
    static final class RefusedException extends IOException {
        private static final long serialVersionUID = 1L;

        RefusedException(String message) {
            super(Secrets.hidden(message));
        }
    }

    /** The body of an address below the endpoint. */
    byte[] get(String path) throws IOException {
        HttpURLConnection connection = open(endpoint + path, Map.of());
        try (InputStream in = body(connection)) {
            byte[] bytes = in.readNBytes(MAX_LISTING + 1);
            if (bytes.length > MAX_LISTING) {
                throw new RefusedException(endpoint + path + " answers with more than " + MAX_LISTING + " bytes");
            }
            return bytes;
        }
    }

    /** Opens an address; the answer is one of 200, 206 and 416. */
    HttpURLConnection open(String address, Map<String, String> headers) throws IOException {
        URI uri = URI.create(address);
        for (int i = 0; i <= MAX_REDIRECTS; i++) {
            HubProxy proxy = settings.proxy(uri);
            HttpURLConnection connection =
                    proxy == null ? (HttpURLConnection) uri.toURL().openConnection() : proxy.open(uri);
            connection.setInstanceFollowRedirects(false);
            connection.setConnectTimeout(timeoutMillis);
            connection.setReadTimeout(timeoutMillis);
            connection.setRequestProperty("User-Agent", "qlora4j");
            connection.setRequestProperty("Accept-Encoding", "identity");
            headers.forEach(connection::setRequestProperty);
            if (token != null && sameHost(uri)) {
                connection.setRequestProperty("Authorization", "Bearer " + token);
            }
            int status = status(connection, proxy);
            switch (status) {
                case 200, 206, 416 -> {
                    return connection;
                }
                case 301, 302, 303, 307, 308 -> uri = redirect(uri, connection.getHeaderField("Location"));
                case 401, 403 ->
                    throw new RefusedException(uri.getHost() + " answers " + status
                            + ": it does not exist, or only people who were let in may read it; set "
                            + hub.tokenVariable + " to a token of one");
                case 404 -> throw new RefusedException(uri.getHost() + " answers 404: there is no " + uri.getPath());
                default -> throw new IOException(uri.getHost() + " answers " + status);
            }
        }
        throw new RefusedException(address + " is redirected more than " + MAX_REDIRECTS + " times");
    }

    private static int status(HttpURLConnection connection, @Nullable HubProxy proxy) throws IOException {
        if (proxy == null) {
            return connection.getResponseCode();
        }
        int status;
        try {
            status = connection.getResponseCode();
        } catch (UnknownHostException e) {
            throw new IOException(proxy + ": there is no host " + proxy.host(), e);
        } catch (IOException e) {
            throw new IOException(proxy + ": " + e.getMessage(), e);
        }
        if (status == HttpURLConnection.HTTP_PROXY_AUTH) {
            throw new RefusedException(proxy + " answers 407: it wants another user and password before its host");
        }
        return status;
    }

    /** The body; a server that sends an error status after all is an error here. */
    static InputStream body(HttpURLConnection connection) throws IOException {
        return connection.getInputStream();
    }

    private boolean sameHost(URI uri) {
        URI hub = URI.create(endpoint);
        return uri.getScheme().equals(hub.getScheme()) && uri.getAuthority().equals(hub.getAuthority());
    }

    private static URI redirect(URI from, @Nullable String location) throws IOException {
        if (location == null) {
            throw new RefusedException(from + " is redirected to nowhere");
        }
        URI to;
        try {
            to = from.resolve(location);
        } catch (IllegalArgumentException e) {
            throw new RefusedException(from + " is redirected to '" + location + "', which is no address");
        }
        boolean web =
                "https".equals(to.getScheme()) || "http".equals(to.getScheme()) && "http".equals(from.getScheme());
        if (!web || to.getHost() == null) {
            throw new RefusedException(from + " is redirected to " + to + ", which is not followed");
        }
        return to;
    }
}
