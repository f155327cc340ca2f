package org.qlora4j.lora.text.jinja;

import java.util.List;

/** The tokens of a template from the place where the parser is, and how deep it is. */
final class TokenStream {
    /** CPython, which compiles what jinja2 makes, ends at 200 nested parentheses and 100 indentations. */
    private static final int MAX_DEPTH = 150;

    private final List<Token> tokens;
    private int at;
    private int depth;

    TokenStream(List<Token> tokens) {
        this.tokens = tokens;
    }

    Token peek() {
        return tokens.get(at);
    }

    Token look() {
        return tokens.get(Math.min(at + 1, tokens.size() - 1));
    }

    Token next() {
        Token token = tokens.get(at);
        if (at < tokens.size() - 1) {
            at++;
        }
        return token;
    }

    int line() {
        return peek().line();
    }

    boolean is(Token.Kind kind) {
        return peek().kind() == kind;
    }

    boolean isName(String name) {
        return peek().is(Token.Kind.NAME, name);
    }

    boolean isOperator(String operator) {
        return peek().is(Token.Kind.OPERATOR, operator);
    }

    boolean skipName(String name) {
        boolean found = isName(name);
        if (found) {
            next();
        }
        return found;
    }

    boolean skipOperator(String operator) {
        boolean found = isOperator(operator);
        if (found) {
            next();
        }
        return found;
    }

    Token expect(Token.Kind kind, String what) {
        if (!is(kind)) {
            throw fail("expected " + what + ", got " + peek().describe());
        }
        return next();
    }

    String expectName() {
        return expect(Token.Kind.NAME, "a name").value();
    }

    void expectName(String name) {
        if (!skipName(name)) {
            throw fail("expected '" + name + "', got " + peek().describe());
        }
    }

    void expectOperator(String operator) {
        if (!skipOperator(operator)) {
            throw fail("expected '" + operator + "', got " + peek().describe());
        }
    }

    void enter() {
        if (++depth > MAX_DEPTH) {
            throw fail("nested deeper than " + MAX_DEPTH);
        }
    }

    void leave() {
        depth--;
    }

    TemplateException fail(String reason) {
        return new TemplateException("TemplateSyntaxError", reason, line(), null);
    }
}
