package org.qlora4j.nf4.device;

import org.qlora4j.nf4.device.reference.ReferenceDevice;
import org.qlora4j.nf4.tensor.DType;

/** The tolerances of the contract for a device that computes in bfloat16, held by one that only rounds. */
class Bf16ReferenceOpsTest extends OpsContract {
    @Override
    Device openDevice() {
        return new ReferenceDevice(DType.BF16);
    }
}
