package org.qlora4j.lora.text;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * The part of Jinja that simple chat templates need: for, if, elif, else, set; strings, integers, true, false, none;
 * {@code + == != and or not in}, attributes and items, {@code loop.first/last/index0}, {@code trim}, {@code is
 * defined}. Everything else is refused when the template is compiled. Blocks are trimmed as transformers does
 * ({@code trim_blocks}, {@code lstrip_blocks}). It can only build text: nothing is called, and loops go over given
 * lists.
 */
final class SmallJinja {
    private static final Pattern TAG = Pattern.compile("\\{\\{-?(.*?)-?}}|\\{%-?(.*?)-?%}|\\{#.*?#}", Pattern.DOTALL);
    private static final Pattern TOKEN = Pattern.compile(
            "\\s*(?:('(?:[^'\\\\]|\\\\.)*'|\"(?:[^\"\\\\]|\\\\.)*\")|(\\d+)|([A-Za-z_]\\w*)|(==|!=|[+.()\\[\\]|=,]))",
            Pattern.DOTALL);
    private static final Pattern FOR = Pattern.compile("for\\s+([A-Za-z_]\\w*)\\s+in\\s+(.+)", Pattern.DOTALL);
    private static final Pattern SET = Pattern.compile("set\\s+([A-Za-z_]\\w*)\\s*=\\s*(.+)", Pattern.DOTALL);

    /** Part of a template. */
    private interface Node {
        void render(Map<String, Object> scope, StringBuilder out);
    }

    /** An expression; null is an undefined value. */
    private interface Expression {
        @Nullable
        Object value(Map<String, Object> scope);
    }

    /** A piece of the source: text, or the inside of a tag. */
    private record Piece(char kind, String text, int line) {}

    private final List<Node> nodes;

    private SmallJinja(List<Node> nodes) {
        this.nodes = nodes;
    }

    static SmallJinja compile(String source) {
        Parser parser = new Parser(split(source));
        List<Node> nodes = parser.block();
        if (parser.at < parser.pieces.size()) {
            throw parser.wrong("'" + parser.pieces.get(parser.at).text.strip() + "' closes nothing");
        }
        return new SmallJinja(nodes);
    }

    String render(Map<String, Object> context) {
        StringBuilder out = new StringBuilder();
        Map<String, Object> scope = new HashMap<>(context);
        nodes.forEach(n -> n.render(scope, out));
        return out.toString();
    }

    private static List<Piece> split(String source) {
        List<Piece> pieces = new ArrayList<>();
        String text = source.endsWith("\n") ? source.substring(0, source.length() - 1) : source;
        Matcher m = TAG.matcher(text);
        int at = 0;
        while (m.find(Math.min(at, text.length()))) {
            String before = text.substring(at, m.start());
            boolean expression = m.group(1) != null;
            if (m.group().startsWith("-", 2)) {
                before = before.stripTrailing();
            } else if (!expression) {
                before = withoutIndent(before, pieces.isEmpty());
            }
            add(pieces, 'T', before, line(text, at));
            int next = m.end();
            if (expression) {
                add(pieces, 'E', m.group(1), line(text, m.start()));
            } else if (m.group(2) != null) {
                add(pieces, 'B', m.group(2), line(text, m.start()));
            }
            if (m.group().startsWith("-", m.group().length() - 3)) {
                while (next < text.length() && Character.isWhitespace(text.charAt(next))) {
                    next++;
                }
            } else if (!expression && next < text.length() && text.charAt(next) == '\n') {
                next++;
            }
            at = next;
        }
        add(pieces, 'T', text.substring(Math.min(at, text.length())), line(text, at));
        return pieces;
    }

    /** lstrip_blocks: blanks between the start of a line and a block tag. */
    private static String withoutIndent(String before, boolean first) {
        int end = before.length();
        while (end > 0 && (before.charAt(end - 1) == ' ' || before.charAt(end - 1) == '\t')) {
            end--;
        }
        return end == 0 ? (first ? "" : before) : before.charAt(end - 1) == '\n' ? before.substring(0, end) : before;
    }

    private static int line(String text, int at) {
        return 1
                + (int) text.substring(0, Math.min(at, text.length()))
                        .chars()
                        .filter(c -> c == '\n')
                        .count();
    }

    private static void add(List<Piece> pieces, char kind, String text, int line) {
        if (!text.isEmpty()) {
            pieces.add(new Piece(kind, text, line));
        }
    }

    private static boolean truth(@Nullable Object v) {
        return switch (v) {
            case null -> false;
            case Boolean b -> b;
            case String s -> !s.isEmpty();
            case Long n -> n != 0;
            case List<?> l -> !l.isEmpty();
            default -> true;
        };
    }

