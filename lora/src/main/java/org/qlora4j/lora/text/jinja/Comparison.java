package org.qlora4j.lora.text.jinja;

import java.util.Iterator;
import java.util.List;
import java.util.Map;

/** Equality, order and membership. */
final class Comparison {
    private Comparison() {}

    static boolean equal(Session session, Object left, Object right) {
        if (Numbers.isNumber(left) && Numbers.isNumber(right)) {
            return !Numbers.isNan(left) && !Numbers.isNan(right) && Numbers.compare(left, right) == 0;
        }
        if (left instanceof Text a && right instanceof Text b) {
            session.scan(Math.min(a.size(), b.size()));
            return a.equals(b);
        }
        if (left instanceof ListValue a && right instanceof ListValue b) {
            return items(session, a.items(), b.items());
        }
        if (left instanceof TupleValue a && right instanceof TupleValue b) {
            return items(session, a.items(), b.items());
        }
        if (left instanceof DictValue a && right instanceof DictValue b) {
            return dicts(session, a, b);
        }
        if (left instanceof RangeValue a && right instanceof RangeValue b) {
            return a.size() == b.size()
                    && (a.size() == 0 || a.start() == b.start() && (a.size() == 1 || a.step() == b.step()));
        }
        return left == right || left instanceof Undefined && right instanceof Undefined;
    }

    private static boolean items(Session session, List<Object> left, List<Object> right) {
        if (left.size() != right.size()) {
            return false;
        }
        session.enter();
        boolean same = true;
        for (int i = 0; i < left.size() && same; i++) {
            session.steps(1);
            same = left.get(i) == right.get(i) || equal(session, left.get(i), right.get(i));
        }
        session.leave();
        return same;
    }

    private static boolean dicts(Session session, DictValue left, DictValue right) {
        if (left == right) {
            return true;
        }
        if (left.size() != right.size()) {
            return false;
        }
        session.enter();
        boolean same = true;
        for (Map.Entry<Object, Object> entry : left.entries()) {
            session.steps(1);
            Object other = right.get(entry.getKey());
            if (other == null || other != entry.getValue() && !equal(session, entry.getValue(), other)) {
                same = false;
                break;
            }
        }
        session.leave();
        return same;
    }

    static boolean test(Session session, Expr.Relation relation, Object left, Object right) {
        return switch (relation) {
            case EQ -> equal(session, left, right);
            case NE -> !equal(session, left, right);
            case LT, LE, GT, GE -> ordered(session, relation, left, right);
            case IN -> contains(session, right, left);
            case NOT_IN -> !contains(session, right, left);
        };
    }

    private static boolean ordered(Session session, Expr.Relation relation, Object left, Object right) {
        if (left instanceof Undefined undefined) {
            throw undefined.error();
        }
        if (right instanceof Undefined undefined) {
            throw undefined.error();
        }
        if (Numbers.isNumber(left) && Numbers.isNumber(right)) {
            return !Numbers.isNan(left) && !Numbers.isNan(right) && relation.holds(Numbers.compare(left, right));
        }
        if (left instanceof Text a && right instanceof Text b) {
            session.scan(Math.min(a.size(), b.size()));
            return relation.holds(a.compareTo(b));
        }
        List<Object> a = Types.sequence(left);
        List<Object> b = Types.sequence(right);
        if (a == null || b == null || left.getClass() != right.getClass()) {
            throw PyError.type("'" + relation.symbol() + "' not supported between instances of '" + Types.name(left)
                    + "' and '" + Types.name(right) + "'");
        }
        session.enter();
        for (int i = 0; i < Math.min(a.size(), b.size()); i++) {
            session.steps(1);
            if (a.get(i) != b.get(i) && !equal(session, a.get(i), b.get(i))) {
                boolean result = ordered(session, relation, a.get(i), b.get(i));
                session.leave();
                return result;
            }
        }
        session.leave();
        return relation.holds(Integer.compare(a.size(), b.size()));
    }

    static boolean contains(Session session, Object container, Object item) {
        switch (container) {
            case Text text -> {
                if (item instanceof Text part) {
                    session.scan(text.size());
                    return Search.indexOf(text.value(), part.value(), 0) >= 0;
                }
                throw PyError.type("'in <string>' requires string as left operand, not " + Types.name(item));
            }
            case DictValue dict -> {
                return dict.get(item) != null;
            }
            case DictView view
            when view.kind() == DictView.Kind.KEYS -> {
                return view.dict().get(item) != null;
            }
            case RangeValue range
            when item instanceof Long number && range.size() > 0 -> {
                long from = number - range.start();
                return from % range.step() == 0 && from / range.step() >= 0 && from / range.step() < range.size();
            }
            default -> {
                if (!Types.isIterable(container)) {
                    throw PyError.type("argument of type '" + Types.name(container) + "' is not iterable");
                }
                Iterator<Object> items = Types.iterator(container);
                while (items.hasNext()) {
                    session.steps(1);
                    Object next = items.next();
                    if (next == item || equal(session, next, item)) {
                        return true;
                    }
                }
                return false;
            }
        }
    }
}
