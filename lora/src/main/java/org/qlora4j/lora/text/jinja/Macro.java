package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** A macro, or the body of a call block as {@code caller}. */
final class Macro implements Callable {
    private final Renderer renderer;
    private final Stmt.Signature signature;
    private final List<Stmt> body;
    private final Scope scope;

    Macro(Renderer renderer, Stmt.Signature signature, List<Stmt> body, Scope scope) {
        this.renderer = renderer;
        this.signature = signature;
        this.body = body;
        this.scope = scope;
    }

    @Override
    public String name() {
        return signature.name();
    }

    @Nullable
    Object member(String name) {
        return switch (name) {
            case "name" -> Text.of(signature.name());
            case "arguments" ->
                new TupleValue(new ArrayList<>(
                        signature.parameters().stream().map(Text::of).toList()));
            case "catch_kwargs" -> signature.usesKwargs();
            case "catch_varargs" -> signature.usesVarargs();
            case "caller" -> signature.usesCaller();
            default -> null;
        };
    }

    @Override
    public Object call(Session session, Arguments arguments) {
        session.enter();
        Scope inner = scope.inner();
        Map<String, Object> keywords = new LinkedHashMap<>(arguments.keywords());
        bind(arguments.positional(), keywords, inner);
        if (signature.usesCaller()) {
            Object caller = keywords.remove("caller");
            inner.set("caller", caller == null ? Undefined.because("No caller defined") : caller);
        }
        if (signature.usesKwargs()) {
            DictValue rest = new DictValue();
            keywords.forEach((name, value) -> rest.put(Text.of(name), value));
            inner.set("kwargs", rest);
        } else if (!keywords.isEmpty()) {
            throw PyError.type(
                    keywords.containsKey("caller")
                            ? "macro '" + name() + "' was invoked with two values for the special caller argument."
                                    + " This is most likely a bug."
                            : "macro '" + name() + "' takes no keyword argument '"
                                    + keywords.keySet().iterator().next() + "'");
        }
        TextBuilder out = new TextBuilder(session);
        renderer.run(body, inner, out);
        session.leave();
        return out.toText();
    }

    private void bind(List<Object> positional, Map<String, Object> keywords, Scope inner) {
        List<String> parameters = signature.parameters();
        int firstDefault = parameters.size() - signature.defaults().size();
        // all given values first: a default may name a later parameter, which is undefined then
        for (int i = 0; i < parameters.size(); i++) {
            String parameter = parameters.get(i);
            Object value = i < positional.size() ? positional.get(i) : keywords.remove(parameter);
            inner.set(
                    parameter,
                    value == null ? Undefined.because("parameter '" + parameter + "' was not provided") : value);
            if (value == null && i >= firstDefault) {
                inner.set(
                        parameter,
                        renderer.evaluator().evaluate(signature.defaults().get(i - firstDefault), inner));
            }
        }
        if (positional.size() > parameters.size() && !signature.usesVarargs()) {
            throw PyError.type("macro '" + name() + "' takes not more than " + parameters.size() + " argument(s)");
        }
        if (signature.usesVarargs()) {
            int from = Math.min(parameters.size(), positional.size());
            inner.set("varargs", new TupleValue(positional.subList(from, positional.size())));
        }
    }
}
