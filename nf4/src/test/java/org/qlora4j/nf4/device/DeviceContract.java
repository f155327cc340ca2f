package org.qlora4j.nf4.device;

import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.qlora4j.nf4.device.TwoDevices.Layout;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.weight.Blockwise8;

/** What the parts of {@link OpsContract} share. */
abstract class DeviceContract {
    /** Vector widths and their neighbours. */
    static final int[] SIZES = {1, 3, 5, 7, 8, 13, 16, 17, 31, 64, 65, 100, 129};

    static final double[] SCALES = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

    /** Tolerance of an elementwise result, and of sums over {@link #SIZES} at most. */
    double element;

    /** The same for optimizer steps, which are in the device's precise type. */
    double optimizer;

    TwoDevices both;

    /** Opens a device of the kind under test; the contract closes it. */
    abstract Device openDevice();

    /** Types dense weights may have on the device. */
    List<DType> denseTypes() {
        return List.of(DType.F32, DType.BF16, DType.F16);
    }

    /** How the device rounds 8-bit state. */
    List<Blockwise8.Rule> roundings() {
        return List.of(Blockwise8.Rule.values());
    }

    /** Share of 8-bit state that rounding may tip over to another code. */
    double otherCodes() {
        return 1e-3;
    }

    double optimizerTolerance() {
        return Tolerances.element(both.device.preciseType());
    }

    @BeforeEach
    void open() {
        both = new TwoDevices(openDevice(), 20261124);
        element = Tolerances.element(both.type());
        optimizer = optimizerTolerance();
    }

    @AfterEach
    void closeBoth() {
        both.close();
    }

    double sum(int k) {
        return Tolerances.sum(both.type(), k);
    }

    static Layout layout(int i) {
        return i % 2 == 0 ? Layout.CONTIGUOUS : Layout.STRIDED;
    }
}
