package org.qlora4j.lora.text.jinja;

import java.util.HashMap;
import java.util.Map;
import java.util.function.Predicate;

/** The tests behind {@code is}. */
final class Tests {
    /** Whether a value passes. */
    private interface Test {
        boolean passes(Session session, Object value, Arguments arguments);
    }

    private static final Map<String, Test> ALL = all();

    private Tests() {}

    static boolean test(Session session, String name, Object value, Arguments arguments) {
        Test test = ALL.get(name);
        if (test == null) {
            throw new PyError("TemplateRuntimeError", "No test named '" + name + "'.");
        }
        session.steps(1);
        if (value instanceof Text text) {
            session.scan(text);
        }
        return test.passes(session, value, arguments);
    }

    private static Map<String, Test> all() {
        Map<String, Test> tests = new HashMap<>();
        plain(tests, "defined", value -> !(value instanceof Undefined));
        plain(tests, "undefined", value -> value instanceof Undefined);
        plain(tests, "none", value -> value == None.NONE);
        plain(tests, "boolean", value -> value instanceof Boolean);
        plain(tests, "true", value -> value.equals(true));
        plain(tests, "false", value -> value.equals(false));
        plain(tests, "integer", value -> Numbers.isInt(value) && !(value instanceof Boolean));
        plain(tests, "float", value -> value instanceof Double);
        plain(tests, "number", Numbers::isNumber);
        plain(tests, "string", value -> value instanceof Text);
        plain(tests, "mapping", value -> value instanceof DictValue);
        plain(tests, "iterable", value -> Types.isIterable(value) || value instanceof LoopContext);
        plain(tests, "sequence", Tests::isSequence);
        plain(tests, "callable", value -> value instanceof Callable || value instanceof Undefined);
        plain(tests, "escaped", value -> value instanceof Text text && text.markup());
        tests.put(
                "lower",
                (session, value, arguments) ->
                        Casing.is("islower", Repr.str(session, value).value()));
        tests.put(
                "upper",
                (session, value, arguments) ->
                        Casing.is("isupper", Repr.str(session, value).value()));
        tests.put("odd", (session, value, arguments) -> remainder(session, value, 2L, 1L));
        tests.put("even", (session, value, arguments) -> remainder(session, value, 2L, 0L));
        tests.put(
                "divisibleby",
                (session, value, arguments) -> remainder(
                        session, value, arguments.bind("divisibleby", "num").get(0), 0L));
        tests.put(
                "sameas",
                (session, value, arguments) ->
                        isSame(value, arguments.bind("sameas", "other").get(0)));
        tests.put("filter", (session, value, arguments) -> value instanceof Text name && Filters.exists(name.value()));
        tests.put("test", (session, value, arguments) -> value instanceof Text name && ALL.containsKey(name.value()));
        relation(tests, Expr.Relation.EQ, "==", "eq", "equalto");
        relation(tests, Expr.Relation.NE, "!=", "ne");
        relation(tests, Expr.Relation.GT, ">", "gt", "greaterthan");
        relation(tests, Expr.Relation.GE, ">=", "ge");
        relation(tests, Expr.Relation.LT, "<", "lt", "lessthan");
        relation(tests, Expr.Relation.LE, "<=", "le");
        relation(tests, Expr.Relation.IN, "in");
        return tests;
    }

    private static void plain(Map<String, Test> tests, String name, Predicate<Object> test) {
        tests.put(name, (session, value, arguments) -> {
            arguments.bind(name);
            return test.test(value);
        });
    }

    private static void relation(Map<String, Test> tests, Expr.Relation relation, String... names) {
        for (String name : names) {
            tests.put(
                    name,
                    (session, value, arguments) -> Comparison.test(
                            session,
                            relation,
                            value,
                            arguments.bind(name, "other").get(0)));
        }
    }

    private static boolean remainder(Session session, Object value, Object divisor, Object wanted) {
        return Comparison.equal(session, Arithmetic.binary(session, Expr.Operator.MOD, value, divisor), wanted);
    }

    /** Has a length and can be subscripted; a dict too, as in jinja2. */
    private static boolean isSequence(Object value) {
        return switch (value) {
            case Text ignored -> true;
            case ListValue ignored -> true;
            case TupleValue ignored -> true;
            case DictValue ignored -> true;
            case RangeValue ignored -> true;
            case Undefined ignored -> true;
            default -> false;
        };
    }

    /** Python's {@code is}; small numbers and short strings are shared there, so values count for them. */
    private static boolean isSame(Object value, Object other) {
        boolean shared = value instanceof Boolean || value instanceof Long || value instanceof Text;
        return value == other || shared && value.equals(other);
    }
}
