package org.qlora4j.lora.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Text of the context is followed through what templates do with it. */
class PieceTrackingTest {
    private static final Map<String, Object> CONTEXT = Map.of(
            "s",
            "  Hello, wörld 😀 ",
            "m",
            List.of(message("user", "<think>no</think>\n\nYes it's \"so\"")),
            "n",
            5,
            "e",
            "");

    private static Map<String, Object> message(String role, String content) {
        Map<String, Object> message = new LinkedHashMap<>();
        message.put("role", role);
        message.put("content", content);
        return message;
    }

    /** Each piece as text@source:start, where start is ? if the characters were changed. */
    private static String pieces(String template) {
        Rendered rendered = Template.compile(template).render(CONTEXT);
        StringBuilder shown = new StringBuilder();
        for (Piece piece : rendered.pieces()) {
            shown.append(shown.isEmpty() ? "" : "|")
                    .append(piece.span().of(rendered.text()).replace("\n", "\\n"));
            shown.append('@')
                    .append(piece.source())
                    .append(':')
                    .append(piece.sourceStart() < 0 ? "?" : piece.sourceStart());
        }
        return shown.toString();
    }

    @ParameterizedTest(name = "{0}")
    @CsvSource(
            delimiter = ';',
            quoteCharacter = '`',
            value = {
                "`{{ s }}`;`  Hello, wörld 😀 @s:0`",
                "`{{ s | trim }}`;`Hello, wörld 😀@s:2`",
                "`{{ '[' + s.strip() + ']' }}`;`Hello, wörld 😀@s:2`",
                "`{{ s[2:7] }}{{ s[-3:-1] }}`;`Hello@s:2| 😀@s:14`",
                "`{{ s.split(',')[0].lstrip() ~ '!' ~ s.split(',')[1] }}`;`Hello@s:2| wörld 😀 @s:8`",
                "`{{ s[3] }}`;`e@s:3`",
                "`{{ m[0].content.split('</think>')[-1].lstrip('\\n') }}`;`Yes it's \"so\"@m[0].content:19`",
                "`{{ m[::-1][0]['content'][:7] }}`;`<think>@m[0].content:0`",
                "`{% for x in m %}<{{ x.role }}>{{ x['content'] | last }}{% endfor %}`;`user@m[0].role:0|\"@m[0].content:31`",
                "`{% set a %}({{ m[0].role }}){% endset %}{{ a ~ a }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{% macro f(x) %}[{{ x | upper }}]{% endmacro %}{{ f(m[0].role) }}`;`USER@m[0].role:?`",
                "`{{ m[0].role | capitalize }}`;`User@m[0].role:?`",
                "`{{ ('a' ~ m[0].role ~ 'b') | upper }}`;`USER@m[0].role:?`",
                "`{{ (m[0].role ~ n) | lower }}`;`user@m[0].role:0`",
                "`{{ m[0].role.replace('s', 'SS') }}`;`u@m[0].role:0|er@m[0].role:2`",
                "`{{ m[0].role.replace('zz', '') }}`;`user@m[0].role:0`",
                "`{{ m[0] | tojson }}`;`user@m[0].role:0|<think>no</think>\\n\\nYes it's \\\"so\\\"@m[0].content:?`",
                "`{{ m[0].role | tojson }}`;`user@m[0].role:0`",
                "`{{ [m[0].role, 'x'] }}`;`user@m[0].role:0`",
                "`{{ [m[0].role, 'x'] | join(', ') }}`;`user@m[0].role:0`",
                "`{{ 'a-b' | replace('-', m[0].role) }}`;`user@m[0].role:0`",
                "`{{ '%s=%5s' % (m[0].role, m[0].role) }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{{ '{} {:>6}'.format(m[0].role, m[0].role) }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{{ m[0].role.center(8) }}`;`user@m[0].role:0`",
                "`{{ m[0].role | list | join }}`;`user@m[0].role:0`",
                "`{{ m[0].role[::-1] }}`;`r@m[0].role:3|e@m[0].role:2|s@m[0].role:1|u@m[0].role:0`",
                "`{{ m | map(attribute='role') | first }}{{ m | selectattr('role') | map(attribute='role') | join }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{{ m[0].role if n else s }}{{ zz | default(m[0].role) }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{% set ns = namespace(t='') %}{% for i in range(2) %}{% set ns.t = ns.t + m[0].role %}{% endfor %}{{ ns.t }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{{ ('x\\n' ~ m[0].role) | indent(2) }}`;`user@m[0].role:0`",
                "`{{ m[0].role * 2 }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{{ m[0].role | e }}{{ m[0].role | safe }}`;`user@m[0].role:0|user@m[0].role:0`",
                "`{{ e }}{{ n }}{{ m[0].content | length }}`;`@e:0`",
            })
    void follows(String template, String expected) {
        assertEquals(expected, pieces(template));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            quoteCharacter = '`',
            value = {
                "`{% for x in m %}a{{ x.role }}{% endfor %}b`;`auser@m[0]`",
                "`{% set t %}{% for x in m | list %}a{% endfor %}{% endset %}-{{ t }}`;`a@m[0]`",
                "`{% for x in [1] %}a{% endfor %}`;``",
            })
    void roundsOfLoopsAreFollowed(String template, String expected) {
        Rendered rendered = Template.compile(template).render(CONTEXT);
        StringBuilder shown = new StringBuilder();
        rendered.iterations()
                .forEach(round -> shown.append(round.span().of(rendered.text()))
                        .append('@')
                        .append(round.item()));
        assertEquals(expected == null ? "" : expected, shown.toString());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            quoteCharacter = '`',
            value = {
                "`a{% generation %}b{{ n }}{% endgeneration %}c`;`[b5]`",
                "`{% set t %}x{% generation %}y{% endgeneration %}{% endset %}{{ t }}-{{ t[1:] }}-{{ t | upper }}`;`[y, y, Y]`",
                "`{% macro g(x) %}<{% generation %}{{ x }}{% endgeneration %}>{% endmacro %}{{ g('q') + g('r') | trim('>') }}`;`[q, r]`",
                "`{% generation %}{% endgeneration %}{% for i in [1, 2] %}{% generation %}{{ i }}{% endgeneration %}{% endfor %}`;`[, 1, 2]`",
            })
    void generationBlocksAreFollowedThroughValues(String template, String expected) {
        Rendered rendered = Template.compile(template).render(CONTEXT);
        assertEquals(
                expected,
                rendered.generationSpans().stream()
                        .map(span -> span.of(rendered.text()))
                        .toList()
                        .toString());
    }
}
