package org.qlora4j.lora.text.jinja;

import java.util.Iterator;
import java.util.List;

/** Carries out statements. */
final class Renderer {
    /** How a list of statements ended. */
    enum Flow {
        NORMAL,
        BREAK,
        CONTINUE
    }

    private final Session session;
    private final Evaluator evaluator;

    Renderer(Session session) {
        this.session = session;
        this.evaluator = new Evaluator(session);
    }

    Evaluator evaluator() {
        return evaluator;
    }

    Flow run(List<Stmt> statements, Scope scope, TextBuilder out) {
        session.enter();
        Flow flow = Flow.NORMAL;
        for (Stmt statement : statements) {
            session.at(statement.line());
            flow = run(statement, scope, out);
            if (flow != Flow.NORMAL) {
                break;
            }
        }
        session.leave();
        return flow;
    }

    private Flow run(Stmt statement, Scope scope, TextBuilder out) {
        switch (statement) {
            case Stmt.Data data -> out.append(data.text());
            case Stmt.Print print -> out.append(Repr.str(session, evaluator.evaluate(print.value(), scope)));
            case Stmt.Assign assign -> assign(assign.target(), evaluator.evaluate(assign.value(), scope), scope);
            case Stmt.AssignBlock block -> {
                return assignBlock(block, scope);
            }
            case Stmt.For loop -> {
                Object iterable = evaluator.evaluate(loop.iterable(), scope);
                return new Loop(this, session, loop, scope).run(iterable, 0, out);
            }
            case Stmt.If condition -> {
                return condition(condition, scope, out);
            }
            case Stmt.With with -> {
                Scope inner = scope.inner();
                for (int i = 0; i < with.targets().size(); i++) {
                    assign(
                            with.targets().get(i),
                            evaluator.evaluate(with.values().get(i), scope),
                            inner);
                }
                return run(with.body(), inner, out);
            }
            case Stmt.MacroDefinition macro ->
                scope.set(macro.signature().name(), new Macro(this, macro.signature(), macro.body(), scope));
            case Stmt.CallBlock block -> {
                Macro caller = new Macro(this, block.signature(), block.body(), scope);
                Object callee = evaluator.evaluate(block.call().callee(), scope);
                Arguments arguments =
                        evaluator.arguments(block.call().arguments(), scope).withKeyword("caller", caller);
                out.append(Repr.str(session, evaluator.call(callee, arguments, block.line())));
            }
            case Stmt.FilterBlock block -> {
                TextBuilder body = new TextBuilder(session);
                Flow flow = run(block.body(), scope.inner(), body);
                if (flow != Flow.NORMAL) {
                    return flow;
                }
                out.append(Repr.str(session, filtered(body.toText(), block.filters(), scope)));
            }
            case Stmt.Block block ->
                run(block.body(), block.scoped() ? scope.inner() : scope.root().inner(), out);
            case Stmt.Generation generation -> {
                int start = out.length();
                run(generation.body(), scope.inner(), out);
                out.mark(new Tag.Generation(), start, out.length());
            }
            case Stmt.Break ignored -> {
                return Flow.BREAK;
            }
            case Stmt.Continue ignored -> {
                return Flow.CONTINUE;
            }
        }
        return Flow.NORMAL;
    }

    private Flow condition(Stmt.If condition, Scope scope, TextBuilder out) {
        for (Stmt.Branch branch : condition.branches()) {
            if (Types.truth(evaluator.evaluate(branch.test(), scope))) {
                return run(branch.body(), scope, out);
            }
        }
        return run(condition.otherwise(), scope, out);
    }

    private Flow assignBlock(Stmt.AssignBlock block, Scope scope) {
        TextBuilder body = new TextBuilder(session);
        Flow flow = run(block.body(), scope.inner(), body);
        if (flow == Flow.NORMAL) {
            assign(block.target(), filtered(body.toText(), block.filters(), scope), scope);
        }
        return flow;
    }

    private Object filtered(Text text, List<Expr.FilterCall> filters, Scope scope) {
        Object value = text;
        for (Expr.FilterCall filter : filters) {
            value = evaluator.filter(value, filter, scope);
        }
        return value;
    }

    void assign(Stmt.Target target, Object value, Scope scope) {
        switch (target) {
            case Stmt.Target.Variable variable -> scope.set(variable.name(), value);
            case Stmt.Target.Member member -> {
                if (!(scope.get(member.namespace()) instanceof Namespace namespace)) {
                    throw new PyError("TemplateRuntimeError", "cannot assign attribute on non-namespace object");
                }
                namespace.attributes().put(member.attribute(), value);
            }
            case Stmt.Target.Several several -> unpack(several.targets(), value, scope);
        }
    }

    private void unpack(List<Stmt.Target> targets, Object value, Scope scope) {
        if (!Types.isIterable(value)) {
            throw PyError.type("cannot unpack non-iterable " + Types.name(value) + " object");
        }
        Iterator<Object> items = Types.iterator(value);
        int got = 0;
        for (Stmt.Target target : targets) {
            if (!items.hasNext()) {
                throw PyError.value("not enough values to unpack (expected " + targets.size() + ", got " + got + ")");
            }
            assign(target, items.next(), scope);
            got++;
        }
        if (items.hasNext()) {
            throw PyError.value("too many values to unpack (expected " + targets.size() + ")");
        }
    }

    /** The items of {@code items} for which the loop's condition holds, tested when they are asked for. */
    Iterator<Object> filtered(Iterator<Object> items, Stmt.For loop, Scope scope) {
        Expr condition = loop.condition();
        if (condition == null) {
            return items;
        }
        return new Lookahead(items, item -> {
            Scope inner = scope.inner();
            assign(loop.target(), item, inner);
            return Types.truth(evaluator.evaluate(condition, inner));
        });
    }
}
