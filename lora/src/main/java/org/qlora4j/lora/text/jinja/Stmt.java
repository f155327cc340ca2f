package org.qlora4j.lora.text.jinja;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** A statement of a template. */
sealed interface Stmt {
    int line();

    record Data(int line, String text) implements Stmt {}

    record Print(int line, Expr value) implements Stmt {}

    record Assign(int line, Target target, Expr value) implements Stmt {}

    record AssignBlock(int line, Target target, List<Expr.FilterCall> filters, List<Stmt> body) implements Stmt {}

    record For(
            int line,
            Target target,
            Expr iterable,
            @Nullable Expr condition,
            boolean recursive,
            List<Stmt> body,
            List<Stmt> otherwise)
            implements Stmt {}

    record If(int line, List<Branch> branches, List<Stmt> otherwise) implements Stmt {}

    record Branch(Expr test, List<Stmt> body) {}

    record With(int line, List<Target> targets, List<Expr> values, List<Stmt> body) implements Stmt {}

    record MacroDefinition(int line, Signature signature, List<Stmt> body) implements Stmt {}

    record CallBlock(int line, Expr.Call call, Signature signature, List<Stmt> body) implements Stmt {}

    record FilterBlock(int line, List<Expr.FilterCall> filters, List<Stmt> body) implements Stmt {}

    /** A named block; without inheritance it is a scope that sees the template's own variables only. */
    record Block(int line, boolean scoped, List<Stmt> body) implements Stmt {}

    /** transformers' {@code {% generation %}}: what the assistant writes. */
    record Generation(int line, List<Stmt> body) implements Stmt {}

    record Break(int line) implements Stmt {}

    record Continue(int line) implements Stmt {}

    /**
     * What a macro takes.
     *
     * @param name of the macro, empty for the body of a call block
     * @param defaults of the last parameters
     */
    record Signature(
            String name,
            List<String> parameters,
            List<Expr> defaults,
            boolean usesCaller,
            boolean usesVarargs,
            boolean usesKwargs) {}

    /** What can be assigned to. */
    sealed interface Target {
        record Variable(String name) implements Target {}

        record Member(String namespace, String attribute) implements Target {}

        record Several(List<Target> targets) implements Target {}
    }
}
