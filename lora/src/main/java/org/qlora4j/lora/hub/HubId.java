package org.qlora4j.lora.hub;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * An id on a hub: {@code owner/name}. It becomes part of paths and addresses, so its characters are checked.
 *
 * @param owner a user or organization
 * @param name of the model or data set
 */
public record HubId(String owner, String name) {
    private static final String WORD = "[A-Za-z0-9_][A-Za-z0-9._-]{0,95}";
    private static final Pattern ID = Pattern.compile("(" + WORD + ")/(" + WORD + ")");

    /** Checks both parts. */
    public HubId {
        if (!isId(owner + "/" + name)) {
            throw new IllegalArgumentException("'" + owner + "/" + name + "' is no id of a hub; expected owner/name of"
                    + " letters, digits, '.', '_' and '-'");
        }
    }

    /** Whether a text has the form of an id. */
    public static boolean isId(String text) {
        return ID.matcher(text).matches() && !text.contains("..") && !text.contains("--");
    }

    /** Reads {@code owner/name}. @throws IllegalArgumentException if it has another form */
    public static HubId parse(String text) {
        Matcher matcher = ID.matcher(text);
        int slash = text.indexOf('/');
        return matcher.matches()
                ? new HubId(matcher.group(1), matcher.group(2))
                : new HubId(text.substring(0, Math.max(0, slash)), text.substring(slash + 1));
    }

    @Override
    public String toString() {
        return owner + "/" + name;
    }
}
