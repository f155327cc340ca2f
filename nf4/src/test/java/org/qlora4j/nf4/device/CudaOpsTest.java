package org.qlora4j.nf4.device;

import java.util.List;
import org.qlora4j.nf4.device.cuda.CudaDevice;
import org.qlora4j.nf4.device.cuda.CudaSimulator;
import org.qlora4j.nf4.weight.Blockwise8;

/** Every operation of a GPU against the reference, on the simulated one, or with -Pgpu on a real one. */
class CudaOpsTest extends OpsContract {
    @Override
    Device openDevice() {
        CudaSimulator.installUnlessReal();
        return new CudaDevice(0);
    }

    /** For the same reason as {@link #optimizerTolerance}. */
    @Override
    double otherCodes() {
        return 3e-3;
    }

    @Override
    List<Blockwise8.Rule> roundings() {
        return List.of(Blockwise8.Rule.NEAREST);
    }

    /**
     * libbitsandbytes takes 1 − beta in fp32: of beta2 0.999 that is 1.2e-5 off, three times what the contract allows.
     */
    @Override
    double optimizerTolerance() {
        return 4e-6;
    }
}
