package org.qlora4j.lora.text.jinja;

import java.util.Iterator;
import java.util.stream.LongStream;

/** A Python range of at most {@link #MAX_SIZE} numbers, the limit of jinja2's sandbox. */
record RangeValue(long start, long stop, long step) {
    static final int MAX_SIZE = 100_000;

    RangeValue {
        if (step == 0) {
            throw PyError.value("range() arg 3 must not be zero");
        }
        // beyond 2^61 the differences below could overflow
        long largest = 1L << 61;
        if (Math.max(Math.max(start, stop), step) > largest || Math.min(Math.min(start, stop), step) < -largest) {
            throw new PyError("OverflowError", "range() arguments must lie within 2**61");
        }
        if ((stop - start) / step >= MAX_SIZE && (stop - start + step - Long.signum(step)) / step > MAX_SIZE) {
            throw new PyError(
                    "OverflowError",
                    "Range too big. The sandbox blocks ranges larger than MAX_RANGE (" + MAX_SIZE + ").");
        }
    }

    int size() {
        if (step > 0 ? start >= stop : start <= stop) {
            return 0;
        }
        return Math.toIntExact((stop - start + step - Long.signum(step)) / step);
    }

    Object get(int index) {
        return start + index * step;
    }

    Iterator<Object> iterator() {
        return LongStream.range(0, size())
                .<Object>mapToObj(i -> start + i * step)
                .iterator();
    }
}
