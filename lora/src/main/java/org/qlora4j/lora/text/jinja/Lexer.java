package org.qlora4j.lora.text.jinja;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Cuts a template into tokens as jinja2 does with trim_blocks and lstrip_blocks on: one line break after a tag is
 * dropped, and so is space between the start of a line and a tag; {@code -} drops all space on its side, {@code +}
 * keeps it.
 */
final class Lexer {
    private static final Pattern OPENING =
            Pattern.compile("\\{%[-+]?\\s*raw\\s*-?%}|\\{[{%#][-+]?", Pattern.UNICODE_CHARACTER_CLASS);
    private static final Pattern RAW_END =
            Pattern.compile("\\{%[-+]?\\s*endraw\\s*[-+]?%}", Pattern.UNICODE_CHARACTER_CLASS);
    private static final Pattern COMMENT_END = Pattern.compile("[-+]?#}");
    private static final Pattern NAME = Pattern.compile("[\\w\\d]+", Pattern.UNICODE_CHARACTER_CLASS);
    private static final Pattern OPERATOR = Pattern.compile("//|\\*\\*|==|!=|>=|<=|[-+/*%~\\[\\](){}><=.:|,;]");

    private final String source;
    private final List<Token> tokens = new ArrayList<>();
    private final Deque<Character> brackets = new ArrayDeque<>();
    private int at;
    private int line = 1;
    private boolean lineStarting = true;

    private Lexer(String source) {
        this.source = source;
    }

    static List<Token> tokens(String source) {
        String text = source.replace("\r\n", "\n").replace('\r', '\n');
        if (text.endsWith("\n")) {
            text = text.substring(0, text.length() - 1);
        }
        return new Lexer(text).run();
    }

    private List<Token> run() {
        Matcher opening = OPENING.matcher(source);
        while (at < source.length()) {
            if (!opening.find(at)) {
                data(at, source.length());
                advance(source.length());
                break;
            }
            String tag = opening.group();
            char strip = tag.length() > 2 ? tag.charAt(2) : '\0';
            text(opening.start(), strip, tag.startsWith("{{"));
            advance(opening.end());
            if (tag.startsWith("{#")) {
                comment();
            } else if (tag.endsWith("%}")) {
                raw(tag);
            } else {
                expression(tag);
            }
        }
        tokens.add(new Token(Token.Kind.END, "", line));
        return tokens;
    }

    private void advance(int to) {
        lineStarting = to > at && source.charAt(to - 1) == '\n';
        for (int i = at; i < to; i++) {
            line += source.charAt(i) == '\n' ? 1 : 0;
        }
        at = to;
    }

    private void data(int from, int to) {
        if (to > from) {
            tokens.add(new Token(Token.Kind.DATA, source.substring(from, to), line));
        }
    }

    /** The text before a tag, stripped as the tag's sign says. */
    private void text(int end, char strip, boolean print) {
        int kept = end;
        if (strip == '-') {
            while (kept > at && Characters.isSpace(source.charAt(kept - 1))) {
                kept--;
            }
        } else if (strip != '+' && !print) {
            int lineStart = end;
            while (lineStart > at && source.charAt(lineStart - 1) != '\n') {
                lineStart--;
            }
            boolean fromLineStart = lineStart > at || lineStarting;
            if (fromLineStart && source.substring(lineStart, end).codePoints().allMatch(Characters::isSpace)) {
                kept = lineStart;
            }
        }
        data(at, kept);
        advance(end);
    }

    /** Moves behind a tag's end and the space that goes with it. */
    private void close(int end, boolean minus, boolean trim) {
        int to = end;
        if (minus) {
            while (to < source.length() && Characters.isSpace(source.charAt(to))) {
                to++;
            }
        } else if (trim && to < source.length() && source.charAt(to) == '\n') {
            to++;
        }
        advance(to);
    }

