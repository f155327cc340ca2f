package org.qlora4j.nf4.device;

import java.util.List;
import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;

/** The contract held against a second instance of the reference: that the contract itself can be kept. */
class ReferenceOpsContractTest extends OpsContract {
    @Override
    Device openDevice() {
        return new ReferenceDevice();
    }

    @Override
    List<DType> denseTypes() {
        return List.of(DType.F64, DType.F32, DType.BF16, DType.F16);
    }
}
