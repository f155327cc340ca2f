package org.qlora4j.optim;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;

/**
 * Values of transformers' get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup and get_constant_schedule.
 */
class LearningRateTest {
    @Test
    void linearRisesAndFalls() {
        LearningRate rate = new LearningRate(LearningRate.Schedule.LINEAR, 1e-3, 4, 20);
        assertEquals(0, rate.at(0));
        assertEquals(0.5e-3, rate.at(2), 1e-15);
        assertEquals(1e-3, rate.at(4), 1e-15);
        assertEquals(0.5e-3, rate.at(12), 1e-15);
        assertEquals(0, rate.at(20), 1e-15);
    }

    @Test
    void cosineIsHalfWayInTheMiddle() {
        LearningRate rate = new LearningRate(LearningRate.Schedule.COSINE, 2, 0, 10);
        assertEquals(2, rate.at(0), 1e-12);
        assertEquals(1, rate.at(5), 1e-12);
        assertEquals(1 + Math.cos(Math.PI / 10), rate.at(1), 1e-12);
        assertEquals(0, rate.at(10), 1e-12);
    }

    @Test
    void constantHasNoWarmup() {
        assertEquals(3, new LearningRate(LearningRate.Schedule.CONSTANT, 3, 5, 10).at(0));
        assertEquals(0, new LearningRate(LearningRate.Schedule.CONSTANT_WITH_WARMUP, 3, 5, 10).at(0));
    }

    @Test
    void unknownNamesAreRefusedWithTheList() {
        String message = assertThrows(IllegalArgumentException.class, () -> LearningRate.Schedule.of("polynomial"))
                .getMessage();
        assertEquals(
                "lr_scheduler_type 'polynomial' is not supported; supported: constant, constant_with_warmup, linear, cosine",
                message);
    }
}
