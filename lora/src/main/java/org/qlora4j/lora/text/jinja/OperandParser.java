package org.qlora4j.lora.text.jinja;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** What operators stand between: literals, names, members, calls, filters and tests. */
final class OperandParser {
    private static final Set<Token.Kind> TEST_ARGUMENTS =
            Set.of(Token.Kind.NAME, Token.Kind.STRING, Token.Kind.INTEGER, Token.Kind.FLOAT);
    /** CPython reads at most this many digits. */
    private static final int MAX_DIGITS = 4300;

    private final TokenStream stream;
    private final ExpressionParser expressions;
    private Set<String> namesRead = new HashSet<>();

    OperandParser(TokenStream stream, ExpressionParser expressions) {
        this.stream = stream;
        this.expressions = expressions;
    }

    /** Starts to collect the names that are read; gives the collection to go back to. */
    Set<String> collectNames(Set<String> names) {
        Set<String> before = namesRead;
        namesRead = names;
        return before;
    }

    /** An operand with its signs, members, calls, filters and tests. */
    Expr unary() {
        return filters(signed());
    }

    private Expr signed() {
        int line = stream.line();
        Expr expr;
        if (stream.isOperator("-") || stream.isOperator("+")) {
            boolean negative = stream.next().value().equals("-");
            stream.enter();
            expr = new Expr.Sign(line, negative, signed());
            stream.leave();
        } else {
            expr = primary();
        }
        return postfix(expr);
    }

    private Expr primary() {
        Token token = stream.next();
        int line = token.line();
        return switch (token.kind()) {
            case NAME -> name(token);
            case STRING -> {
                StringBuilder text = new StringBuilder(token.value());
                while (stream.is(Token.Kind.STRING)) {
                    text.append(stream.next().value());
                }
                yield new Expr.Literal(line, Text.of(text.toString()));
            }
            case INTEGER -> new Expr.Literal(line, integer(token));
            case FLOAT ->
                new Expr.Literal(line, Double.parseDouble(token.value().replace("_", "")));
            case OPERATOR ->
                switch (token.value()) {
                    case "(" -> {
                        stream.enter();
                        Expr inner = expressions.tuple(true, true, null);
                        stream.expectOperator(")");
                        stream.leave();
                        yield inner;
                    }
                    case "[" -> new Expr.ListOf(line, list());
                    case "{" -> dict(line);
                    default -> throw unexpected(token);
                };
            case DATA, PRINT_BEGIN, PRINT_END, TAG_BEGIN, TAG_END, END -> throw unexpected(token);
        };
    }

    private static TemplateException unexpected(Token token) {
        return new TemplateException("TemplateSyntaxError", "unexpected " + token.describe(), token.line(), null);
    }

    private Expr name(Token token) {
        return switch (token.value()) {
            case "true", "True" -> new Expr.Literal(token.line(), true);
            case "false", "False" -> new Expr.Literal(token.line(), false);
            case "none", "None" -> new Expr.Literal(token.line(), None.NONE);
            default -> {
                namesRead.add(token.value());
                yield new Expr.Name(token.line(), token.value());
            }
        };
    }

    private Object integer(Token token) {
        String digits = token.value().replace("_", "").toLowerCase(Locale.ROOT);
        int radix = digits.startsWith("0x") ? 16 : digits.startsWith("0o") ? 8 : digits.startsWith("0b") ? 2 : 10;
        if (digits.length() > MAX_DIGITS) {
            throw stream.fail("an integer of more than " + MAX_DIGITS + " digits");
        }
        return Numbers.norm(new BigInteger(radix == 10 ? digits : digits.substring(2), radix));
    }

    private List<Expr> list() {
        List<Expr> items = new ArrayList<>();
        while (!stream.skipOperator("]")) {
            if (!items.isEmpty()) {
                stream.expectOperator(",");
                if (stream.skipOperator("]")) {
                    break;
                }
            }
            items.add(expressions.parse());
        }
        return items;
    }

    private Expr dict(int line) {
        List<Expr> keys = new ArrayList<>();
        List<Expr> values = new ArrayList<>();
        while (!stream.skipOperator("}")) {
            if (!keys.isEmpty()) {
                stream.expectOperator(",");
                if (stream.skipOperator("}")) {
                    break;
                }
            }
            keys.add(expressions.parse());
            stream.expectOperator(":");
            values.add(expressions.parse());
        }
        return new Expr.DictOf(line, keys, values);
    }

