package org.qlora4j.bindings;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.qlora4j.bindings.CudaBitsAndBytes.FourBit;
import org.qlora4j.bindings.CudaBitsAndBytes.Rule;
import org.qlora4j.bindings.CudaBitsAndBytes.Scales;
import org.qlora4j.bindings.CudaBitsAndBytes.State8;
import org.qlora4j.bindings.CudaBitsAndBytes.Step;
import org.qlora4j.bindings.symbols.LibrarySymbols;

/**
 * Calls of every function of {@link CudaBitsAndBytes}, right and wrong ones, and a program that makes them: with
 * stand-ins for CUDA's libraries, which stay in a process once they are opened.
 */
@SuppressWarnings("restricted")
final class CudaCalls {
    /** Numbers that no int, or no array, can count. */
    private static final Object[] LENGTHS = {0L, -1L, 1L << 31, Long.MIN_VALUE};

    private static final Object[] BLOCKS = {0, -64, 16, 48, 8192, Integer.MIN_VALUE};
    private static final Step STEP = new Step(0.9f, 0.99f, 0.999f, 5, 1e-8f, 0.01f, 1, 1e-3f, 1);

    private CudaCalls() {}

    /**
     * A function with right arguments and, by their position, wrong ones.
     *
     * @param calls the C function that it must reach
     */
    record Call(String calls, Method method, Object[] right, Map<Integer, Object[]> wrong) {
        /** Each wrong argument among right ones. */
        List<Object[]> wrongCalls() {
            List<Object[]> all = new ArrayList<>();
            wrong.forEach((position, values) -> {
                for (Object value : values) {
                    Object[] arguments = right.clone();
                    arguments[position] = value;
                    all.add(arguments);
                }
            });
            return all;
        }

        /** Null if it returns, else what it throws. */
        @org.jspecify.annotations.Nullable
        Throwable outcome(Object[] arguments) {
            try {
                method.invoke(null, arguments);
                return null;
            } catch (InvocationTargetException e) {
                return e.getCause();
            } catch (IllegalAccessException e) {
                throw new AssertionError(e);
            }
        }

        @Override
        public String toString() {
            return method.getName() + " to " + calls;
        }
    }

    /** @param wrong positions, each with its wrong values */
    private static Call call(String calls, String name, Object[] right, Object... wrong) {
        Method method = Arrays.stream(CudaBitsAndBytes.class.getDeclaredMethods())
                .filter(m -> m.getName().equals(name) && m.getParameterCount() == right.length)
                .findFirst()
                .orElseThrow();
        Map<Integer, Object[]> byPosition = new TreeMap<>();
        for (int i = 0; i < wrong.length; i += 2) {
            byPosition.put((Integer) wrong[i], (Object[]) wrong[i + 1]);
        }
        return new Call(calls, method, right, byPosition);
    }

    private static Object[] of(Object... values) {
        return values;
    }

    private static Object[] floats() {
        return of(0L, 65L, 66L);
    }

    static List<Call> all() {
        List<Call> all = new ArrayList<>();
        for (FourBit type : FourBit.values()) {
            String suffix = type == FourBit.NF4 ? "nf4" : "fp4";
            all.add(call(
                    "cquantize_blockwise_fp32_" + suffix,
                    "quantize4Bit",
                    of(type, 64L, 64L, 65L, 64, 129L),
                    1,
                    floats(),
                    2,
                    floats(),
                    3,
                    of(0L),
                    4,
                    BLOCKS,
                    5,
                    LENGTHS));
            all.add(call(
                    "cdequantize_blockwise_bf16_" + suffix,
                    "dequantize4BitToBf16",
                    of(type, 65L, 64L, 66L, 64, 129L, 0L),
                    of(1, of(0L), 2, floats(), 3, of(0L, 65L), 4, BLOCKS, 5, LENGTHS)));
            for (Scales scales : List.of(new Scales.Plain(64), new Scales.Nested(65, 64, 64, 64))) {
                all.add(call(
                        "cgemm_4bit_bf16",
                        "gemm4Bit",
                        of(type, 64L, 64L, scales, 66L, 3, 5, 128, 64, 0L),
                        gemmWrong()));
            }
        }
        Object[] eightBit = {0, -64, 32, 48, 8192};
        all.add(call(
                "cquantize_blockwise_fp32",
                "quantize8Bit",
                of(64L, 64L, 64L, 65L, 256, 129L),
                0,
                floats(),
                1,
                floats(),
                2,
                floats(),
                3,
                of(0L),
                4,
                eightBit,
                5,
                LENGTHS));
        all.add(call(
                "cdequantize_blockwise_fp32",
                "dequantize8Bit",
                of(64L, 65L, 64L, 64L, 256, 129L, 0L),
                0,
                floats(),
                1,
                of(0L),
                2,
                floats(),
                3,
                floats(),
                4,
                eightBit,
                5,
                of(0L, -1L, (1L << 30) + 1)));
        for (Rule rule : Rule.values()) {
            all.add(step32(rule));
            all.add(step8(rule));
        }
        all.add(call("cget_managed_ptr", "allocateManaged", of(4096L), 0, of(0L, -1L)));
        all.add(call("cprefetch", "prefetch", of(64L, 4096L, 0), 0, of(0L), 1, of(0L, -1L), 2, of(-1)));
        return all;
    }

