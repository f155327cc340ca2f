package org.qlora4j.samples;

/** A user's mistake: one sentence on standard error and exit code 2, no stack trace. */
final class UserException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    UserException(String message) {
        super(message);
    }
}
