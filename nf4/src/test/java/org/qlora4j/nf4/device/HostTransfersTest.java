package org.qlora4j.nf4.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;

class HostTransfersTest {
    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F64", "F32", "BF16", "F16"})
    void floatsGoThereAndBackThroughStridedTensors(DType type) {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32);
                Scope scope = scopes.newScope()) {
            Tensor whole = scope.newTensor(type, 4, 5);
            HostTransfers.upload(whole, new double[20], 0);
            Tensor part = whole.rows(1, 2).cols(1, 3);
            HostTransfers.upload(part, new float[] {9, 1, -2, 0.5f, 4, 1.25f, 6, 9}, 1);
            double[] all = new double[20];
            HostTransfers.download(whole, all, 0);
            assertArrayEquals(new double[] {0, 0, 0, 0, 0, 0, 1, -2, 0.5, 0, 0, 4, 1.25, 6, 0, 0, 0, 0, 0, 0}, all);
            float[] back = new float[8];
            HostTransfers.download(part, back, 2);
            assertArrayEquals(new float[] {0, 0, 1, -2, 0.5f, 4, 1.25f, 6}, back);
            byte[] bytes = new byte[6 * type.bytes()];
            HostTransfers.download(part, bytes, 0);
            Tensor other = scope.newTensor(type, 3, 2);
            HostTransfers.upload(other, bytes, 0);
            float[] again = new float[6];
            HostTransfers.download(other, again, 0);
            assertArrayEquals(new float[] {1, -2, 0.5f, 4, 1.25f, 6}, again);
        }
    }

    @Test
    void everyBf16AndItsNeighboursRoundToNearestEven() {
        for (int bits = 0; bits < 0x7F7F; bits++) {
            float value = HostElements.bf16ToFloat((short) bits);
            float next = HostElements.bf16ToFloat((short) (bits + 1));
            float middle = (float) (((double) value + next) / 2);
            assertEquals((short) bits, HostElements.floatToBf16(value));
            assertEquals((short) bits, HostElements.floatToBf16(Math.nextDown(middle)), "below " + middle);
            assertEquals((short) (bits + (bits & 1)), HostElements.floatToBf16(middle), "at " + middle);
            assertEquals((short) (bits + 1), HostElements.floatToBf16(Math.nextUp(middle)), "above " + middle);
            assertEquals((short) (bits | 0x8000), HostElements.floatToBf16(-value));
        }
        assertTrue(Float.isNaN(HostElements.bf16ToFloat(HostElements.floatToBf16(Float.intBitsToFloat(0x7F800001)))));
        assertEquals(Float.POSITIVE_INFINITY, HostElements.bf16ToFloat(HostElements.floatToBf16(Float.MAX_VALUE)));
    }

    @Test
    void mistakesAreNamed() {
        try (PooledScopes scopes = new PooledScopes("test", DType.F32)) {
            Tensor late;
            try (Scope scope = scopes.newScope()) {
                Tensor t = scope.newTensor(2, 3);
                late = t;
                IndexOutOfBoundsException e =
                        assertThrows(IndexOutOfBoundsException.class, () -> HostTransfers.upload(t, new float[6], 1));
                assertEquals(
                        "upload: F32 [2, 3] on test needs 6 array elements from 1, the array has 6", e.getMessage());
                assertThrows(IndexOutOfBoundsException.class, () -> HostTransfers.download(t, new byte[23], 0));
                assertThrows(IndexOutOfBoundsException.class, () -> HostTransfers.download(t, new double[9], -1));
                assertThrows(ShapeException.class, () -> HostTransfers.upload(t, new int[6], 0));
                Tensor ids = scope.newTensor(DType.I32, 1, 2);
                assertThrows(ShapeException.class, () -> HostTransfers.download(ids, new float[2], 0));
                assertThrows(ShapeException.class, () -> HostTransfers.download(t, new int[6], 0));
                HostTransfers.upload(ids, new int[] {7, -1}, 0);
                int[] values = new int[3];
                HostTransfers.download(ids, values, 1);
                assertArrayEquals(new int[] {0, 7, -1}, values);
            }
            IllegalStateException e =
                    assertThrows(IllegalStateException.class, () -> HostTransfers.upload(late, new float[6], 0));
            assertTrue(e.getMessage().contains("closed"), e.getMessage());
        }
    }
}
