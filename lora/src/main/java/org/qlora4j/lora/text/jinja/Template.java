package org.qlora4j.lora.text.jinja;

import java.time.Clock;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A chat template in Jinja, rendered exactly as transformers renders it: jinja2's ImmutableSandboxedEnvironment with
 * {@code trim_blocks}, {@code lstrip_blocks}, loop controls, {@code {% generation %}} blocks, {@code tojson} without
 * HTML escapes, {@code raise_exception} and {@code strftime_now}. Numbers, strings and errors are Python's.
 *
 * <p>A template cannot run code: it sees only the values it is given and the functions listed in jinja2's
 * documentation, and every rendering ends within {@link Limits}. Instances are immutable and may be used from several
 * threads.
 *
 * @see <a href="https://jinja.palletsprojects.com/en/stable/templates/">Jinja template designer documentation</a>
 */
public final class Template {
    /** The largest templates in use have some 20,000 chars. */
    private static final int MAX_SOURCE = 1 << 20;

    private final List<Stmt> statements;
    private final boolean marksGeneration;

    private Template(StatementParser.Result parsed) {
        this.statements = parsed.statements();
        this.marksGeneration = parsed.marksGeneration();
    }

    /** Whether there is a {@code {% generation %}} block in it. */
    public boolean marksGeneration() {
        return marksGeneration;
    }

    /**
     * Reads a template.
     *
     * @throws TemplateException if the syntax is wrong, with the line
     */
    public static Template compile(String source) {
        if (source.length() > MAX_SOURCE) {
            throw new TemplateException(
                    "LimitError",
                    "the template has " + source.length() + " chars; at most " + MAX_SOURCE + " are read",
                    1,
                    null);
        }
        try {
            return new Template(StatementParser.parse(source));
        } catch (PyError e) {
            throw new TemplateException(e.type(), e.reason(), 1, e);
        } catch (StackOverflowError e) {
            throw new TemplateException("LimitError", "nested too deeply for this thread's stack", 1, e);
        }
    }

    /**
     * Renders with the default limits and the system's clock.
     *
     * @param context variables: String, Number, Boolean, Map with String keys, Iterable or null, nested as needed
     * @throws TemplateException if the template fails or exceeds the limits
     * @throws IllegalArgumentException if the context holds anything else
     */
    public Rendered render(Map<String, ? extends @Nullable Object> context) {
        return render(context, Limits.DEFAULT, Clock.systemDefaultZone());
    }

    /**
     * Renders.
     *
     * @param context as above
     * @param limits what the rendering may use
     * @param clock what {@code strftime_now} reads
     */
    public Rendered render(Map<String, ? extends @Nullable Object> context, Limits limits, Clock clock) {
        Session session = new Session(limits, clock);
        TextBuilder out = new TextBuilder(session);
        try {
            Scope scope = Scope.root(Globals.ALL, ContextValues.of(context));
            new Renderer(session).run(statements, scope, out);
        } catch (PyError e) {
            throw new TemplateException(e.type(), e.reason(), session.line(), e);
        } catch (StackOverflowError e) {
            // the depth limit is meant to come first; a caller's small thread stack may not leave room for it
            throw new TemplateException("LimitError", "nested too deeply for this thread's stack", session.line(), e);
        }
        return rendered(out.toText());
    }

    private static Rendered rendered(Text text) {
        List<Span> generations = new ArrayList<>();
        List<Piece> pieces = new ArrayList<>();
        List<Rendered.Iteration> iterations = new ArrayList<>();
        for (Run run : text.runs()) {
            Span span = new Span(run.start(), run.end());
            switch (run.tag()) {
                case Source source -> pieces.add(new Piece(span, source, run.tagStart()));
                case Tag.Generation ignored -> generations.add(span);
                case Tag.Iteration iteration -> iterations.add(new Rendered.Iteration(span, iteration.item()));
            }
        }
        generations.sort(Comparator.comparingInt(Span::start));
        pieces.sort(Comparator.comparingInt(piece -> piece.span().start()));
        iterations.sort(Comparator.comparingInt(iteration -> iteration.span().start()));
        return new Rendered(text.value(), generations, pieces, iterations);
    }
}
