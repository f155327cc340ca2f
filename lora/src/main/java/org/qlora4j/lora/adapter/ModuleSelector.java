package org.qlora4j.lora.adapter;

import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import org.jspecify.annotations.Nullable;

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
            compile(expression);
        }

        @Override
        public boolean selects(String module) {
            return compile(expression).matcher(module).matches();
        }

        /** A regular expression, refused with one sentence if it is none. */
        static Pattern compile(String expression) {
            try {
                return Pattern.compile(expression);
            } catch (PatternSyntaxException e) {
                throw new IllegalArgumentException(
                        "'" + expression + "' is not a regular expression: " + e.getDescription(), e);
            }
        }
    }

    /** The value of the first key that matches: {@code (.*\.)?(KEY)$} from the start of the name, as PEFT does. */
    static <V> @Nullable V firstMatch(Map<String, V> patterns, String module) {
        for (Map.Entry<String, V> e : patterns.entrySet()) {
            if (Regex.compile("(.*\\.)?(" + e.getKey() + ")").matcher(module).matches()) {
                return e.getValue();
            }
        }
        return null;
    }
}
