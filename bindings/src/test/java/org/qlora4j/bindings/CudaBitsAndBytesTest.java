package org.qlora4j.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** libbitsandbytes ends the process over a wrong call: none may reach it. */
class CudaBitsAndBytesTest {
    @TempDir
    Path folder;

    static Stream<CudaCalls.Call> calls() {
        return CudaCalls.all().stream();
    }

    /** On machines without a GPU too. */
    @ParameterizedTest
    @MethodSource("calls")
    void refusesWrongArgumentsBeforeALibraryIsOpened(CudaCalls.Call call) {
        for (Object[] wrong : call.wrongCalls()) {
            assertInstanceOf(IllegalArgumentException.class, call.outcome(wrong), call + " " + Arrays.toString(wrong));
        }
    }

    @Test
    void everyFunctionIsTried() throws IOException {
        Set<String> functions = new TreeSet<>();
        for (Method method : CudaBitsAndBytes.class.getDeclaredMethods()) {
            if (Modifier.isPublic(method.getModifiers())) {
                functions.add(method.getName());
            }
        }
        Set<String> tried = new TreeSet<>();
        Set<String> reached = new TreeSet<>();
        calls().forEach(c -> {
            tried.add(c.method().getName());
            reached.add(c.calls());
        });
        assertEquals(functions, tried);
        assertEquals(new TreeSet<>(CudaStandIns.bitsandbytes()), reached);
    }

    /** with the library there, nothing wrong arrives; what is right arrives at the function that was meant. */
    @Test
    void onlyRightCallsReachTheLibrary() throws IOException, InterruptedException {
        Path natives = CudaStandIns.copy(
                CudaStandIns.build(folder),
                folder.resolve("natives"),
                "libcuda.so.1",
                "libcudart.so.13",
                "libcublasLt.so.13",
                "libcublas.so.13",
                "libnvrtc.so.13",
                "libbitsandbytes_cuda130.so");

        List<String> wrong = CudaStandIns.run(natives, Map.of(), "wrong");
        long expected = calls().mapToLong(c -> c.wrongCalls().size()).sum();
        assertEquals(expected, wrong.size());
        for (String line : wrong) {
            assertTrue(line.contains("||IllegalArgumentException: "), line);
        }

        List<String> right = CudaStandIns.run(natives, Map.of(), "right");
        List<CudaCalls.Call> calls = calls().toList();
        assertEquals(calls.size(), right.size());
        for (int i = 0; i < right.size(); i++) {
            assertTrue(right.get(i).endsWith("|" + calls.get(i).calls() + "|"), right.get(i));
        }

        List<String> pending = CudaStandIns.run(natives, Map.of(), "pending");
        assertEquals(calls.size(), pending.size());
        for (String line : pending) {
            assertTrue(line.contains("||NativeException: CUDA runtime: a call before "), line);
            assertTrue(line.contains("failed with status 700 (as the stand-in says"), line);
        }
        System.out.printf(
                "libbitsandbytes for CUDA: %d functions, %d wrong calls refused, %d right ones arrive%n",
                CudaStandIns.bitsandbytes().size(), wrong.size(), right.size());
    }
}
