package org.qlora4j.nf4.tensor;

/** What a tensor's bytes belong to: one allocation scope of one device. */
public interface Memory {
    /** The device's name, e.g. {@code cpu}; tensors of different devices never meet in one operation. */
    String deviceName();

    /** False once the owner has freed the bytes; a tensor of closed memory must not be used. */
    boolean isOpen();

    /** True if the system may move the bytes to disk; only optimizer state lies in such memory. */
    default boolean isPaged() {
        return false;
    }
}
