package org.qlora4j.lora.model;

/** A model whose config.json says something that is not implemented; the message says what is. */
public final class UnsupportedModelException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public UnsupportedModelException(String message) {
        super(message);
    }
}
