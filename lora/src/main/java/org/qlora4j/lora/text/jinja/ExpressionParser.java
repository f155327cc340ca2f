package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Jinja's operators, by recursive descent with jinja2's precedences. */
final class ExpressionParser {
    private static final Map<String, Expr.Relation> RELATIONS = Map.of(
            "==", Expr.Relation.EQ,
            "!=", Expr.Relation.NE,
            "<", Expr.Relation.LT,
            "<=", Expr.Relation.LE,
            ">", Expr.Relation.GT,
            ">=", Expr.Relation.GE);
    private static final Map<String, Expr.Operator> SUMS = Map.of("+", Expr.Operator.ADD, "-", Expr.Operator.SUB);
    private static final Map<String, Expr.Operator> PRODUCTS = Map.of(
            "*", Expr.Operator.MUL, "/", Expr.Operator.DIV, "//", Expr.Operator.FLOORDIV, "%", Expr.Operator.MOD);

    private final TokenStream stream;
    private final OperandParser operands;

    ExpressionParser(TokenStream stream) {
        this.stream = stream;
        this.operands = new OperandParser(stream, this);
    }

    OperandParser operands() {
        return operands;
    }

    Expr parse() {
        stream.enter();
        int line = stream.line();
        Expr expr = or();
        while (stream.skipName("if")) {
            Expr test = or();
            Expr otherwise = stream.skipName("else") ? parse() : null;
            expr = new Expr.Conditional(line, test, expr, otherwise);
            line = stream.line();
        }
        stream.leave();
        return expr;
    }

    /** Without {@code x if y} at the top, as after {@code in} and {@code if}. */
    Expr parseWithoutCondition() {
        return or();
    }

    /** One expression, or a tuple without parentheses; {@code end} is a name that ends it. */
    Expr tuple(boolean withCondition, boolean parenthesised, @Nullable String end) {
        int line = stream.line();
        List<Expr> items = new ArrayList<>();
        boolean isTuple = false;
        while (true) {
            if (!items.isEmpty()) {
                stream.expectOperator(",");
            }
            if (isTupleEnd(end)) {
                break;
            }
            items.add(withCondition ? parse() : parseWithoutCondition());
            if (!stream.isOperator(",")) {
                break;
            }
            isTuple = true;
        }
        if (!isTuple && !items.isEmpty()) {
            return items.getFirst();
        }
        if (!isTuple && !parenthesised) {
            throw stream.fail("Expected an expression, got " + stream.peek().describe());
        }
        return new Expr.TupleOf(line, items);
    }

    private boolean isTupleEnd(@Nullable String end) {
        return stream.is(Token.Kind.PRINT_END)
                || stream.is(Token.Kind.TAG_END)
                || stream.isOperator(")")
                || end != null && stream.isName(end);
    }

    private Expr or() {
        int line = stream.line();
        Expr left = and();
        while (stream.skipName("or")) {
            left = new Expr.Logic(line, false, left, and());
            line = stream.line();
        }
        return left;
    }

    private Expr and() {
        int line = stream.line();
        Expr left = not();
        while (stream.skipName("and")) {
            left = new Expr.Logic(line, true, left, not());
            line = stream.line();
        }
        return left;
    }

    private Expr not() {
        int line = stream.line();
        if (!stream.skipName("not")) {
            return compare();
        }
        stream.enter();
        Expr operand = not();
        stream.leave();
        return new Expr.Not(line, operand);
    }

    private Expr compare() {
        int line = stream.line();
        Expr first = sum();
        List<Expr.Comparand> rest = new ArrayList<>();
        while (true) {
            Expr.Relation relation =
                    stream.is(Token.Kind.OPERATOR) ? RELATIONS.get(stream.peek().value()) : null;
            if (relation != null) {
                stream.next();
            } else if (stream.skipName("in")) {
                relation = Expr.Relation.IN;
            } else if (stream.isName("not") && stream.look().is(Token.Kind.NAME, "in")) {
                stream.next();
                stream.next();
                relation = Expr.Relation.NOT_IN;
            } else {
                break;
            }
            rest.add(new Expr.Comparand(relation, sum()));
        }
        return rest.isEmpty() ? first : new Expr.Compare(line, first, rest);
    }

    private Expr.@Nullable Operator operator(Map<String, Expr.Operator> among) {
        return stream.is(Token.Kind.OPERATOR) ? among.get(stream.peek().value()) : null;
    }

    private Expr sum() {
        int line = stream.line();
        Expr left = concat();
        for (Expr.Operator operator = operator(SUMS); operator != null; operator = operator(SUMS)) {
            stream.next();
            left = new Expr.Binary(line, operator, left, concat());
            line = stream.line();
        }
        return left;
    }

    private Expr concat() {
        int line = stream.line();
        List<Expr> parts = new ArrayList<>(List.of(product()));
        while (stream.skipOperator("~")) {
            parts.add(product());
        }
        return parts.size() == 1 ? parts.getFirst() : new Expr.Concat(line, parts);
    }

    private Expr product() {
        int line = stream.line();
        Expr left = power();
        for (Expr.Operator operator = operator(PRODUCTS); operator != null; operator = operator(PRODUCTS)) {
            stream.next();
            left = new Expr.Binary(line, operator, left, power());
            line = stream.line();
        }
        return left;
    }

    private Expr power() {
        int line = stream.line();
        Expr left = operands.unary();
        // groups to the left, unlike Python's: jinja2 puts every operation into parentheses
        while (stream.skipOperator("**")) {
            left = new Expr.Binary(line, Expr.Operator.POW, left, operands.unary());
            line = stream.line();
        }
        return left;
    }
}
