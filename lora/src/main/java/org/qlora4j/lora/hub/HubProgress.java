package org.qlora4j.lora.hub;

/** Told what a hub does. */
public interface HubProgress {
    /** Something people should know, in a line. */
    void say(String line);

    /** Bytes that are here, of all that are fetched. */
    void bytes(String what, long done, long all);
}
