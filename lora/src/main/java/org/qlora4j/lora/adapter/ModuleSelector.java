package org.qlora4j.lora.adapter;

import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.model.NamePattern;

/** PEFT's {@code target_modules} and {@code exclude_modules}. */
public sealed interface ModuleSelector {
    /** Whether the module is selected. */
    boolean selects(String module);

    /** {@code all-linear}: every linear layer; the caller leaves out the output layer. */
    record AllLinear() implements ModuleSelector {
        @Override
        public boolean selects(String module) {
            return true;
        }
    }

    /** A list: the full name, or a name that ends in "." and the entry. */
    record Names(Set<String> names) implements ModuleSelector {
        public Names {
            names = new TreeSet<>(names);
            if (names.isEmpty()) {
                throw new IllegalArgumentException("a list of module names must not be empty");
            }
        }

        @Override
        public boolean selects(String module) {
            return names.stream().anyMatch(name -> matches(name, module));
        }

        static boolean matches(String name, String module) {
            return module.equals(name) || module.endsWith("." + name);
        }
    }

    /** A regular expression for the whole name. */
    record Regex(String expression) implements ModuleSelector {
        public Regex {
            NamePattern.of(expression);
        }

        @Override
        public boolean selects(String module) {
            return NamePattern.of(expression).matches(module);
        }
    }

    /** The value of the first key that matches: {@code (.*\.)?(KEY)$} from the start of the name, as PEFT does. */
    static <V> @Nullable V firstMatch(Map<String, V> patterns, String module) {
        for (Map.Entry<String, V> e : patterns.entrySet()) {
            if (NamePattern.of("(.*\\.)?(" + e.getKey() + ")").matches(module)) {
                return e.getValue();
            }
        }
        return null;
    }
}
