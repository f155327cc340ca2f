package org.qlora4j.bindings;

/** A native library or package that cannot be had, or a native function that failed. */
public final class NativeException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String library;
    private final String function;
    private final int code;
    private final String text;

    /**
     * A library, function or package that cannot be had.
     *
     * @param library what was wanted
     * @param text what was tried, why it failed, what to do
     */
    public NativeException(String library, String text) {
        super(library + ": " + text);
        this.library = library;
        this.function = "";
        this.code = 0;
        this.text = text;
    }

    /**
     * A function that returned an error status.
     *
     * @param library its library
     * @param function its C name
     * @param code what it returned
     * @param text the library's own name or text for that code
     */
    public NativeException(String library, String function, int code, String text) {
        super(library + ": " + function + " failed with status " + code + " (" + text + ")");
        this.library = library;
        this.function = function;
        this.code = code;
        this.text = text;
    }

    /** What was wanted or called. */
    public String library() {
        return library;
    }

    /** The function that failed, or "" if none was called. */
    public String function() {
        return function;
    }

    /** The status, or 0 if none was called. */
    public int code() {
        return code;
    }

    /** The reason. */
    public String text() {
        return text;
    }
}