    private static String text(@Nullable Object v) {
        return switch (v) {
            case null -> "";
            case Boolean b -> b ? "True" : "False";
            default -> v.toString();
        };
    }

    /** Recursive descent over the pieces. */
    private static final class Parser {
        private final List<Piece> pieces;
        private int at;
        private int depth;

        Parser(List<Piece> pieces) {
            this.pieces = pieces;
        }

        IllegalArgumentException wrong(String what) {
            int line = pieces.isEmpty() ? 1 : pieces.get(Math.min(at, pieces.size() - 1)).line;
            return new IllegalArgumentException("the chat template cannot be used: line " + line + ": " + what);
        }

        List<Node> block() {
            if (++depth > 50) {
                throw wrong("blocks are nested too deeply");
            }
            List<Node> nodes = new ArrayList<>();
            for (; at < pieces.size(); at++) {
                Piece p = pieces.get(at);
                String inside = p.text.strip();
                if (p.kind == 'T') {
                    nodes.add((scope, out) -> out.append(p.text));
                } else if (p.kind == 'E') {
                    Expression e = expression(inside);
                    nodes.add((scope, out) -> out.append(text(e.value(scope))));
                } else if (inside.startsWith("for ")) {
                    nodes.add(loop(inside));
                } else if (inside.startsWith("if ")) {
                    nodes.add(condition(inside.substring(3)));
                } else if (inside.startsWith("set ")) {
                    Matcher m = SET.matcher(inside);
                    if (!m.matches()) {
                        throw wrong("'" + inside + "' is not supported");
                    }
                    Expression e = expression(m.group(2));
                    String name = m.group(1);
                    nodes.add((scope, out) -> put(scope, name, e.value(scope)));
                } else if (inside.equals("endfor")
                        || inside.equals("endif")
                        || inside.equals("else")
                        || inside.startsWith("elif ")) {
                    break;
                } else {
                    throw wrong("'" + inside + "' is not supported; supported: for, if, set");
                }
            }
            depth--;
            return nodes;
        }

        private static void put(Map<String, Object> scope, String name, @Nullable Object value) {
            if (value == null) {
                scope.remove(name);
            } else {
                scope.put(name, value);
            }
        }

        private String closing() {
            return at < pieces.size() ? pieces.get(at).text.strip() : "the end of the template";
        }

        private Node loop(String inside) {
            Matcher m = FOR.matcher(inside);
            if (!m.matches()) {
                throw wrong("'" + inside + "' is not supported");
            }
            String name = m.group(1);
            Expression list = expression(m.group(2));
            at++;
            List<Node> body = block();
            if (!closing().equals("endfor")) {
                throw wrong("expected endfor, found " + closing());
            }
            return (scope, out) -> {
                if (!(list.value(scope) instanceof List<?> values)) {
                    throw new IllegalArgumentException(
                            "the chat template loops over something that is no list: " + inside);
                }
                for (int i = 0; i < values.size(); i++) {
                    Map<String, Object> inner = new HashMap<>(scope);
                    put(inner, name, values.get(i));
                    inner.put(
                            "loop",
                            Map.of(
                                    "first",
                                    i == 0,
                                    "last",
                                    i == values.size() - 1,
                                    "index0",
                                    (long) i,
                                    "index",
                                    i + 1L));
                    body.forEach(n -> n.render(inner, out));
                }
            };
        }

        private Node condition(String test) {
            Expression e = expression(test);
            at++;
            List<Node> then = block();
            String next = closing();
            List<Node> otherwise = List.of();
            if (next.startsWith("elif ")) {
                otherwise = List.of(condition(next.substring(5)));
            } else if (next.equals("else")) {
                at++;
                otherwise = block();
                next = closing();
            }
            if (!next.startsWith("elif ") && !next.equals("endif")) {
                throw wrong("expected endif, found " + next);
            }
            List<Node> last = otherwise;
            return (scope, out) -> (truth(e.value(scope)) ? then : last).forEach(n -> n.render(scope, out));
        }

        private Expression expression(String source) {
            List<String> tokens = new ArrayList<>();
            Matcher m = TOKEN.matcher(source);
            int end = 0;
            String trimmed = source.stripTrailing();
            while (end < trimmed.length()) {
                if (!m.find(end) || m.start() != end) {
                    throw wrong("'" + trimmed.substring(end).strip() + "' is not supported");
                }
                tokens.add(m.group().strip());
                end = m.end();
            }
            Terms terms = new Terms(tokens, this);
            Expression e = terms.or();
            if (terms.at < tokens.size()) {
                throw wrong("'" + tokens.get(terms.at) + "' in '" + source + "' is not supported");
            }
            return e;
        }
    }

    /** Precedence: or, and, not, comparison, +, items and filters. */
    private static final class Terms {
        private final List<String> tokens;
        private final Parser parser;
        private int at;
        private int depth;

