package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.qlora4j.bindings.HostMemory;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

class PooledScopesTest {
    private static final long MIB = 1L << 20;

    @Test
    void tensorsAreAlignedAndDoNotOverlap() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32);
                Scope scope = scopes.newScope()) {
            List<Tensor> tensors = new ArrayList<>();
            for (int i = 0; i < 200; i++) {
                tensors.add(scope.newTensor(i % 2 == 0 ? DType.F32 : DType.U8, i % 7, 1 + i * 97));
            }
            tensors.add(scope.newTensor(700, 1000));
            for (int i = 0; i < tensors.size(); i++) {
                Tensor a = tensors.get(i);
                assertEquals(0, a.address() % PooledScopes.ALIGNMENT, a.toString());
                HostMemory.ALL.asSlice(a.address(), a.spanBytes()).fill((byte) i);
            }
            for (int i = 0; i < tensors.size(); i++) {
                Tensor a = tensors.get(i);
                for (long at = 0; at < a.spanBytes(); at += 61) {
                    assertEquals((byte) i, HostMemory.ALL.get(ValueLayout.JAVA_BYTE, a.address() + at), a.toString());
                }
            }
        }
    }

    @Test
    void steadyStateTakesNothingFromTheSystem() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32)) {
            step(scopes);
            long allocations = scopes.systemAllocations();
            long held = scopes.bytesHeld();
            for (int i = 0; i < 20; i++) {
                step(scopes);
            }
            assertEquals(allocations, scopes.systemAllocations());
            assertEquals(held, scopes.bytesHeld());
            assertEquals(held, scopes.peakBytes());
            assertEquals(held, scopes.bytesIdle());
        }
    }

    private static void step(PooledScopes scopes) {
        try (Scope step = scopes.newScope()) {
            for (int i = 0; i < 40; i++) {
                step.newTensor(100, 70 + i);
                step.newTensor(512, 576 + 100 * (i % 5));
                try (Scope inner = scopes.newScope()) {
                    inner.newTensor(1000, 1000);
                }
            }
        }
    }

    @Test
    void smallTensorsShareAChunkAndLargeOnesHaveTheirOwn() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32);
                Scope scope = scopes.newScope()) {
            for (int i = 0; i < 100; i++) {
                scope.newTensor(10, 100);
            }
            assertEquals(4 * MIB, scopes.bytesHeld());
            assertEquals(100 * 4032, scope.bytes());
            scope.newTensor(DType.F64, 1024, 1024);
            assertEquals(12 * MIB, scopes.bytesHeld());
        }
    }

    @Test
    void whatIsLeftOfAChunkIsUsedAndJoinedAgain() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32)) {
            long first = addressOf(scopes, 8);
            assertEquals(first, addressOf(scopes, 6));
            Scope low = scopes.newScope();
            Scope high = scopes.newScope();
            assertEquals(first, low.newTensor(DType.U8, 5, (int) MIB).address());
            assertEquals(first + 5 * MIB, high.newTensor(DType.U8, 3, (int) MIB).address(), "the rest");
            assertEquals(0, scopes.bytesIdle());
            low.close();
            high.close();
            assertEquals(first, addressOf(scopes, 8), "one again");
            high = scopes.newScope();
            assertEquals(first, high.newTensor(DType.U8, 1, (int) MIB).address());
            assertEquals(7 * MIB, scopes.bytesIdle());
            high.close();
            assertEquals(8 * MIB, scopes.peakBytes());
            assertEquals(1, scopes.systemAllocations());
        }
    }

    @Test
    void passesOfAllLengthsFitIntoTheLongestOnesMemory() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32)) {
            java.util.SplittableRandom random = new java.util.SplittableRandom(3);
            layers(scopes, 1000);
            long longest = scopes.peakBytes();
            for (int i = 0; i < 200; i++) {
                layers(scopes, 50 + random.nextInt(950));
            }
            assertTrue(scopes.peakBytes() <= longest * 9 / 8, scopes.peakBytes() + " for " + longest);
            assertTrue(scopes.systemAllocations() < 60, scopes.systemAllocations() + " allocations");
        }
    }

    private static void layers(PooledScopes scopes, int tokens) {
        try (Scope step = scopes.newScope()) {
            for (int layer = 0; layer < 10; layer++) {
                step.newTensor(tokens, 576);
                try (Scope work = scopes.newScope()) {
                    for (int width : new int[] {576, 192, 192, 576, 1536, 1536, 1536}) {
                        work.newTensor(tokens, width);
                    }
                }
            }
        }
    }

    private static long addressOf(PooledScopes scopes, int mib) {
        try (Scope scope = scopes.newScope()) {
            return scope.newTensor(DType.U8, mib, (int) MIB).address();
        }
    }

    @Test
    void varyingSizesDoNotPileUpIdleMemory() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32)) {
            for (int rows = 1; rows <= 60; rows++) {
                try (Scope scope = scopes.newScope()) {
                    for (int i = 0; i < 3; i++) {
                        scope.newTensor(DType.U8, rows, (int) MIB / 4);
                    }
                }
            }
            assertTrue(scopes.peakBytes() <= 3 * 15 * MIB * 2, "peak " + scopes.peakBytes());
        }
    }

    @Test
    void scopesCloseInAnyOrder() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32)) {
            Scope outer = scopes.newScope();
            Scope inner = scopes.newScope();
            Tensor a = outer.newTensor(DType.I32, 1, 4);
            Tensor b = inner.newTensor(DType.I32, 1, 4);
            HostMemory.ALL.set(ValueLayout.JAVA_INT, b.address(), 17);
            assertEquals(2, scopes.openScopes());
            outer.close();
            outer.close();
            assertEquals(1, scopes.openScopes());
            assertFalse(a.memory().isOpen());
            assertTrue(b.memory().isOpen());
            try (Scope next = scopes.newScope()) {
                Tensor c = next.newTensor(DType.I32, 1, 4);
                assertEquals(a.address(), c.address(), "reused");
                HostMemory.ALL.set(ValueLayout.JAVA_INT, c.address(), 5);
                assertNotEquals(b.address(), c.address());
            }
            assertEquals(17, HostMemory.ALL.get(ValueLayout.JAVA_INT, b.address()));
            inner.close();
            assertEquals(0, scopes.openScopes());
        }
    }

    @Test
    void closingTheDeviceClosesItsScopes() {
        PooledScopes scopes = new PooledScopes("test", DType.F32);
        Scope scope = scopes.newScope();
        Tensor t = scope.newTensor(2, 2);
        assertTrue(t.memory().isOpen());
        scopes.close();
        assertFalse(t.memory().isOpen());
        assertEquals(0, scopes.bytesHeld());
        assertThrows(IllegalStateException.class, () -> scope.newTensor(1, 1));
        IllegalStateException e = assertThrows(IllegalStateException.class, () -> {
            try (Scope none = scopes.newScope()) {
                none.newTensor(1, 1);
            }
        });
        assertTrue(e.getMessage().contains("test: cannot open a scope"), e.getMessage());
        scope.close();
        scopes.close();
    }

    /** the message names our options. */
    @Test
    void theLimitHoldsAndIdleMemoryMakesRoom() {
        try (PooledScopes scopes = new PooledScopes("small", DType.F32, 20 * MIB, false);
                Scope keep = scopes.newScope()) {
            keep.newTensor(DType.U8, 8, (int) MIB);
            addressOf(scopes, 10);
            assertEquals(18 * MIB, scopes.bytesHeld());
            addressOf(scopes, 12);
            assertEquals(20 * MIB, scopes.bytesHeld(), "the idle 10 MiB were given back");
            OutOfDeviceMemoryException e =
                    assertThrows(OutOfDeviceMemoryException.class, () -> keep.newTensor(DType.U8, 13, (int) MIB));
            assertTrue(
                    e.getMessage().startsWith("small: no room for 13,631,488 more bytes (8,388,608 in use)"),
                    e.getMessage());
            for (String option : new String[] {
                "max_length", "packing_length", "per_device_train_batch_size", "gradient_checkpointing"
            }) {
                assertTrue(e.getMessage().contains(option), e.getMessage());
            }
            assertThrows(OutOfDeviceMemoryException.class, () -> keep.newTensor(DType.F64, 1 << 30, 1 << 30));
            keep.newTensor(DType.U8, 12, (int) MIB);
        }
    }

    @Test
    void sizesBeyondTheSystemAreAnExceptionNotAnError() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32);
                Scope scope = scopes.newScope()) {
            assertThrows(
                    OutOfDeviceMemoryException.class,
                    () -> scope.newTensor(DType.F64, Integer.MAX_VALUE, Integer.MAX_VALUE));
            assertThrows(OutOfDeviceMemoryException.class, () -> scope.newTensor(DType.U8, Integer.MAX_VALUE, 1 << 23));
            assertThrows(IllegalArgumentException.class, () -> scope.newTensor(-1, 4));
            assertEquals(0, scopes.bytesHeld());
        }
    }

    @Test
    void poisonMakesNewTensorsNaN() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F64, 1L << 40, true);
                Scope scope = scopes.newScope()) {
            Tensor t = scope.newTensor(3, 3);
            assertEquals(DType.F64, t.dtype());
            for (int i = 0; i < 9; i++) {
                assertTrue(Double.isNaN(HostMemory.ALL.get(ValueLayout.JAVA_DOUBLE, t.address() + 8L * i)));
            }
        }
    }
}