    private void comment() {
        Matcher end = COMMENT_END.matcher(source);
        if (!end.find(at)) {
            throw fail("Missing end of comment tag");
        }
        char sign = end.group().charAt(0);
        close(end.end(), sign == '-', sign != '+');
    }

    private void raw(String tag) {
        close(at, tag.endsWith("-%}"), false);
        Matcher end = RAW_END.matcher(source);
        if (!end.find(at)) {
            throw fail("Missing end of raw directive");
        }
        text(end.start(), end.group().charAt(2), false);
        char sign = end.group().charAt(end.group().length() - 3);
        close(end.end(), sign == '-', sign != '+');
    }

    private void expression(String tag) {
        boolean print = tag.startsWith("{{");
        tokens.add(new Token(print ? Token.Kind.PRINT_BEGIN : Token.Kind.TAG_BEGIN, tag.substring(0, 2), line));
        String end = print ? "}}" : "%}";
        while (true) {
            if (at >= source.length()) {
                tokens.add(new Token(Token.Kind.END, "", line));
                return;
            }
            if (brackets.isEmpty()) {
                boolean signed = source.startsWith("-" + end, at) || !print && source.startsWith("+" + end, at);
                if (signed || source.startsWith(end, at)) {
                    tokens.add(new Token(print ? Token.Kind.PRINT_END : Token.Kind.TAG_END, end, line));
                    boolean minus = signed && source.charAt(at) == '-';
                    close(at + (signed ? 3 : 2), minus, !print && !signed);
                    return;
                }
            }
            if (Characters.isSpace(source.charAt(at))) {
                advance(at + 1);
            } else {
                token();
            }
        }
    }

    private void token() {
        char c = source.charAt(at);
        if (c == '\'' || c == '"') {
            string(c);
            return;
        }
        if (c >= '0' && c <= '9') {
            number();
            return;
        }
        if (match(NAME, Token.Kind.NAME)) {
            if (!Casing.isIdentifier(tokens.getLast().value())) {
                throw fail("Invalid character in identifier");
            }
            return;
        }
        if (!match(OPERATOR, Token.Kind.OPERATOR)) {
            throw fail("unexpected char '" + Character.toString(source.codePointAt(at)) + "' at " + at);
        }
        balance(tokens.getLast().value().charAt(0));
    }

    private void number() {
        boolean afterDot = at > 0 && source.charAt(at - 1) == '.';
        int end = afterDot ? at : NumberScanner.endOfFloat(source, at);
        Token.Kind kind = end > at ? Token.Kind.FLOAT : Token.Kind.INTEGER;
        end = end > at ? end : NumberScanner.endOfInteger(source, at);
        tokens.add(new Token(kind, source.substring(at, end), line));
        advance(end);
    }

    private boolean match(Pattern pattern, Token.Kind kind) {
        Matcher matcher = pattern.matcher(source).region(at, source.length());
        if (!matcher.lookingAt()) {
            return false;
        }
        tokens.add(new Token(kind, matcher.group(), line));
        advance(matcher.end());
        return true;
    }

    private void balance(char c) {
        switch (c) {
            case '{' -> brackets.push('}');
            case '(' -> brackets.push(')');
            case '[' -> brackets.push(']');
            case '}', ')', ']' -> {
                if (brackets.isEmpty() || brackets.pop() != c) {
                    throw fail("unexpected '" + c + "'");
                }
            }
            default -> {}
        }
    }

    private void string(char quote) {
        int end = at + 1;
        while (end < source.length() && source.charAt(end) != quote) {
            end += source.charAt(end) == '\\' ? 2 : 1;
        }
        if (end >= source.length()) {
            throw fail("unexpected char '" + quote + "' at " + at);
        }
        tokens.add(new Token(Token.Kind.STRING, Escapes.decode(source.substring(at + 1, end), line), line));
        advance(end + 1);
    }

    private TemplateException fail(String reason) {
        return new TemplateException("TemplateSyntaxError", reason, line, null);
    }
}
