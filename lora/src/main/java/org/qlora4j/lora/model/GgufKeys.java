package org.qlora4j.lora.model;

import org.qlora4j.nf4.file.Gguf;
import org.qlora4j.nf4.file.ModelFormatException;

/** Metadata of a GGUF file under the name of its architecture. */
record GgufKeys(Gguf gguf, GgufArchitecture architecture) {
    private String key(String name) {
        return architecture.ggufName() + "." + name;
    }

    boolean has(String name) {
        return gguf.metadata().containsKey(key(name));
    }

    String text(String name, String otherwise) {
        return gguf.text(key(name)).orElse(otherwise);
    }

    int integer(String name) {
        Object value = gguf.metadata().get(key(name));
        if (!(value instanceof Long v) || v < 0 || v > Integer.MAX_VALUE) {
            throw new ModelFormatException(
                    gguf.location(), "metadata '" + key(name) + "' must be an integer, found " + value);
        }
        return v.intValue();
    }

    int integer(String name, int otherwise) {
        return has(name) ? integer(name) : otherwise;
    }

    /** GGUF holds fp32: the shortest decimal that rounds to it is the number meant, 1e-5 and not 9.999999747e-6. */
    double decimal(String name, double otherwise) {
        Object value = gguf.metadata().getOrDefault(key(name), otherwise);
        if (!(value instanceof Double v) || !Double.isFinite(v)) {
            throw new ModelFormatException(
                    gguf.location(), "metadata '" + key(name) + "' must be a number, found " + value);
        }
        return Double.parseDouble(Float.toString(v.floatValue()));
    }
}