    private static Object[] gemmWrong() {
        Object[] scales = {
            new Scales.Plain(0),
            new Scales.Plain(66),
            new Scales.Nested(0, 64, 64, 64),
            new Scales.Nested(65, 0, 64, 64),
            new Scales.Nested(65, 66, 64, 64),
            new Scales.Nested(65, 64, 0, 64),
            new Scales.Nested(65, 64, 66, 64),
            new Scales.Nested(65, 64, 64, 0),
            new Scales.Nested(65, 64, 64, 66)
        };
        // m·n, n·k/2 and m·k beyond an int; the grid's rows; k no multiple of the block size
        Object[] m = {0, -1, 524_281, Integer.MAX_VALUE};
        Object[] n = {0, -1, 1 << 25, Integer.MAX_VALUE};
        Object[] k = {0, -64, 96, 1 << 30};
        return of(1, of(0L, 72L), 2, of(0L, 72L), 3, scales, 4, of(0L, 65L), 5, m, 6, n, 7, k, 8, BLOCKS);
    }

    private static Object[] steps() {
        return of(
                new Step(0.9f, 0.99f, 0.999f, 5, 1e-8f, 0, 0, 1e-3f, 1),
                new Step(Float.NaN, 0.99f, 0.999f, 5, 1e-8f, 0, 1, 1e-3f, 1),
                new Step(0.9f, Float.NaN, 0.999f, 5, 1e-8f, 0, 1, 1e-3f, 1),
                new Step(0.9f, 0.99f, Float.NaN, 5, 1e-8f, 0, 1, 1e-3f, 1),
                new Step(0.9f, 0.99f, 0.999f, Float.NaN, 1e-8f, 0, 1, 1e-3f, 1),
                new Step(0.9f, 0.99f, 0.999f, 5, Float.NaN, 0, 1, 1e-3f, 1),
                new Step(0.9f, 0.99f, 0.999f, 5, 1e-8f, Float.NaN, 1, 1e-3f, 1),
                new Step(0.9f, 0.99f, 0.999f, 5, 1e-8f, 0, 1, Float.POSITIVE_INFINITY, 1),
                new Step(0.9f, 0.99f, 0.999f, 5, 1e-8f, 0, 1, 1e-3f, Float.NaN));
    }

    private static Call step32(Rule rule) {
        boolean halves = rule == Rule.ADAM || rule == Rule.ADEMAMIX || rule == Rule.LION;
        return call(
                "c" + name(rule) + "32bit_grad_" + (halves ? "fp32" : "32"),
                "step32",
                of(rule, 64L, 64L, 64L, rule.hasState2() ? 64L : 0L, STEP, 129L),
                1,
                floats(),
                2,
                floats(),
                3,
                floats(),
                4,
                rule.hasState2() ? floats() : of(),
                5,
                steps(),
                6,
                LENGTHS);
    }

    private static Call step8(Rule rule) {
        List<Object> states = new ArrayList<>(List.of(
                new State8(0, 64, 64, 65, 64, 64),
                new State8(65, 0, 64, 65, 64, 64),
                new State8(65, 66, 64, 65, 64, 64),
                new State8(65, 64, 0, 65, 64, 64),
                new State8(65, 64, 66, 65, 64, 64)));
        if (rule.hasState2()) {
            states.addAll(List.of(
                    new State8(65, 64, 64, 0, 64, 64),
                    new State8(65, 64, 64, 65, 0, 64),
                    new State8(65, 64, 64, 65, 66, 64),
                    new State8(65, 64, 64, 65, 64, 0),
                    new State8(65, 64, 64, 65, 64, 66)));
        }
        // the second half of AdEMAMix's first state has scales of its own only after whole blocks
        Object[] lengths = rule == Rule.ADEMAMIX ? of(0L, -1L, 1L << 31, 129L) : LENGTHS;
        return call(
                "c" + name(rule) + "_8bit_blockwise_grad_fp32",
                "step8",
                of(rule, 64L, 64L, new State8(65, 64, 64, 65, 64, 64), STEP, rule == Rule.ADEMAMIX ? 256L : 129L),
                1,
                floats(),
                2,
                floats(),
                3,
                states.toArray(),
                4,
                steps(),
                5,
                lengths);
    }

    private static String name(Rule rule) {
        return rule.name().toLowerCase(java.util.Locale.ROOT);
    }

    /**
     * Prints a line for each call: {@code open}: the libraries that are opened; {@code wrong} and {@code right}: the
     * call, the function of libbitsandbytes that was reached, what was thrown; {@code pending}: the right calls after
     * an error that nobody has looked at.
     */
    public static void main(String[] arguments) {
        if (arguments[0].equals("open")) {
            try {
                CudaNatives natives = CudaNatives.require();
                System.out.println(natives.driverVersion() + " " + natives.runtimeVersion());
                natives.libraries().forEach(l -> System.out.println(l.path()));
            } catch (RuntimeException e) {
                System.out.println(e.getMessage());
            }
            return;
        }
        CudaNatives.require();
        if (arguments[0].equals("pending")) {
            invoke("libcudart.so", "standin_pending", FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT), 700);
        }
        for (Call call : all()) {
            List<Object[]> calls = arguments[0].equals("wrong") ? call.wrongCalls() : List.<Object[]>of(call.right());
            for (Object[] one : calls) {
                Throwable thrown = call.outcome(one);
                MemorySegment arrived = (MemorySegment) invoke(
                        "libbitsandbytes_cuda.so", "standin_arrived", FunctionDescriptor.of(ValueLayout.ADDRESS));
                System.out.println(call.method().getName() + Arrays.toString(one) + "|"
                        + arrived.reinterpret(Long.MAX_VALUE).getString(0) + "|"
                        + (thrown == null ? "" : thrown.getClass().getSimpleName() + ": " + thrown.getMessage()));
            }
        }
    }

    private static Object invoke(String library, String function, FunctionDescriptor signature, Object... arguments) {
        try {
            Object result = Linker.nativeLinker()
                    .downcallHandle(LibrarySymbols.of(library).find(function), signature)
                    .invokeWithArguments(arguments);
            return result == null ? MemorySegment.NULL : result;
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }
}
