package org.qlora4j.lora.text.jinja;

import java.util.Iterator;

/** Carries out one for statement. */
final class Loop {
    private final Renderer renderer;
    private final Session session;
    private final Stmt.For statement;
    private final Scope scope;

    Loop(Renderer renderer, Session session, Stmt.For statement, Scope scope) {
        this.renderer = renderer;
        this.session = session;
        this.statement = statement;
        this.scope = scope;
    }

    Renderer.Flow run(Object iterable, int depth0, TextBuilder out) {
        Iterator<Object> items = renderer.filtered(Types.iterator(iterable), statement, scope);
        int knownLength = statement.condition() == null && !(iterable instanceof LazyValue)
                ? Math.toIntExact(Types.length(iterable))
                : -1;
        LoopContext loop = new LoopContext(session, items, knownLength, depth0, recursion(depth0));
        // jinja2 notes at the end of a round that there was one, so rounds that break or continue leave the else part
        // to run
        boolean completed = false;
        while (loop.advance()) {
            session.at(statement.line());
            Scope inner = scope.inner();
            inner.set("loop", loop);
            renderer.assign(statement.target(), loop.current(), inner);
            int start = out.length();
            Renderer.Flow flow = renderer.run(statement.body(), inner, out);
            if (loop.current() instanceof DictValue object && object.source() != null) {
                out.mark(new Tag.Iteration(object.source()), start, out.length());
            }
            completed |= flow == Renderer.Flow.NORMAL;
            if (flow == Renderer.Flow.BREAK) {
                break;
            }
        }
        return completed ? Renderer.Flow.NORMAL : renderer.run(statement.otherwise(), scope.inner(), out);
    }

    /** What {@code loop(items)} does. */
    private LoopContext.Recursion recursion(int depth0) {
        return iterable -> {
            if (!statement.recursive()) {
                throw PyError.type("The loop must have the 'recursive' marker to be called recursively.");
            }
            session.enter();
            TextBuilder inner = new TextBuilder(session);
            run(iterable, depth0 + 1, inner);
            session.leave();
            return inner.toText();
        };
    }
}
