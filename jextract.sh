#!/usr/bin/env bash
# Writes bindings/src/main/generated from C headers. Run by hand when a header or an include list changes; the result is committed.
#   JEXTRACT          the jextract binary (default: the one on PATH)
#   CUDA_INCLUDE      folder with cuda.h, cublas_v2.h and nvrtc.h of CUDA 13.2 (nvidia/cu13/include of the Python packages nvidia-cuda-runtime 13.2,
#                     nvidia-cuda-crt 13.2, nvidia-cuda-cccl 13.2, nvidia-cublas 13.4 and nvidia-cuda-nvrtc 13.2)
#   MPI_INCLUDE       folder with mpi.h of Open MPI 4.1 (Debian's libopenmpi-dev: /usr/lib/x86_64-linux-gnu/openmpi/include)
#   ONEDNN_INCLUDE    folder with oneapi/dnnl/dnnl.h of oneDNN 3.13 (in the jar org.bytedeco:dnnl:3.13-1.5.14:linux-x86_64)
# Written with jextract f9866df (August 2026) on JDK 25 with libclang 14, on Linux x86-64; the output depends on the platform.
set -euo pipefail
cd "$(dirname "$0")"
fail() { echo "jextract.sh: $*" >&2; exit 1; }
jextract=${JEXTRACT:-$(command -v jextract || true)}
[ -n "$jextract" ] || fail "set JEXTRACT to the jextract binary"
[ -f "${ONEDNN_INCLUDE:-}/oneapi/dnnl/dnnl.h" ] || fail "set ONEDNN_INCLUDE to the folder that holds oneapi/dnnl/dnnl.h"
[ -f "${MPI_INCLUDE:-}/mpi.h" ] || fail "set MPI_INCLUDE to the folder that holds mpi.h"
[ -f "${CUDA_INCLUDE:-}/cublas_v2.h" ] || fail "set CUDA_INCLUDE to the folder that holds cuda.h, cublas_v2.h and nvrtc.h"

final=bindings/src/main/generated
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# count PATTERN FILE…: lines that match, over all files
count() { cat "${@:2}" | grep -c -- "$1" || true; }
# expect WHAT FOUND WANTED
expect() { [ "$2" = "$3" ] || fail "$1: expected $3, found $2; this jextract writes other code than the rewriting below knows"; }

# generate NAME HEADER LIBRARY [ARGS…]: package org.qlora4j.bindings.generated.NAME from bindings/jextract/HEADER.h and NAME.args
generate() {
    local name=$1 header=$2 library=$3
    shift 3
    local functions variables dir=$work/org/qlora4j/bindings/generated/$name file=${header}_h.java
    functions=$(count '^--include-function ' "bindings/jextract/$name.args")
    variables=$(count '^--include-var ' "bindings/jextract/$name.args")
    "$jextract" --output "$work" --target-package "org.qlora4j.bindings.generated.$name" "$@" \
        "@bindings/jextract/$name.args" "bindings/jextract/$header.h"

    # 1. This library's own symbols: the CPU and CUDA builds of libbitsandbytes export the same names, and the loader's look-up mixes them.
    sed -i -e '/^    static final SymbolLookup SYMBOL_LOOKUP = SymbolLookup\.loaderLookup()$/{
        N
        s/.*\n *\.or(Linker\.nativeLinker()\.defaultLookup());$/    static final LibrarySymbols SYMBOL_LOOKUP = LibrarySymbols.of("'"$library"'");/
    }' "$dir/$file"
    expect "look-ups of $name" "$(count '= LibrarySymbols\.of(' "$dir"/*.java)" 1
    sed -i 's/^import java\.lang\.foreign\.\*;$/&\nimport org.qlora4j.bindings.symbols.LibrarySymbols;/' "$dir/$file"
    expect "imports of $name" "$(count '^import org\.qlora4j\.bindings\.symbols\.LibrarySymbols;' "$dir"/*.java)" 1

    # 2. Our find, which says which library was asked; findOrThrow is Java 23.
    sed -i 's/SYMBOL_LOOKUP\.findOrThrow(\("[A-Za-z0-9_]*"\))/SYMBOL_LOOKUP.find(\1)/' "$dir/$file"
    expect "functions of $name" "$(count ' ADDR = SYMBOL_LOOKUP\.find("' "$dir"/*.java)" "$functions"
    expect "variables of $name" "$(count ' SEGMENT = SYMBOL_LOOKUP\.find("' "$dir"/*.java)" "$variables"
    expect "findOrThrow left in $name" "$(count 'findOrThrow' "$dir"/*.java)" 0

    # 3. The restricted calls of generated code are wanted.
    sed -i 's/^public class /@SuppressWarnings("restricted")\n&/' "$dir"/*.java
    expect "classes of $name" "$(count '^@SuppressWarnings("restricted")$' "$dir"/*.java)" "$(ls "$dir" | wc -l)"
    sed -i 's/[[:space:]]*$//' "$dir"/*.java
    echo "$name: $functions functions"
}

generate bitsandbytes bitsandbytes libbitsandbytes_cpu.so
generate dnnl dnnl libdnnl.so.3 -I "$ONEDNN_INCLUDE"
# CUDA's libraries have other file names with each major version: they go by their names without it
generate bitsandbytes_cuda bitsandbytes libbitsandbytes_cuda.so
generate cuda cuda libcuda.so -I "$CUDA_INCLUDE"
generate cudart cudart libcudart.so
generate cublas cublas libcublas.so -I "$CUDA_INCLUDE" -I "$CUDA_INCLUDE/cccl"
generate nvrtc nvrtc libnvrtc.so -I "$CUDA_INCLUDE"
generate nccl nccl libnccl.so
# Open MPI 4 and 5 have this file name
generate mpi mpi libmpi.so.40 -I "$MPI_INCLUDE"
rm -rf "$final"
mkdir -p "$final"
cp -r "$work/org" "$final/"
