package org.qlora4j.lora.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Clock;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A hostile template ends soon, in our own exception, and reaches nothing outside. */
class TemplateLimitsTest {
    private static final Duration SOON = Duration.ofSeconds(20);

    private static TemplateException refused(String template) {
        return assertTimeoutPreemptively(
                SOON,
                () -> assertThrows(
                        TemplateException.class,
                        () -> Template.compile(template).render(Map.of("s", "text", "l", List.of(1, 2)))));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "{{ range(10 ** 9) }}",
                "{{ 'a' * 10 ** 9 }}",
                "{{ 'ab' * 9223372036854775807 }}",
                "{{ [1] * 10 ** 9 }}",
                "{{ (1, 2) * 10 ** 30 }}",
                "{{ 'ab' * 10 ** 30 }}",
                "{{ 1 }}{{ 'abcd' * 4611686018427387905 }}",
                "{{ [1, 2, 3, 4] * 4611686018427387905 }}",
                "{{ 10 ** (10 ** 10) }}",
                "{{ 7 ** 100000 }}",
                "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
                "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
                "{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}",
                "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
                "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
                "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
                "{% set ns = namespace(x=[], y=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}"
                        + "{% endfor %}{{ ns.x == ns.y }}",
                "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
                "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
                        + "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
                "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
                "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
                "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = ns.x + ['a' * 1000000] %}{% endfor %}",
                "{% set a = 'a' * 1000000 %}{% set ns = namespace(x=[]) %}"
                        + "{% for i in range(100000) %}{% set ns.x = ns.x + [a[1:]] %}{% endfor %}",
                "{% set a = 'a' * 1000000 %}{% for i in range(100000) %}{% set x = a[i] %}{% endfor %}",
                "{% set a = 'a' * 9000000 %}{% for i in range(100000) %}{% set x = a | length %}{% endfor %}",
                "{% set a = 'a' * 4000000 %}{% for i in range(100000) %}{% set x = 'b' in a %}{% endfor %}",
                "{% set a = 'a' * 4000000 %}{% for i in range(100000) %}{% set x = a.strip('a') %}{% endfor %}",
                "{{ '%1000000000d' % 1 }}",
                "{{ '%.1000000000f' % 1 }}",
                "{{ '%*d' % (10 ** 9, 1) }}",
                "{{ '{:99999999}'.format(1) }}",
                "{{ '{:.99999999f}'.format(1.5) }}",
                "{{ s.center(10 ** 9) }}",
                "{{ s.ljust(10 ** 18) }}",
                "{{ s.zfill(10 ** 30) }}",
                "{{ 'a\tb'.expandtabs(10 ** 9) }}",
                "{{ s | center(10 ** 9) }}",
                "{{ s | indent(10 ** 9) }}",
                "{{ l | tojson(indent=10 ** 9) }}",
                "{{ l | batch(10 ** 9, 0) | list }}",
                "{{ l | slice(10 ** 9) | list }}",
                "{{ ('a' * 10000).replace('a', 'b' * 10000) }}",
                "{{ ('b' * 10000).join('a' * 10000) }}",
                "{{ ('9' * 4000) | int * ('9' * 4000) | int ** 9 }}",
                "{% for i in range(100000) %}{{ strftime_now('%c' * 100000) }}{% endfor %}",
                "{{ [[1] * 100000] * 100000 | map('list') | list | tojson }}",
            })
    void resourcesAreBounded(String template) {
        TemplateException e = refused(template);
        assertTrue(List.of("LimitError", "OverflowError", "TypeError").contains(e.type()), e.getMessage());
        assertEquals(1, e.line());
    }

    static Stream<String> deepSources() {
        int n = 20_000;
        return Stream.of(
                "{{ " + "(".repeat(n) + "1" + ")".repeat(n) + " }}",
                "{{ " + "[".repeat(n) + "]".repeat(n) + " }}",
                "{{ " + "{1:".repeat(n) + "1" + "}".repeat(n) + " }}",
                "{{ " + "not ".repeat(n) + "1 }}",
                "{{ " + "-".repeat(n) + "1 }}",
                "{{ " + "1 if 1 else ".repeat(n) + "1 }}",
                "{{ " + "x[".repeat(n) + "1" + "]".repeat(n) + " }}",
                "{{ " + "f(".repeat(n) + ")".repeat(n) + " }}",
                "{{ 1" + " + 1".repeat(n) + " }}",
                "{{ 1" + " | abs".repeat(n) + " }}",
                "{{ 1" + " and 1".repeat(n) + " }}",
                "{{ x" + ".x".repeat(n) + " }}",
                "{% if 1 %}".repeat(n) + "{% endif %}".repeat(n),
                "{% for x in [1] %}".repeat(n) + "{% endfor %}".repeat(n),
                "{% set " + "(".repeat(n) + "a" + ")".repeat(n) + " = 1 %}",
                "{{ " + "1_".repeat(n) + " }}",
                "{{ " + "9".repeat(n) + " }}",
                "{{ '" + "\\'".repeat(n),
                "{% raw %}" + "{%".repeat(n),
                "{#" + "{%- raw -%}".repeat(n),
                "{{" + "\n".repeat(n),
                " ".repeat((1 << 20) + 1));
    }

    @ParameterizedTest
    @MethodSource("deepSources")
    void deepSourcesAreRefused(String source) {
        refused(source);
    }

    @Test
    void manySiblingsAreNotDepth() {
        String source = "{% if 1 %}a{% endif %}{{ 1 ~ 2 }}".repeat(5000) + "{% if 0 %}" + "{% elif 0 %}".repeat(5000)
                + "{% endif %}";
        assertEquals(5000 * 3, Template.compile(source).render(Map.of()).text().length());
        String concat = "{{ 'a'" + " ~ 'a'".repeat(5000) + " }}";
        assertEquals(5001, Template.compile(concat).render(Map.of()).text().length());
    }

    @Test
    void searchingIsLinear() {
        String template =
                "{% set a = 'a' * 2000000 %}{% set b = 'a' * 1000000 ~ 'b' %}{{ b in a }}{{ a.count(b) }}{{ a.rfind(b) }}"
                        + "{{ a.split(b) | length }}{{ a.replace(b, '') | length }}";
        String text = assertTimeoutPreemptively(
                SOON, () -> Template.compile(template).render(Map.of()).text());
        assertEquals("False0-112000000", text);
    }

    @Test
    void walkingTaggedTextIsLinear() {
        List<String> parts = new ArrayList<>();
        for (int i = 0; i < 100_000; i++) {
            parts.add("p");
        }
        String template =
                "{% set ns = namespace(n=0) %}{% for c in p | join('-') %}{% if c == '-' %}{% set ns.n = ns.n + 1 %}{% endif %}"
                        + "{% endfor %}{{ ns.n }}";
        String text = assertTimeoutPreemptively(
                SOON,
                () -> Template.compile(template).render(Map.of("p", parts)).text());
        assertEquals("99999", text);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "{{ ''.__class__.__mro__[1].__subclasses__() }}",
                "{{ [].__class__.__base__ }}",
                "{{ d.__init__.__globals__ }}",
                "{{ range.__self__.x }}",
                "{{ (s | attr('__class__')).x }}",
                "{{ s['__class__']['x'] }}",
                "{{ '{0.__class__.x}'.format(1) }}",
                "{{ namespace(a=1).__class__() }}",
                "{{ l.append(3) }}",
                "{{ d.update({}) }}",
                "{{ d.pop('a') }}",
                "{{ s.getClass() }}",
                "{{ l.stream() }}",
                "{{ self.x }}",
                "{{ cycler.__init__.__globals__.os }}",
                "{% include '/etc/passwd' %}",
                "{% import 'os' as os %}",
                "{% extends 'x' %}",
                "{% from 'x' import y %}",
            })
    void nothingOutsideIsReached(String template) {
        assertThrows(
                TemplateException.class,
                () -> Template.compile(template).render(Map.of("s", "x", "l", List.of(1), "d", Map.of("a", 1))));
    }

    @Test
    void limitsAreTheCallers() {
        Template template = Template.compile("{% for i in range(100) %}x{% endfor %}");
        Clock clock = Clock.systemUTC();
        assertEquals(
                100, template.render(Map.of(), Limits.DEFAULT, clock).text().length());
        Limits steps = new Limits(99, 800, 1000, 1000);
        Limits output = new Limits(10_000, 800, 99, 1000);
        Limits allocated = new Limits(10_000, 800, 1000, 99);
        Limits depth = new Limits(10_000, 1, 1000, 1000);
        for (Limits limits : List.of(steps, output, allocated, depth)) {
            TemplateException e = assertThrows(TemplateException.class, () -> template.render(Map.of(), limits, clock));
            assertEquals("LimitError", e.type());
        }
        assertThrows(IllegalArgumentException.class, () -> new Limits(0, 1, 1, 1));
    }

    @Test
    void aSmallStackIsNoCrash() throws InterruptedException {
        List<Throwable> thrown = new ArrayList<>();
        Template template = Template.compile("{% macro m() %}{{ [[[m()]]] }}{% endmacro %}{{ m() }}");
        Thread thread = new Thread(
                null,
                () -> {
                    try {
                        template.render(Map.of(), new Limits(1 << 30, 1 << 30, 1 << 20, 1 << 30), Clock.systemUTC());
                    } catch (TemplateException e) {
                        thrown.add(e);
                    }
                },
                "small stack",
                256 << 10);
        thread.start();
        thread.join();
        assertEquals(1, thrown.size());
        assertTrue(thrown.getFirst() instanceof TemplateException e && e.type().equals("LimitError"));
    }

    @Test
    void contextsAreChecked() {
        Template template = Template.compile("{{ x }}");
        Map<String, Object> loop = new HashMap<>();
        loop.put("x", loop);
        assertThrows(IllegalArgumentException.class, () -> template.render(loop));
        assertThrows(IllegalArgumentException.class, () -> template.render(Map.of("x", new Object())));
        assertThrows(IllegalArgumentException.class, () -> template.render(Map.of("x", Map.of(1, 2))));
    }

    @Test
    void errorsNameTheLine() {
        TemplateException syntax = assertThrows(TemplateException.class, () -> Template.compile("a\n\n{{ 1 + }}"));
        assertEquals(3, syntax.line());
        TemplateException runtime = assertThrows(
                TemplateException.class,
                () -> Template.compile("a\n{% if 1 %}\n{{ 1 +\n none }}{% endif %}")
                        .render(Map.of()));
        assertEquals(3, runtime.line());
        assertTrue(runtime.getMessage().contains("line 3"), runtime.getMessage());
        assertTrue(
                runtime.getMessage().contains("unsupported operand type(s) for +: 'int' and 'NoneType'"),
                runtime.getMessage());
    }
}
