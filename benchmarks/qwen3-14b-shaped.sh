#!/usr/bin/env bash
# A model with Qwen3-14B's shape and generated weights: quantized, one training step, measured memory beside the estimate.
# usage: benchmarks/qwen3-14b-shaped.sh [THREADS [LAYERS]]     Needs 12 GB of free memory, no disk; minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
"$root/qlora" doctor > /dev/null # builds and fetches what is missing
. "$root/.mvn/find-jdk.sh"
exec "$(find_jdk 22 running javac)/bin/java" -Xmx1g -XX:+UseSerialGC --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    -cp "$root/samples/target/*:$root/samples/target/lib/*" "$here/Qwen3Shaped.java" "$@"
