package org.qlora4j.bindings;

import java.util.regex.Pattern;

/** What messages of other programs and servers may say that nobody else should read. */
public final class Secrets {
    /** Up to the last @ before a space: passwords may hold slashes. */
    private static final Pattern USER = Pattern.compile("://[^\\s'\"]*@");

    /** Addresses of storage behind a hub are signed: who has the query may read the file. */
    private static final Pattern QUERY = Pattern.compile("(://[^\\s'\"?]*)\\?[^\\s'\"]*");

    private Secrets() {}

    /** A message whose addresses show neither user nor password nor query. */
    public static String hidden(String message) {
        return QUERY.matcher(USER.matcher(message).replaceAll("://")).replaceAll("$1");
    }
}
