package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** Jinja's statements. */
final class StatementParser {
    private static final Set<String> CONSTANTS = Set.of("true", "false", "none", "True", "False", "None");
    private static final Set<String> UNSUPPORTED = Set.of("include", "import", "from", "extends", "autoescape");

    private final TokenStream stream;
    private final ExpressionParser expressions;
    /** Loops around the place where the parser is, within the innermost macro: break may leave these. */
    private int loops;

    private boolean marksGeneration;

    private StatementParser(TokenStream stream) {
        this.stream = stream;
        this.expressions = new ExpressionParser(stream);
    }

    /** A parsed template. */
    record Result(List<Stmt> statements, boolean marksGeneration) {}

    static Result parse(String source) {
        StatementParser parser = new StatementParser(new TokenStream(Lexer.tokens(source)));
        List<Stmt> statements = parser.statements();
        if (!parser.stream.is(Token.Kind.END)) {
            throw parser.stream.fail("unexpected " + parser.stream.peek().describe());
        }
        return new Result(statements, parser.marksGeneration);
    }

    /**
     * Statements up to a tag in {@code ends}, whose name is then the next token; or up to the end of the template if
     * there are none.
     */
    private List<Stmt> statements(String... ends) {
        stream.enter();
        List<Stmt> statements = new ArrayList<>();
        while (!stream.is(Token.Kind.END)) {
            Token token = stream.next();
            switch (token.kind()) {
                case DATA -> statements.add(new Stmt.Data(token.line(), token.value()));
                case PRINT_BEGIN -> {
                    statements.add(new Stmt.Print(token.line(), expressions.tuple(true, false, null)));
                    stream.expect(Token.Kind.PRINT_END, "'}}'");
                }
                default -> {
                    for (String end : ends) {
                        if (stream.isName(end)) {
                            stream.leave();
                            return statements;
                        }
                    }
                    statements.addAll(statement());
                    stream.expect(Token.Kind.TAG_END, "'%}'");
                }
            }
        }
        if (ends.length > 0) {
            throw stream.fail("Unexpected end of template. Jinja was looking for the following tags: "
                    + String.join(" or ", ends));
        }
        stream.leave();
        return statements;
    }

    /** The body of a tag, up to and with the name of its end tag. */
    private List<Stmt> body(String end) {
        List<Stmt> body = openBody(end);
        stream.next();
        return body;
    }

    private List<Stmt> openBody(String... ends) {
        stream.skipOperator(":");
        stream.expect(Token.Kind.TAG_END, "'%}'");
        return statements(ends);
    }

    /** The body of something that becomes a function in jinja2, which break cannot leave. */
    private List<Stmt> separateBody(String end) {
        int outer = loops;
        loops = 0;
        List<Stmt> body = body(end);
        loops = outer;
        return body;
    }

    private List<Stmt> statement() {
        int line = stream.line();
        String tag = stream.expect(Token.Kind.NAME, "a tag name").value();
        if (UNSUPPORTED.contains(tag)) {
            throw stream.fail("the tag '" + tag + "' is not supported in chat templates, which stand alone");
        }
        return switch (tag) {
            case "set" -> List.of(set(line));
            case "for" -> List.of(loop(line));
            case "if" -> List.of(condition(line));
            case "with" -> List.of(with(line));
            case "macro" -> List.of(macro(line));
            case "call" -> List.of(callBlock(line));
            case "filter" ->
                List.of(new Stmt.FilterBlock(line, expressions.operands().filterChain(true), body("endfilter")));
            case "generation" -> {
                marksGeneration = true;
                yield List.of(new Stmt.Generation(line, separateBody("endgeneration")));
            }
            case "block" -> List.of(block(line));
            case "print" -> prints(line);
            case "break", "continue" -> {
                if (loops == 0) {
                    throw stream.fail("'" + tag + "' outside of a loop");
                }
                yield List.of(tag.equals("break") ? new Stmt.Break(line) : new Stmt.Continue(line));
            }
            default -> throw stream.fail("Encountered unknown tag '" + tag + "'.");
        };
    }

    private Stmt set(int line) {
        Stmt.Target target = target(true, null);
        if (stream.skipOperator("=")) {
            return new Stmt.Assign(line, target, expressions.tuple(true, false, null));
        }
        List<Expr.FilterCall> filters = expressions.operands().filterChain(false);
        return new Stmt.AssignBlock(line, target, filters, body("endset"));
    }

    private Stmt loop(int line) {
        Stmt.Target target = target(false, "in");
        stream.expectName("in");
        Expr iterable = expressions.tuple(false, false, "recursive");
        Expr condition = stream.skipName("if") ? expressions.parse() : null;
        boolean recursive = stream.skipName("recursive");
        loops++;
        List<Stmt> body = openBody("endfor", "else");
        loops--;
        List<Stmt> otherwise = stream.next().value().equals("else") ? body("endfor") : List.of();
        return new Stmt.For(line, target, iterable, condition, recursive, body, otherwise);
    }

