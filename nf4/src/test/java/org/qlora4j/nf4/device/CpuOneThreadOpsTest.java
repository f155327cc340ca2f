package org.qlora4j.nf4.device;

import org.qlora4j.nf4.device.cpu.CpuDevice;

/** The CPU device on the calling thread alone. */
class CpuOneThreadOpsTest extends OpsContract {
    @Override
    Device openDevice() {
        return new CpuDevice(1);
    }
}
