package org.qlora4j.lora.text;

import ai.djl.engine.EngineException;
import ai.djl.huggingface.tokenizers.jni.LibUtils;

/**
 * Loads the native tokenizers library that DJL's jar carries; it is unpacked to {@code ~/.djl.ai}, or to what
 * DJL_CACHE_DIR names. RUST_LIBRARY_PATH names another build.
 */
final class TokenizerLibrary {
    private TokenizerLibrary() {}

    /**
     * Makes DJL load the library of its jar and stay off the network: on a machine with a GPU it would download another
     * build, and it reports its use to its makers. Values the user has set stay.
     *
     * @throws IllegalStateException if the library cannot be loaded
     */
    static void prepare() {
        setUnlessSet("RUST_FLAVOR", "cpu");
        setUnlessSet("OPT_OUT_TRACKING", "true");
        setUnlessSet("ai.djl.offline", "true");
        try {
            LibUtils.checkStatus();
        } catch (EngineException e) {
            throw new IllegalStateException(
                    "the tokenizers library of DJL cannot be loaded: " + e.getCause()
                            + "; set DJL_CACHE_DIR to a folder that can be written and executed from, or RUST_LIBRARY_PATH to a libtokenizers",
                    e);
        }
    }

    private static void setUnlessSet(String property, String value) {
        if (System.getProperty(property) == null && System.getenv(property) == null) {
            System.setProperty(property, value);
        }
    }
}
