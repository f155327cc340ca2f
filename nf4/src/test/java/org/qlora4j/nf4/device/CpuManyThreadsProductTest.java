package org.qlora4j.nf4.device;

import org.qlora4j.nf4.device.cpu.CpuDevice;

/** Products on more threads than some of them have shares for. */
class CpuManyThreadsProductTest extends ProductContract {
    @Override
    Device openDevice() {
        return new CpuDevice(9);
    }
}