    private Stmt condition(int line) {
        List<Stmt.Branch> branches = new ArrayList<>();
        while (true) {
            Expr test = expressions.tuple(false, false, null);
            branches.add(new Stmt.Branch(test, openBody("elif", "else", "endif")));
            String end = stream.next().value();
            if (!end.equals("elif")) {
                return new Stmt.If(line, branches, end.equals("else") ? body("endif") : List.of());
            }
        }
    }

    private Stmt with(int line) {
        List<Stmt.Target> targets = new ArrayList<>();
        List<Expr> values = new ArrayList<>();
        while (!stream.is(Token.Kind.TAG_END)) {
            if (!targets.isEmpty()) {
                stream.expectOperator(",");
            }
            targets.add(target(false, null));
            stream.expectOperator("=");
            values.add(expressions.parse());
        }
        return new Stmt.With(line, targets, values, body("endwith"));
    }

    private Stmt block(int line) {
        String name = stream.expectName();
        boolean scoped = stream.skipName("scoped");
        stream.skipName("required");
        Stmt block = new Stmt.Block(line, scoped, separateBody("endblock"));
        stream.skipName(name);
        return block;
    }

    private List<Stmt> prints(int line) {
        List<Stmt> prints = new ArrayList<>();
        while (!stream.is(Token.Kind.TAG_END)) {
            if (!prints.isEmpty()) {
                stream.expectOperator(",");
            }
            prints.add(new Stmt.Print(line, expressions.parse()));
        }
        return prints;
    }

    private Stmt macro(int line) {
        String name = stream.expectName();
        Set<String> names = new HashSet<>();
        Set<String> outer = expressions.operands().collectNames(names);
        List<String> parameters = new ArrayList<>();
        List<Expr> defaults = new ArrayList<>();
        parameters(parameters, defaults);
        List<Stmt> body = separateBody("endmacro");
        expressions.operands().collectNames(outer);
        outer.addAll(names);
        return new Stmt.MacroDefinition(line, signature(name, parameters, defaults, names), body);
    }

    private Stmt callBlock(int line) {
        Set<String> names = new HashSet<>();
        List<String> parameters = new ArrayList<>();
        List<Expr> defaults = new ArrayList<>();
        if (stream.isOperator("(")) {
            parameters(parameters, defaults);
        }
        if (!(expressions.parse() instanceof Expr.Call call)) {
            throw stream.fail("expected call");
        }
        Set<String> outer = expressions.operands().collectNames(names);
        List<Stmt> body = separateBody("endcall");
        expressions.operands().collectNames(outer);
        outer.addAll(names);
        return new Stmt.CallBlock(line, call, signature("", parameters, defaults, names), body);
    }

    private static Stmt.Signature signature(
            String name, List<String> parameters, List<Expr> defaults, Set<String> names) {
        return new Stmt.Signature(
                name,
                parameters,
                defaults,
                names.contains("caller") && !parameters.contains("caller"),
                names.contains("varargs") && !parameters.contains("varargs"),
                names.contains("kwargs") && !parameters.contains("kwargs"));
    }

    private void parameters(List<String> parameters, List<Expr> defaults) {
        stream.expectOperator("(");
        while (!stream.skipOperator(")")) {
            if (!parameters.isEmpty()) {
                stream.expectOperator(",");
            }
            parameters.add(variable());
            if (stream.skipOperator("=")) {
                defaults.add(expressions.parse());
            } else if (!defaults.isEmpty()) {
                throw stream.fail("non-default argument follows default argument");
            }
        }
    }

    private String variable() {
        String name = stream.expectName();
        if (CONSTANTS.contains(name)) {
            throw stream.fail("can't assign to '" + name + "'");
        }
        return name;
    }

    private Stmt.Target target(boolean withNamespace, @Nullable String end) {
        List<Stmt.Target> targets = new ArrayList<>();
        boolean several = false;
        while (true) {
            boolean ended =
                    stream.is(Token.Kind.TAG_END) || stream.isOperator(")") || end != null && stream.isName(end);
            if (ended && several) {
                break;
            }
            targets.add(oneTarget(withNamespace));
            if (!stream.skipOperator(",")) {
                break;
            }
            several = true;
        }
        return several ? new Stmt.Target.Several(targets) : targets.getFirst();
    }

    private Stmt.Target oneTarget(boolean withNamespace) {
        if (stream.skipOperator("(")) {
            stream.enter();
            Stmt.Target inner = target(withNamespace, null);
            stream.expectOperator(")");
            stream.leave();
            return inner;
        }
        String name = variable();
        return withNamespace && stream.skipOperator(".")
                ? new Stmt.Target.Member(name, stream.expectName())
                : new Stmt.Target.Variable(name);
    }
}
