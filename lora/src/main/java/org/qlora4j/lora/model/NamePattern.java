package org.qlora4j.lora.model;

import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import org.jspecify.annotations.Nullable;

/**
 * A regular expression for the names of modules. It may come with a downloaded adapter or model, so it must end:
 * {@code (a+)+b} takes a time exponential in the length of a name, and deep nesting overflows the stack.
 */
public final class NamePattern {
    /** Expressions that list every layer of a large model by name have some thousand letters. */
    private static final int MAX_LENGTH = 100_000;

    /** Letters looked at for one name; usual expressions need some hundred. */
    private static final int MAX_STEPS = 1_000_000;

    private final String expression;
    private final Pattern pattern;

    private NamePattern(String expression, Pattern pattern) {
        this.expression = expression;
        this.pattern = pattern;
    }

    /** @throws IllegalArgumentException if it is no regular expression, or too long or deep; says so in one sentence */
    public static NamePattern of(String expression) {
        if (expression.length() > MAX_LENGTH) {
            throw new IllegalArgumentException("a regular expression for module names has at most " + MAX_LENGTH
                    + " letters, got " + expression.length());
        }
        try {
            return new NamePattern(expression, Pattern.compile(expression));
        } catch (PatternSyntaxException e) {
            throw new IllegalArgumentException(
                    "'" + expression + "' is not a regular expression: " + e.getDescription(), e);
        } catch (StackOverflowError e) {
            throw tooComplex(expression, e);
        }
    }

    /** Whether it matches a whole name. */
    public boolean matches(String name) {
        return match(name) != null;
    }

    /** The match with a whole name; null if there is none. */
    public @Nullable MatchResult match(String name) {
        Matcher matcher = pattern.matcher(new Counted(name, this));
        try {
            return matcher.matches() ? matcher.toMatchResult() : null;
        } catch (StackOverflowError e) {
            throw tooComplex(expression, e);
        }
    }

    /** Whether it matches the start of a name. */
    boolean matchesStart(String name) {
        try {
            return pattern.matcher(new Counted(name, this)).lookingAt();
        } catch (StackOverflowError e) {
            throw tooComplex(expression, e);
        }
    }

    private static IllegalArgumentException tooComplex(String expression, @Nullable Throwable cause) {
        String shown = expression.length() > 80 ? expression.substring(0, 80) + "…" : expression;
        return new IllegalArgumentException(
                "the regular expression '" + shown + "' takes too long or is nested too deeply; simplify it", cause);
    }

    /** A name that counts how often it is looked at: all that the JDK lets one limit. */
    private static final class Counted implements CharSequence {
        private final String name;
        private final NamePattern of;
        private int steps;

        Counted(String name, NamePattern of) {
            this.name = name;
            this.of = of;
        }

        @Override
        public char charAt(int index) {
            if (++steps > MAX_STEPS) {
                throw tooComplex(of.expression, null);
            }
            return name.charAt(index);
        }

        @Override
        public int length() {
            return name.length();
        }

        @Override
        public CharSequence subSequence(int start, int end) {
            return name.subSequence(start, end);
        }

        @Override
        public String toString() {
            return name;
        }
    }
}
