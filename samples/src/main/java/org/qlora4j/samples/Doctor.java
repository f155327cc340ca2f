package org.qlora4j.samples;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.qlora4j.bindings.BitsAndBytes;
import org.qlora4j.bindings.CudaNatives;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.bindings.Natives;
import org.qlora4j.nf4.Devices;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.device.Scope;
import org.qlora4j.nf4.tensor.DType;
import org.qlora4j.nf4.tensor.Tensor;
import org.qlora4j.nf4.weight.BlockQuantizer;
import org.qlora4j.nf4.weight.QuantType;

/** {@code qlora doctor}: what is on this machine, and a real quantize and dequantize through libbitsandbytes. */
final class Doctor {
    private static final int BLOCK = 64;
    private static final int N = 64 * BLOCK;

    private Doctor() {}

    static int run(Arguments a) {
        System.out.println("java " + System.getProperty("java.version") + " (" + System.getProperty("java.vm.name")
                + "), " + System.getProperty("os.name") + " " + System.getProperty("os.arch"));
        Session.useNatives(a);
        for (NativePackage p : NativePackage.values()) {
            System.out.println(p.coordinates() + ": "
                    + NativePackages.find(p).map(Object::toString).orElse("not fetched"));
        }
        System.out.println("oneDNN: " + Natives.oneDnn());
        System.out.println("bitsandbytes: " + Natives.bitsandbytes() + ", AVX-512 " + BitsAndBytes.hasAvx512()
                + ", bf16 " + BitsAndBytes.hasAvx512Bf16());
        System.out.println(cuda());
        try (Device device = Devices.open(a.text("device"), a.integer("threads"));
                Scope scope = device.newScope()) {
            System.out.println(device.description());
            smokeTest(device, scope);
        }
        return 0;
    }

    /** CUDA's libraries, or why no GPU can be used, which is no failure here. */
    private static String cuda() {
        try {
            return "CUDA: " + CudaNatives.require().libraries();
        } catch (NativeException e) {
            return String.valueOf(e.getMessage());
        }
    }

    /** {@code qlora natives}: fetches everything, what only a GPU needs if asked for. */
    static int fetch(Arguments a) {
        Session.nameNatives(a);
        List<NativePackage> all = Arrays.stream(NativePackage.values())
                .filter(p -> p == NativePackage.NCCL ? a.bool("nccl") : !p.isForCuda() || a.bool("cuda"))
                .toList();
        for (NativePackage wanted : all) {
            System.out.printf(
                    Locale.ROOT,
                    "%s: %.0f MB%s%n",
                    wanted.coordinates(),
                    wanted.bytes() / 1e6,
                    NativePackages.find(wanted).isPresent() ? ", here already" : " to fetch");
        }
        for (NativePackage wanted : all) {
            System.out.println(wanted.coordinates() + " -> " + NativePackages.ensure(wanted, System.out::println));
        }
        return 0;
    }

    /** Codes made in Java, decoded by libbitsandbytes and by us: all three must agree to the bit. */
    private static void smokeTest(Device device, Scope scope) {
        float[] x = new float[N];
        for (int i = 0; i < N; i++) {
            x[i] = (float) Math.sin(i * 0.37) * (1 + i % 7);
        }
        byte[] packed = new byte[N / 2];
        float[] absmax = new float[N / BLOCK];
        BlockQuantizer.quantize(QuantType.NF4, BLOCK, x, 0, N, packed, 0, absmax, 0);
        float[] expected = new float[N];
        BlockQuantizer.dequantize(QuantType.NF4, BLOCK, packed, absmax, 0, N, expected, 0);
        Tensor codes = scope.newTensor(DType.U8, 1, packed.length);
        Tensor scales = scope.newTensor(DType.F32, 1, absmax.length);
        Tensor out = scope.newTensor(DType.F32, 1, N);
        device.upload(codes, packed, 0);
        device.upload(scales, absmax, 0);
        BitsAndBytes.dequantize4Bit(
                BitsAndBytes.FourBit.NF4, codes.address(), scales.address(), out.address(), BLOCK, N);
        float[] found = new float[N];
        device.download(out, found, 0);
        for (int i = 0; i < N; i++) {
            if (found[i] != expected[i]) {
                throw new UserException("NF4 smoke test: element " + i + " is " + found[i] + " from libbitsandbytes, "
                        + expected[i] + " from Java");
            }
        }
        System.out.println("NF4 smoke test: " + N + " values quantized and dequantized, bit for bit as expected");
    }
}
