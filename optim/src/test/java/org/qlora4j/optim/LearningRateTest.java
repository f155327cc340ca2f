package org.qlora4j.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every step of every schedule against transformers' (golden/optim/schedules.json, made by make_schedules.py). */
class LearningRateTest {
    private static JsonNode golden() {
        try {
            return new ObjectMapper()
                    .readTree(Path.of(System.getProperty("qlora4j.golden"), "optim/schedules.json")
                            .toFile());
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    static Stream<JsonNode> cases() {
        List<JsonNode> cases = new ArrayList<>();
        golden().path("cases").forEach(cases::add);
        assertEquals(19, cases.size());
        return cases.stream();
    }

    @ParameterizedTest
    @MethodSource("cases")
    void everyStepIsTransformers(JsonNode c) {
        double peak = golden().path("peak").doubleValue();
        Map<String, Object> kwargs = new HashMap<>();
        c.path("kwargs")
                .properties()
                .forEach(e -> kwargs.put(e.getKey(), e.getValue().asText()));
        LearningRate rate = new LearningRate(
                ScheduleNames.schedule(c.path("name").textValue(), kwargs, peak),
                peak,
                c.path("warmup").intValue(),
                c.path("total").intValue());
        for (int step = 0; step < c.path("rates").size(); step++) {
            assertEquals(c.path("rates").path(step).doubleValue(), rate.at(step), 1e-15 * peak + 1e-18, "step " + step);
        }
    }

    private static String refused(String name, Map<String, Object> kwargs) {
        return assertThrows(IllegalArgumentException.class, () -> ScheduleNames.schedule(name, kwargs, 1e-4))
                .getMessage();
    }

    @Test
    void wrongArgumentsAreRefusedByName() {
        assertTrue(refused("cosign", Map.of()).contains("cosine_with_min_lr"));
        assertTrue(refused("linear", Map.of("power", 2)).contains("'power' is not an argument of linear"));
        assertTrue(refused("cosine_with_min_lr", Map.of()).contains("min_lr"));
        assertTrue(refused("cosine_with_min_lr", Map.of("min_lr", 1e-5, "min_lr_rate", 0.1))
                .contains("either"));
        assertTrue(refused("polynomial", Map.of("lr_end", 1)).contains("must be below"));
        assertTrue(refused("polynomial", Map.of("power", "much")).contains("power must be a number, got 'much'"));
        assertTrue(refused("warmup_stable_decay", Map.of()).contains("num_decay_steps must be a number, got none"));
        assertTrue(refused("warmup_stable_decay", Map.of("num_decay_steps", 3, "decay_type", "cliff"))
                .contains("'cliff'"));
        assertThrows(IllegalArgumentException.class, () -> new LearningRate(new Schedule.Linear(), -1, 0, 1));
        assertThrows(IllegalArgumentException.class, () -> new LearningRate(new Schedule.Linear(), 1, 0, 0));
    }
}
