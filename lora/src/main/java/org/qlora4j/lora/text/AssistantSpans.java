package org.qlora4j.lora.text;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.qlora4j.lora.text.jinja.Piece;
import org.qlora4j.lora.text.jinja.Rendered;
import org.qlora4j.lora.text.jinja.Source;
import org.qlora4j.lora.text.jinja.Span;
import org.qlora4j.lora.text.jinja.TemplateException;

/** Finds the assistant's parts of one rendered conversation by the rules that {@link ChatTemplate} states. */
final class AssistantSpans {
    private static final int NO_MESSAGE = -1;

    private final ChatTemplate template;
    private final List<Message> messages;
    private final Map<String, ?> extra;
    private final String text;
    /** Fields of messages but the roles, as they are in the text, in order. */
    private final List<Field> fields = new ArrayList<>();

    private final List<Field> roles = new ArrayList<>();
    private final List<Field> turns = new ArrayList<>();
    private @Nullable String lastPrompt;

    /** A range that belongs to a message. */
    private record Field(int message, int start, int end, boolean call) {
        boolean isIn(int from, int to) {
            return start >= from && end <= to;
        }
    }

    AssistantSpans(ChatTemplate template, List<Message> messages, Map<String, ?> extra, Rendered rendered) {
        this.template = template;
        this.messages = messages;
        this.extra = extra;
        this.text = rendered.text();
        for (Piece piece : rendered.pieces()) {
            int message = message(piece.source());
            if (message != NO_MESSAGE) {
                boolean role = isRole(piece.source());
                (role ? roles : fields)
                        .add(new Field(
                                message, piece.span().start(), piece.span().end(), isCall(piece.source())));
            }
        }
        for (Rendered.Iteration iteration : rendered.iterations()) {
            int message = message(iteration.item());
            Span span = iteration.span();
            if (iteration.item().path().size() == 2 && message != NO_MESSAGE && span.length() > 0) {
                addTurn(new Field(message, span.start(), span.end(), false));
            }
        }
    }

    private static int message(Source source) {
        List<Object> path = source.path();
        boolean inMessages = path.size() >= 2 && path.get(0).equals("messages") && path.get(1) instanceof Integer;
        return inMessages ? (Integer) path.get(1) : NO_MESSAGE;
    }

    /**
     * The parts that {@code {% generation %}} blocks mark. A block belongs to the assistant's message whose text is in
     * it; one without such text, to the assistant's message after the previous block's.
     */
    static RenderedChat marked(List<Message> messages, Rendered rendered) {
        List<RenderedChat.Part> parts = new ArrayList<>();
        int previous = -1;
        for (Span span : rendered.generationSpans()) {
            int message = NO_MESSAGE;
            for (Piece piece : rendered.pieces()) {
                int at = message(piece.source());
                boolean inside = piece.span().start() >= span.start()
                        && piece.span().end() <= span.end()
                        && piece.span().length() > 0;
                if (inside && isAssistant(messages, at) && !isRole(piece.source())) {
                    message = at;
                    break;
                }
            }
            for (int i = previous + 1; message == NO_MESSAGE && i < messages.size(); i++) {
                message = isAssistant(messages, i) ? i : NO_MESSAGE;
            }
            previous = message == NO_MESSAGE ? previous : message;
            if (span.length() > 0 && previous >= 0) {
                parts.add(new RenderedChat.Part(previous, span));
            }
        }
        return new RenderedChat(rendered.text(), parts, List.of());
    }

    private static boolean isAssistant(List<Message> messages, int message) {
        return message >= 0
                && message < messages.size()
                && messages.get(message).role().equals("assistant");
    }

    private static boolean isRole(Source source) {
        return source.path().size() == 3 && source.path().get(2).equals("role");
    }

    private static boolean isCall(Source source) {
        return source.path().size() > 2 && source.path().get(2).equals("tool_calls");
    }

    /** Turns within turns are loops that look at other messages while one is written. */
    private void addTurn(Field turn) {
        // rounds come ordered by start, so only the last ones can be around this one or in it
        while (!turns.isEmpty() && turns.getLast().isIn(turn.start(), turn.end())) {
            turns.removeLast();
        }
        if (turns.isEmpty()
                || !turn.isIn(turns.getLast().start(), turns.getLast().end())) {
            turns.add(turn);
        }
    }

    RenderedChat find() {
        List<RenderedChat.Part> parts = new ArrayList<>();
        List<Integer> unlocated = new ArrayList<>();
        int from = 0;
        for (int i = 0; i < messages.size(); i++) {
            if (!messages.get(i).role().equals("assistant")) {
                continue;
            }
            Span span = find(i, from);
            if (span == null) {
                boolean silent = "".equals(messages.get(i).fields().get("content"));
                if (!silent) {
                    unlocated.add(i);
                }
            } else if (span.length() > 0) {
                parts.add(new RenderedChat.Part(i, span));
                from = span.end();
            }
        }
        return new RenderedChat(text, parts, unlocated);
    }

