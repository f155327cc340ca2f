package org.qlora4j.lora.hub;

/** Where models and data sets with ids like {@code Qwen/Qwen3-0.6B} live. */
public enum Hub {
    HUGGING_FACE("Hugging Face", "HF_ENDPOINT", "https://huggingface.co", "HF_TOKEN", "main"),
    MODELSCOPE("ModelScope", "MODELSCOPE_ENDPOINT", "https://modelscope.cn", "MODELSCOPE_API_TOKEN", "master");

    final String title;
    final String endpointVariable;
    final String endpoint;
    final String tokenVariable;
    /** The branch that is taken. */
    final String revision;

    Hub(String title, String endpointVariable, String endpoint, String tokenVariable, String revision) {
        this.title = title;
        this.endpointVariable = endpointVariable;
        this.endpoint = endpoint;
        this.tokenVariable = tokenVariable;
        this.revision = revision;
    }

    /** What an id names. */
    public enum Kind {
        MODEL("models"),
        DATASET("datasets");

        /** Its word in addresses and folders. */
        final String plural;

        Kind(String plural) {
            this.plural = plural;
        }
    }
}
