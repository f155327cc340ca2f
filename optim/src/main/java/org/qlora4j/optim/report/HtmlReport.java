package org.qlora4j.optim.report;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.train.LogEntry;

/**
 * A run on one page that needs nothing else: curves, settings, data, memory, answers before and after.
 *
 * @param title of the page
 * @param log all log lines
 * @param results what came out: steps, time, losses, checkpoints, by name
 * @param memory estimated before the run
 * @param measured peaks by name, in bytes
 * @param data what was trained on, by name
 * @param settings all options, by name
 * @param samples questions with their answers; may be empty
 */
public record HtmlReport(
        String title,
        List<LogEntry> log,
        Map<String, String> results,
        MemoryEstimate memory,
        Map<String, Long> measured,
        Map<String, String> data,
        Map<String, String> settings,
        List<Sample> samples) {
    /** What the model said to a question. */
    public record Sample(String question, String before, String after) {}

    private static final String STYLE = """
            body { font: 15px/1.5 system-ui, sans-serif; color: #333; max-width: 1100px; margin: 2em auto; padding: 0 1em }
            h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }
            table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .25em .8em .25em 0 }
            tr + tr td { border-top: 1px solid #eee } td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
            .curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1em }
            .bar { background: #FF7043; height: .8em; display: inline-block } td.said { white-space: pre-wrap }
            .columns { columns: 2; } .columns table { break-inside: auto }
            """;

    /** Writes the page. */
    public void write(Path file) {
        StringBuilder page = new StringBuilder(
                        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>")
                .append(escape(title))
                .append("</title><style>\n")
                .append(STYLE)
                .append("</style></head><body>\n<h1>")
                .append(escape(title))
                .append("</h1>\n");
        table(page, results);
        page.append("<h2>Curves</h2>\n<div class=\"curves\">\n");
        Curves.of(log)
                .forEach(curve -> page.append("<div>")
                        .append(SvgCanvas.of(new LineChart(curve)))
                        .append("</div>\n"));
        page.append("</div>\n");
        if (!samples.isEmpty()) {
            page.append("<h2>Before and after</h2>\n<table><tr><th>question</th><th>before</th><th>after</th></tr>\n");
            samples.forEach(s -> page.append("<tr>")
                    .append(cell("said", s.question))
                    .append(cell("said", s.before))
                    .append(cell("said", s.after))
                    .append("</tr>\n"));
            page.append("</table>\n");
        }
        page.append("<h2>Memory</h2>\n");
        memoryTable(page);
        page.append("<h2>Data</h2>\n");
        table(page, data);
        page.append("<h2>Settings</h2>\n<div class=\"columns\">\n");
        table(page, settings);
        page.append("</div>\n</body></html>\n");
        AtomicFile.writeString(file, page.toString());
    }

    private void memoryTable(StringBuilder page) {
        long most = memory.items().stream()
                .mapToLong(MemoryEstimate.Item::bytes)
                .max()
                .orElse(1);
        page.append("<table>\n");
        for (MemoryEstimate.Item item : memory.items()) {
            page.append("<tr>").append(cell("", item.name())).append(cell("number", megabytes(item.bytes())));
            page.append(String.format(
                    Locale.ROOT,
                    "<td><span class=\"bar\" style=\"width:%.1fpx\"></span></td>",
                    300.0 * item.bytes() / most));
            page.append(cell("", item.explanation())).append("</tr>\n");
        }
        page.append("<tr>")
                .append(cell("", "estimated total"))
                .append(cell("number", megabytes(memory.totalBytes())))
                .append("<td></td><td></td></tr>\n");
        measured.forEach((name, bytes) -> page.append("<tr>")
                .append(cell("", "measured: " + name))
                .append(cell("number", megabytes(bytes)))
                .append("<td></td><td></td></tr>\n"));
        page.append("</table>\n");
    }

    private static String megabytes(long bytes) {
        return String.format(Locale.ROOT, "%,.1f MB", bytes / 1e6);
    }

    private static void table(StringBuilder page, Map<String, String> values) {
        page.append("<table>\n");
        values.forEach((name, value) -> page.append("<tr>")
                .append(cell("", name))
                .append(cell("", value))
                .append("</tr>\n"));
        page.append("</table>\n");
    }

    private static String cell(String style, String text) {
        return (style.isEmpty() ? "<td>" : "<td class=\"" + style + "\">") + escape(text) + "</td>";
    }

    /** Text as it may stand in HTML and SVG. */
    static String escape(String text) {
        return text.replace("&", "&amp;")
                .replace("<", "&lt;")
                .replace(">", "&gt;")
                .replace("\"", "&quot;");
    }
}
