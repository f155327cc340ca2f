package org.qlora4j.nf4.file;

import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/** The content of a model file is not what its format demands: damaged, hostile, or of a kind that is not supported. */
public final class ModelFormatException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String file;
    private final String what;

    /**
     * @param file the file that was read
     * @param what what was expected, what was found, where, and what to do
     */
    public ModelFormatException(Path file, String what) {
        this(file, what, null);
    }

    /**
     * @param file the file that was read
     * @param what what was expected, what was found, where, and what to do
     * @param cause the reader's exception, if there is one
     */
    public ModelFormatException(Path file, String what, @Nullable Throwable cause) {
        super(file + ": " + what, cause);
        this.file = file.toString();
        this.what = what;
    }

    static ModelFormatException ofTensor(Path file, String tensor, String what) {
        return new ModelFormatException(file, "tensor '" + tensor + "': " + what);
    }

    /** The file that was read. */
    public Path file() {
        return Path.of(file);
    }

    /** The message without the file name. */
    public String what() {
        return what;
    }
}