        Terms(List<String> tokens, Parser parser) {
            this.tokens = tokens;
            this.parser = parser;
        }

        private boolean take(String token) {
            if (at < tokens.size() && tokens.get(at).equals(token)) {
                at++;
                return true;
            }
            return false;
        }

        private void expect(String token) {
            if (!take(token)) {
                throw parser.wrong("expected '" + token + "'");
            }
        }

        Expression or() {
            Expression left = and();
            while (take("or")) {
                Expression a = left;
                Expression b = and();
                left = scope -> {
                    Object v = a.value(scope);
                    return truth(v) ? v : b.value(scope);
                };
            }
            return left;
        }

        private Expression and() {
            Expression left = not();
            while (take("and")) {
                Expression a = left;
                Expression b = not();
                left = scope -> {
                    Object v = a.value(scope);
                    return truth(v) ? b.value(scope) : v;
                };
            }
            return left;
        }

        private Expression not() {
            if (take("not")) {
                Expression e = not();
                return scope -> !truth(e.value(scope));
            }
            return comparison();
        }

        private Expression comparison() {
            Expression a = sum();
            if (take("==")) {
                Expression b = sum();
                return scope -> java.util.Objects.equals(a.value(scope), b.value(scope));
            }
            if (take("!=")) {
                Expression b = sum();
                return scope -> !java.util.Objects.equals(a.value(scope), b.value(scope));
            }
            if (take("in")) {
                Expression b = sum();
                return scope -> switch (b.value(scope)) {
                    case String s -> s.contains(text(a.value(scope)));
                    case List<?> l -> l.contains(a.value(scope));
                    case Map<?, ?> m -> m.containsKey(a.value(scope));
                    case null, default -> false;
                };
            }
            if (take("is")) {
                boolean negated = take("not");
                expect("defined");
                return scope -> (a.value(scope) != null) != negated;
            }
            return a;
        }

        private Expression sum() {
            Expression left = item();
            while (take("+")) {
                Expression a = left;
                Expression b = item();
                left = scope -> text(a.value(scope)) + text(b.value(scope));
            }
            return left;
        }

        private Expression item() {
            Expression e = atom();
            while (at < tokens.size()) {
                Expression base = e;
                if (take("[")) {
                    Expression key = or();
                    expect("]");
                    e = scope -> get(base.value(scope), key.value(scope));
                } else if (take(".")) {
                    String name = name();
                    if (take("(")) {
                        expect(")");
                        if (!name.equals("strip")) {
                            throw parser.wrong("the method '" + name + "' is not supported");
                        }
                        e = scope -> text(base.value(scope)).strip();
                    } else {
                        e = scope -> get(base.value(scope), name);
                    }
                } else if (take("|")) {
                    String filter = name();
                    if (!filter.equals("trim")) {
                        throw parser.wrong("the filter '" + filter + "' is not supported");
                    }
                    e = scope -> text(base.value(scope)).strip();
                } else {
                    break;
                }
            }
            return e;
        }

        private String name() {
            if (at >= tokens.size()) {
                throw parser.wrong("an expression ends too early");
            }
            return tokens.get(at++);
        }

        private static @Nullable Object get(@Nullable Object base, @Nullable Object key) {
            return switch (base) {
                case Map<?, ?> m -> m.get(key);
                case List<?> l
                when key instanceof Long i && i >= -l.size() && i < l.size() -> l.get((int) (i < 0 ? l.size() + i : i));
                case null, default -> null;
            };
        }

        private Expression atom() {
            if (++depth > 100) {
                throw parser.wrong("an expression is nested too deeply");
            }
            String t = name();
            if (t.equals("(")) {
                Expression e = or();
                expect(")");
                return e;
            }
            if (t.startsWith("'") || t.startsWith("\"")) {
                String s = t.substring(1, t.length() - 1)
                        .replace("\\n", "\n")
                        .replace("\\t", "\t")
                        .replace("\\'", "'")
                        .replace("\\\"", "\"")
                        .replace("\\\\", "\\");
                return scope -> s;
            }
            if (Character.isDigit(t.charAt(0))) {
                if (t.length() > 9) {
                    throw parser.wrong("the number " + t + " is too large");
                }
                Long n = Long.valueOf(t);
                return scope -> n;
            }
            return switch (t) {
                case "true", "True" -> scope -> true;
                case "false", "False" -> scope -> false;
                case "none", "None" -> scope -> null;
                default -> {
                    if (!Character.isLetter(t.charAt(0)) && t.charAt(0) != '_') {
                        throw parser.wrong("'" + t + "' is not supported here");
                    }
                    yield scope -> scope.get(t);
                }
            };
        }
    }
}