    private Expr postfix(Expr start) {
        Expr expr = start;
        while (true) {
            int line = stream.line();
            if (stream.skipOperator(".")) {
                if (stream.is(Token.Kind.INTEGER)) {
                    expr = new Expr.Item(line, expr, new Expr.Literal(line, integer(stream.next())));
                } else {
                    expr = new Expr.Attribute(line, expr, stream.expectName());
                }
            } else if (stream.skipOperator("[")) {
                expr = subscript(line, expr);
            } else if (stream.isOperator("(")) {
                expr = new Expr.Call(line, expr, callArguments());
            } else {
                return expr;
            }
        }
    }

    private Expr subscript(int line, Expr object) {
        Expr start = stream.isOperator(":") ? null : expressions.parse();
        if (start != null && !stream.isOperator(":")) {
            List<Expr> keys = new ArrayList<>(List.of(start));
            while (stream.skipOperator(",")) {
                keys.add(expressions.parse());
            }
            stream.expectOperator("]");
            return new Expr.Item(line, object, keys.size() == 1 ? start : new Expr.TupleOf(line, keys));
        }
        stream.expectOperator(":");
        Expr stop = stream.isOperator(":") || stream.isOperator("]") ? null : expressions.parse();
        Expr step = stream.skipOperator(":") && !stream.isOperator("]") ? expressions.parse() : null;
        stream.expectOperator("]");
        return new Expr.Slice(line, object, start, stop, step);
    }

    private Expr filters(Expr start) {
        Expr expr = start;
        while (true) {
            int line = stream.line();
            if (stream.skipOperator("|")) {
                expr = new Expr.Filter(line, expr, filterCall());
            } else if (stream.skipName("is")) {
                expr = test(line, expr);
            } else if (stream.isOperator("(")) {
                expr = new Expr.Call(line, expr, callArguments());
            } else {
                return expr;
            }
        }
    }

    private String dottedName() {
        StringBuilder name = new StringBuilder(stream.expectName());
        while (stream.skipOperator(".")) {
            name.append('.').append(stream.expectName());
        }
        return name.toString();
    }

    private Expr.FilterCall filterCall() {
        int line = stream.line();
        String name = dottedName();
        return new Expr.FilterCall(line, name, stream.isOperator("(") ? callArguments() : Expr.Parameters.NONE);
    }

    /** {@code a | b(c)} as in filter blocks and behind the name of a set block. */
    List<Expr.FilterCall> filterChain(boolean startsInline) {
        List<Expr.FilterCall> chain = new ArrayList<>();
        if (startsInline) {
            chain.add(filterCall());
        }
        while (stream.skipOperator("|")) {
            chain.add(filterCall());
        }
        return chain;
    }

    private Expr test(int line, Expr input) {
        boolean negated = stream.skipName("not");
        String name = dottedName();
        Expr.Parameters arguments = Expr.Parameters.NONE;
        if (stream.isOperator("(")) {
            arguments = callArguments();
        } else if (startsTestArgument()) {
            if (stream.isName("is")) {
                throw stream.fail("You cannot chain multiple tests with is");
            }
            stream.enter();
            arguments = new Expr.Parameters(List.of(postfix(primary())), List.of(), null, null);
            stream.leave();
        }
        Expr test = new Expr.Test(line, input, name, arguments);
        return negated ? new Expr.Not(line, test) : test;
    }

    private boolean startsTestArgument() {
        boolean starts =
                TEST_ARGUMENTS.contains(stream.peek().kind()) || stream.isOperator("[") || stream.isOperator("{");
        return starts && !stream.isName("else") && !stream.isName("or") && !stream.isName("and");
    }

    private Expr.Parameters callArguments() {
        stream.expectOperator("(");
        List<Expr> positional = new ArrayList<>();
        List<Expr.Keyword> keywords = new ArrayList<>();
        Expr list = null;
        Expr dict = null;
        boolean first = true;
        while (!stream.skipOperator(")")) {
            if (!first) {
                stream.expectOperator(",");
                if (stream.skipOperator(")")) {
                    break;
                }
            }
            first = false;
            boolean allowed;
            if (stream.skipOperator("*")) {
                allowed = list == null && dict == null;
                list = expressions.parse();
            } else if (stream.skipOperator("**")) {
                allowed = dict == null;
                dict = expressions.parse();
            } else if (stream.is(Token.Kind.NAME) && stream.look().is(Token.Kind.OPERATOR, "=")) {
                allowed = dict == null;
                String name = stream.next().value();
                stream.next();
                allowed &= keywords.stream().noneMatch(keyword -> keyword.name().equals(name));
                keywords.add(new Expr.Keyword(name, expressions.parse()));
            } else {
                allowed = list == null && dict == null && keywords.isEmpty();
                positional.add(expressions.parse());
            }
            if (!allowed) {
                throw stream.fail("invalid syntax for function call expression");
            }
        }
        return new Expr.Parameters(positional, keywords, list, dict);
    }
}
