package org.qlora4j.lora.text.jinja;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** An expression of a template. */
sealed interface Expr {
    int line();

    record Literal(int line, Object value) implements Expr {}

    record Name(int line, String name) implements Expr {}

    record ListOf(int line, List<Expr> items) implements Expr {}

    record TupleOf(int line, List<Expr> items) implements Expr {}

    record DictOf(int line, List<Expr> keys, List<Expr> values) implements Expr {}

    record Not(int line, Expr operand) implements Expr {}

    record Sign(int line, boolean negative, Expr operand) implements Expr {}

    record Binary(int line, Operator operator, Expr left, Expr right) implements Expr {}

    /** {@code and} or {@code or}: gives one of its operands. */
    record Logic(int line, boolean and, Expr left, Expr right) implements Expr {}

    record Compare(int line, Expr first, List<Comparand> rest) implements Expr {}

    record Comparand(Relation relation, Expr operand) {}

    record Concat(int line, List<Expr> parts) implements Expr {}

    record Conditional(
            int line, Expr test, Expr then, @Nullable Expr otherwise) implements Expr {}

    record Attribute(int line, Expr object, String name) implements Expr {}

    record Item(int line, Expr object, Expr key) implements Expr {}

    /** A bound that was left out is null. */
    record Slice(
            int line,
            Expr object,
            @Nullable Expr start,
            @Nullable Expr stop,
            @Nullable Expr step) implements Expr {}

    record Call(int line, Expr callee, Parameters arguments) implements Expr {}

    record Filter(int line, Expr input, FilterCall filter) implements Expr {}

    record Test(int line, Expr input, String name, Parameters arguments) implements Expr {}

    /** A filter with its arguments, without the input. */
    record FilterCall(int line, String name, Parameters arguments) {}

    record Keyword(String name, Expr value) {}

    /** The arguments written in a call; {@code list} is {@code *list} and {@code dict} is {@code **dict}. */
    record Parameters(
            List<Expr> positional,
            List<Keyword> keywords,
            @Nullable Expr list,
            @Nullable Expr dict) {
        static final Parameters NONE = new Parameters(List.of(), List.of(), null, null);
    }

    /** The arithmetic operators. */
    enum Operator {
        ADD("+"),
        SUB("-"),
        MUL("*"),
        DIV("/"),
        FLOORDIV("//"),
        MOD("%"),
        POW("**");

        private final String symbol;

        Operator(String symbol) {
            this.symbol = symbol;
        }

        String symbol() {
            return symbol;
        }
    }

    /** The comparisons. */
    enum Relation {
        EQ("=="),
        NE("!="),
        LT("<"),
        LE("<="),
        GT(">"),
        GE(">="),
        IN("in"),
        NOT_IN("not in");

        private final String symbol;

        Relation(String symbol) {
            this.symbol = symbol;
        }

        String symbol() {
            return symbol;
        }

        /** Whether an order relation holds for a result of compareTo. */
        boolean holds(int order) {
            return switch (this) {
                case LT -> order < 0;
                case LE -> order <= 0;
                case GT -> order > 0;
                case GE -> order >= 0;
                case EQ, NE, IN, NOT_IN -> throw new IllegalStateException(symbol + " is not an order");
            };
        }
    }
}
