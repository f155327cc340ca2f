package org.qlora4j.lora.text.jinja;

import java.math.BigInteger;
import java.time.Clock;
import java.util.List;
import java.util.Map;

/** Python's {@code str()} and {@code repr()}. */
final class Repr {
    private Repr() {}

    /** str(): texts as they are, with their tags. */
    static Text str(Session session, Object value) {
        return switch (value) {
            case Text text -> text.withMarkup(false);
            case Undefined ignored -> Text.EMPTY;
            case None ignored -> Text.of("None");
            case Boolean bool -> Text.of(bool ? "True" : "False");
            case Long number -> Text.of(Long.toString(number));
            case Double number -> Text.of(FloatFormat.repr(number));
            default -> repr(session, value);
        };
    }

    /** soft_str(): as {@link #str}, but Markup stays Markup. */
    static Text softStr(Session session, Object value) {
        return value instanceof Text text ? text : str(session, value);
    }

    static Text repr(Session session, Object value) {
        TextBuilder out = new TextBuilder(session);
        write(session, out, value);
        return out.toText();
    }

    /** For messages: without tags and cut to a length that fits into one. */
    static String shortRepr(Object value) {
        return switch (value) {
            case Text text -> {
                String shown = text.size() > 100 ? text.value().substring(0, 100) + "…" : text.value();
                yield repr(new Session(Limits.DEFAULT, Clock.systemUTC()), Text.of(shown))
                        .value();
            }
            case Long number -> number.toString();
            case Double number -> FloatFormat.repr(number);
            case Boolean bool -> bool ? "True" : "False";
            case None ignored -> "None";
            default -> "<" + Types.name(value) + ">";
        };
    }

    private static void write(Session session, TextBuilder out, Object value) {
        session.steps(1);
        switch (value) {
            case Text text -> out.append(quoted(session, text));
            case Undefined ignored -> out.append("Undefined");
            case BigInteger number -> out.append(number.toString());
            case ListValue list -> {
                out.append("[");
                items(session, out, list.items());
                out.append("]");
            }
            case TupleValue tuple -> {
                out.append("(");
                items(session, out, tuple.items());
                out.append(tuple.items().size() == 1 ? ",)" : ")");
            }
            case DictValue dict -> dict(session, out, dict);
            case DictView view -> {
                out.append(view.typeName()).append("([");
                items(session, out, view.items());
                out.append("])");
            }
            case RangeValue range -> {
                out.append("range(" + range.start() + ", " + range.stop());
                out.append(range.step() == 1 ? ")" : ", " + range.step() + ")");
            }
            case Namespace namespace -> {
                out.append("<Namespace ");
                DictValue attributes = new DictValue();
                namespace.attributes().forEach((name, attribute) -> attributes.put(Text.of(name), attribute));
                write(session, out, attributes);
                out.append(">");
            }
            case Macro macro ->
                out.append(macro.name().isEmpty() ? "<Macro anonymous>" : "<Macro '" + macro.name() + "'>");
            case LoopContext loop -> out.append("<LoopContext " + (loop.index0() + 1) + "/" + loop.length() + ">");
            case Callable callable -> out.append("<built-in " + callable.name() + ">");
            case LazyValue lazy -> out.append("<" + lazy.typeName() + " object>");
            default -> out.append(str(session, value));
        }
    }

    private static void items(Session session, TextBuilder out, List<Object> items) {
        session.enter();
        String separator = "";
        for (Object item : items) {
            out.append(separator);
            write(session, out, item);
            separator = ", ";
        }
        session.leave();
    }

    private static void dict(Session session, TextBuilder out, DictValue dict) {
        session.enter();
        out.append("{");
        String separator = "";
        for (Map.Entry<Object, Object> entry : dict.entries()) {
            out.append(separator);
            write(session, out, entry.getKey());
            out.append(": ");
            write(session, out, entry.getValue());
            separator = ", ";
        }
        out.append("}");
        session.leave();
    }

    private static Text quoted(Session session, Text text) {
        boolean doubleQuotes = text.value().indexOf('\'') >= 0 && text.value().indexOf('"') < 0;
        int quote = doubleQuotes ? '"' : '\'';
        Text escaped = text.withMarkup(false).mapCodePoints(session, codePoint -> switch (codePoint) {
            case '\\' -> "\\\\";
            case '\n' -> "\\n";
            case '\r' -> "\\r";
            case '\t' -> "\\t";
            default ->
                codePoint == quote ? "\\" + (char) quote : Characters.isPrintable(codePoint) ? null : hex(codePoint);
        });
        TextBuilder out = new TextBuilder(session);
        out.append(text.markup() ? "Markup(" : "").appendCodePoint(quote);
        out.append(escaped).appendCodePoint(quote);
        return out.append(text.markup() ? ")" : "").toText();
    }

    private static String hex(int codePoint) {
        return codePoint < 0x100
                ? String.format("\\x%02x", codePoint)
                : codePoint < 0x10000 ? String.format("\\u%04x", codePoint) : String.format("\\U%08x", codePoint);
    }
}
