package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Computes expressions. */
final class Evaluator {
    private final Session session;

    Evaluator(Session session) {
        this.session = session;
    }

    Object evaluate(Expr expr, Scope scope) {
        session.at(expr.line());
        session.enter();
        Object value = switch (expr) {
            case Expr.Literal literal -> literal.value();
            case Expr.Name name -> scope.get(name.name());
            case Expr.ListOf list -> new ListValue(all(list.items(), scope));
            case Expr.TupleOf tuple -> new TupleValue(all(tuple.items(), scope));
            case Expr.DictOf dict -> dict(dict, scope);
            case Expr.Not not -> !Types.truth(evaluate(not.operand(), scope));
            case Expr.Sign sign -> {
                Object operand = evaluate(sign.operand(), scope);
                yield sign.negative() ? Arithmetic.negate(operand) : Arithmetic.plus(operand);
            }
            case Expr.Binary binary -> {
                Object left = evaluate(binary.left(), scope);
                Object right = evaluate(binary.right(), scope);
                session.at(binary.line());
                yield Arithmetic.binary(session, binary.operator(), left, right);
            }
            case Expr.Logic logic -> {
                Object left = evaluate(logic.left(), scope);
                yield Types.truth(left) == logic.and() ? evaluate(logic.right(), scope) : left;
            }
            case Expr.Compare compare -> compare(compare, scope);
            case Expr.Concat concat -> {
                TextBuilder joined = new TextBuilder(session);
                for (Object part : all(concat.parts(), scope)) {
                    joined.append(Repr.str(session, part));
                }
                yield joined.toText();
            }
            case Expr.Conditional conditional -> conditional(conditional, scope);
            case Expr.Attribute attribute -> Members.attribute(evaluate(attribute.object(), scope), attribute.name());
            case Expr.Item item -> Members.item(session, evaluate(item.object(), scope), evaluate(item.key(), scope));
            case Expr.Slice slice ->
                session.made(Members.slice(
                        session,
                        evaluate(slice.object(), scope),
                        bound(slice.start(), scope),
                        bound(slice.stop(), scope),
                        bound(slice.step(), scope)));
            case Expr.Call call ->
                call(evaluate(call.callee(), scope), arguments(call.arguments(), scope), call.line());
            case Expr.Filter filter -> filter(evaluate(filter.input(), scope), filter.filter(), scope);
            case Expr.Test test -> {
                Object input = evaluate(test.input(), scope);
                Arguments arguments = arguments(test.arguments(), scope);
                session.at(test.line());
                yield Tests.test(session, test.name(), input, arguments);
            }
        };
        session.leave();
        return value;
    }

    private List<Object> all(List<Expr> exprs, Scope scope) {
        List<Object> values = new ArrayList<>(exprs.size());
        for (Expr expr : exprs) {
            values.add(evaluate(expr, scope));
        }
        session.list(values.size());
        return values;
    }

    private DictValue dict(Expr.DictOf dict, Scope scope) {
        DictValue value = new DictValue();
        for (int i = 0; i < dict.keys().size(); i++) {
            value.put(
                    evaluate(dict.keys().get(i), scope), evaluate(dict.values().get(i), scope));
        }
        session.list(value.size());
        return value;
    }

    private boolean compare(Expr.Compare compare, Scope scope) {
        Object left = evaluate(compare.first(), scope);
        for (Expr.Comparand comparand : compare.rest()) {
            Object right = evaluate(comparand.operand(), scope);
            session.at(compare.line());
            if (!Comparison.test(session, comparand.relation(), left, right)) {
                return false;
            }
            left = right;
        }
        return true;
    }

    private Object conditional(Expr.Conditional conditional, Scope scope) {
        if (Types.truth(evaluate(conditional.test(), scope))) {
            return evaluate(conditional.then(), scope);
        }
        Expr otherwise = conditional.otherwise();
        return otherwise == null
                ? Undefined.because("the inline if-expression on line " + conditional.line()
                        + " evaluated to false and no else section was defined.")
                : evaluate(otherwise, scope);
    }

    private Object bound(@Nullable Expr expr, Scope scope) {
        return expr == null ? None.NONE : evaluate(expr, scope);
    }

    Arguments arguments(Expr.Parameters parameters, Scope scope) {
        List<Object> positional = all(parameters.positional(), scope);
        Map<String, Object> keywords = new LinkedHashMap<>();
        for (Expr.Keyword keyword : parameters.keywords()) {
            keywords.put(keyword.name(), evaluate(keyword.value(), scope));
        }
        if (parameters.list() != null) {
            positional.addAll(Types.list(session, evaluate(parameters.list(), scope)));
        }
        if (parameters.dict() != null) {
            Object more = evaluate(parameters.dict(), scope);
            if (!(more instanceof DictValue dict)) {
                throw PyError.type("argument after ** must be a mapping, not " + Types.name(more));
            }
            for (Map.Entry<Object, Object> entry : dict.entries()) {
                if (!(entry.getKey() instanceof Text name)) {
                    throw PyError.type("keywords must be strings");
                }
                if (keywords.put(name.value(), entry.getValue()) != null) {
                    throw PyError.type("got multiple values for keyword argument '" + name.value() + "'");
                }
            }
        }
        return new Arguments(positional, keywords);
    }

    Object call(Object callee, Arguments arguments, int line) {
        session.at(line);
        return switch (callee) {
            case Callable callable -> session.made(callable.call(session, arguments));
            case Undefined undefined -> throw undefined.error();
            default -> throw PyError.type("'" + Types.name(callee) + "' object is not callable");
        };
    }

    Object filter(Object input, Expr.FilterCall filter, Scope scope) {
        Arguments arguments = arguments(filter.arguments(), scope);
        session.at(filter.line());
        return Filters.apply(session, filter.name(), input, arguments);
    }
}