    private @Nullable Span find(int message, int from) {
        Field turn = turn(message);
        int lower = turn == null ? from : Math.max(from, turn.start());
        int upper = turn == null ? text.length() : turn.end();
        int first = Integer.MAX_VALUE;
        int last = NO_MESSAGE;
        boolean calls = false;
        for (Field field : fields) {
            if (field.message() == message && field.isIn(lower, upper)) {
                calls = field.start() < first ? field.call() : calls;
                first = Math.min(first, field.start());
                last = Math.max(last, field.end());
            }
        }
        boolean known = last != NO_MESSAGE;
        if (!known && turn == null) {
            return null;
        }
        int start = start(message, lower, known ? first : upper);
        if (turn != null && calls && "".equals(lastPrompt) && !showsRole(message, lower, start)) {
            // Mistral has no heading, so what frames a tool call is the model's from the start of the turn
            start = lower;
        }
        if (!known && start == upper) {
            return null;
        }
        int end = turn == null
                ? endByComparison(message, last)
                : stripped(Math.max(start, last), endOfTurn(turn, Math.max(start, last)));
        return end < start ? null : new Span(start, end);
    }

    private @Nullable Field turn(int message) {
        Field found = null;
        for (Field turn : turns) {
            if (turn.message() == message && (found == null || holdsFields(turn))) {
                found = turn;
            }
        }
        return found;
    }

    private boolean holdsFields(Field turn) {
        return fields.stream()
                .anyMatch(field -> field.message() == turn.message() && field.isIn(turn.start(), turn.end()));
    }

    /** The end of a turn, or where it goes on with another message. */
    private int endOfTurn(Field turn, int last) {
        int end = turn.end();
        for (Field field : fields) {
            if (field.message() != turn.message() && field.start() >= last && field.end() > field.start()) {
                end = Math.min(end, field.start());
            }
        }
        return end;
    }

    /** The space at the end belongs to the template: the model has stopped before it. */
    private int stripped(int last, int upper) {
        int end = upper;
        while (end > last && Character.isWhitespace(text.charAt(end - 1))) {
            end--;
        }
        return end;
    }

    private int start(int message, int lower, int first) {
        String prompt = lastPrompt;
        if (prompt == null || !within(prompt, lower, first)) {
            prompt = prompt(message, extra);
            lastPrompt = prompt;
        }
        if (prompt != null && !within(prompt, lower, first) && !extra.isEmpty()) {
            // options may add to the prompt what other turns do not have: without them it is the bare heading
            String bare = prompt(message, Map.of());
            prompt = bare != null && prompt.startsWith(bare) ? bare : prompt;
        }
        if (prompt == null) {
            return first;
        }
        int at = text.lastIndexOf(prompt, first - prompt.length());
        return within(prompt, lower, first) ? at + prompt.length() : startByBeginning(message, prompt, lower, first);
    }

    private boolean within(String prompt, int lower, int first) {
        return first >= prompt.length() && text.lastIndexOf(prompt, first - prompt.length()) >= lower;
    }

    /**
     * A prompt may say more than the turn's heading, for example an empty thinking block. Then the heading ends with
     * the last line break or closing bracket that prompt and turn have in common; it must have the role, if the role is
     * shown.
     */
    private int startByBeginning(int message, String prompt, int lower, int first) {
        int common = 0;
        while (common < prompt.length()
                && lower + common < first
                && prompt.charAt(common) == text.charAt(lower + common)) {
            common++;
        }
        int end = lower + common;
        while (end < first && end > lower && "\n>]".indexOf(text.charAt(end - 1)) < 0) {
            end--;
        }
        int heading = end;
        boolean hasRole = roles.stream()
                .filter(role -> role.message() == message && role.isIn(lower, first))
                .allMatch(role -> role.end() <= heading);
        return end > lower && hasRole ? end : first;
    }

    private boolean showsRole(int message, int from, int to) {
        return roles.stream().anyMatch(role -> role.message() == message && role.isIn(from, to));
    }

    /** What the generation prompt adds before this message, "" if there is none; null if the template cannot say. */
    private @Nullable String prompt(int message, Map<String, ?> variables) {
        try {
            List<Message> before = messages.subList(0, message);
            String without = template.rendered(before, variables, false).text();
            String with = template.rendered(before, variables, true).text();
            return with.startsWith(without) ? with.substring(without.length()) : null;
        } catch (TemplateException e) {
            // some templates refuse a conversation that ends here; the turn then starts with its first field
            return null;
        }
    }

    private int endByComparison(int message, int last) {
        String tail;
        try {
            Rendered cut = template.rendered(messages.subList(0, message + 1), extra, false);
            int cutLast = NO_MESSAGE;
            for (Piece piece : cut.pieces()) {
                if (message(piece.source()) == message && !isRole(piece.source())) {
                    cutLast = Math.max(cutLast, piece.span().end());
                }
            }
            tail = cutLast == NO_MESSAGE ? "" : cut.text().substring(cutLast);
        } catch (TemplateException e) {
            // without a shorter conversation to compare with, the end of the turn is not known to be one
            return last;
        }
        int next = text.length();
        for (List<Field> some : List.of(fields, roles)) {
            for (Field field : some) {
                next = field.message() > message && field.start() >= last ? Math.min(next, field.start()) : next;
            }
        }
        int end = last;
        while (end < next && end - last < tail.length() && text.charAt(end) == tail.charAt(end - last)) {
            end++;
        }
        return stripped(last, end);
    }
}
