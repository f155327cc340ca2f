package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertTrue;

/** What exceptions say. */
final class Messages {
    private Messages() {}

    static String of(Throwable e) {
        return String.valueOf(e.getMessage());
    }

    static void assertSays(Throwable e, String... parts) {
        for (String part : parts) {
            assertTrue(of(e).contains(part), "'" + part + "' is not in: " + of(e));
        }
    }
}
