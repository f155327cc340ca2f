package org.qlora4j.nf4.device;

/** A device has no room for an allocation; the message says how much was asked for and what to lower. */
public final class OutOfDeviceMemoryException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public OutOfDeviceMemoryException(String device, long bytesWanted, long bytesInUse) {
        super(
                "%s: no room for %,d more bytes (%,d in use); lower max_length, packing_length or per_device_train_batch_size, or set gradient_checkpointing true"
                        .formatted(device, bytesWanted, bytesInUse));
    }
}
