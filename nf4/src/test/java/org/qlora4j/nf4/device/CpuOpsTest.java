package org.qlora4j.nf4.device;

import org.qlora4j.nf4.device.cpu.CpuDevice;

/** The CPU device on two threads. */
class CpuOpsTest extends OpsContract {
    @Override
    Device openDevice() {
        return new CpuDevice(2);
    }
}
