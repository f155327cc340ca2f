package org.qlora4j.lora.hub;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;

/** A web server on this machine that can break off in the middle of an answer. */
final class HubServer implements AutoCloseable {
    private final ServerSocket socket;
    private final Map<String, byte[]> bodies = new ConcurrentHashMap<>();
    private final Map<String, String> redirects = new ConcurrentHashMap<>();
    private final Map<String, ConcurrentLinkedQueue<Integer>> breaks = new ConcurrentHashMap<>();
    private final Map<String, Integer> statuses = new ConcurrentHashMap<>();
    private volatile String proxyUser = "";
    final List<Request> requests = Collections.synchronizedList(new ArrayList<>());

    /** What was asked. */
    record Request(String path, Map<String, String> headers) {}

    HubServer() throws IOException {
        socket = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        Thread.ofPlatform().daemon().start(this::serve);
    }

    String endpoint() {
        return "http://" + socket.getInetAddress().getHostAddress() + ":" + socket.getLocalPort();
    }

    HubServer body(String path, String text) {
        return body(path, text.getBytes(StandardCharsets.UTF_8));
    }

    HubServer body(String path, byte[] bytes) {
        bodies.put(path, bytes);
        return this;
    }

    HubServer redirect(String path, String location) {
        redirects.put(path, location);
        return this;
    }

    HubServer status(String path, int status) {
        statuses.put(path, status);
        return this;
    }

    /** As a proxy, which is asked for whole addresses, for this user:password only. */
    HubServer proxyUser(String user) {
        proxyUser = user;
        return this;
    }

    /** The next answers end after so many bytes of the body each. */
    HubServer breaking(String path, Integer... afterBytes) {
        breaks.put(path, new ConcurrentLinkedQueue<>(List.of(afterBytes)));
        return this;
    }

    private void serve() {
        while (!socket.isClosed()) {
            try (Socket client = socket.accept()) {
                answer(client);
            } catch (IOException e) {
                // a client that went away, or the end
            }
        }
    }

    private void answer(Socket client) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(client.getInputStream(), StandardCharsets.UTF_8));
        String first = in.readLine();
        if (first == null) {
            return;
        }
        String path = first.split(" ")[1];
        Map<String, String> headers = new HashMap<>();
        for (String line = in.readLine(); line != null && !line.isEmpty(); line = in.readLine()) {
            headers.put(line.substring(0, line.indexOf(':')).toLowerCase(), line.substring(line.indexOf(':') + 2));
        }
        requests.add(new Request(path, headers));
        OutputStream out = client.getOutputStream();
        String location = redirects.get(path);
        byte[] body = bodies.get(path);
        String basic = "Basic " + Base64.getEncoder().encodeToString(proxyUser.getBytes(StandardCharsets.UTF_8));
        if (!proxyUser.isEmpty() && !basic.equals(headers.get("proxy-authorization"))) {
            send(out, "407 No\r\nProxy-Authenticate: Basic realm=\"it\"\r\nContent-Length: 0", new byte[0], 0);
        } else if (location != null) {
            send(out, "302 Found\r\nLocation: " + location + "\r\nContent-Length: 0", new byte[0], 0);
        } else if (statuses.containsKey(path)) {
            send(out, statuses.get(path) + " No\r\nContent-Length: 0", new byte[0], 0);
        } else if (body == null) {
            send(out, "404 Not Found\r\nContent-Length: 0", new byte[0], 0);
        } else {
            String range = headers.getOrDefault("range", "bytes=0-");
            int from = Integer.parseInt(range.substring("bytes=".length(), range.length() - 1));
            String status = headers.containsKey("range")
                    ? "206 Partial Content\r\nContent-Range: bytes " + from + "-" + (body.length - 1) + "/"
                            + body.length
                    : "200 OK";
            byte[] rest = java.util.Arrays.copyOfRange(body, from, body.length);
            Integer end =
                    breaks.getOrDefault(path, new ConcurrentLinkedQueue<>()).poll();
            send(out, status + "\r\nContent-Length: " + rest.length, rest, end == null ? rest.length : end);
        }
    }

    private static void send(OutputStream out, String head, byte[] body, int bytes) throws IOException {
        out.write(("HTTP/1.1 " + head + "\r\nConnection: close\r\n\r\n").getBytes(StandardCharsets.UTF_8));
        out.write(body, 0, Math.min(bytes, body.length));
        out.flush();
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
