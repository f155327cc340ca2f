#!/usr/bin/env bash
# Every adapter option, trained and saved here, opened by the real PEFT: the largest difference of the logits.
# usage: benchmarks/adapter_options.sh [WORK_DIR]     Needs python3 with torch, transformers, peft in PEER (as compare.sh installs it).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
peer=${PEER:-${XDG_CACHE_HOME:-$HOME/.cache}/qlora4j/peer}
work=${1:-$(mktemp -d)}
base=$root/golden/models/llama_tied/base
. "$root/.mvn/find-jdk.sh"
java=$(find_jdk 22 running javac)/bin/java
"$java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED -cp "${CLASSES:-$root/samples/target/*:$root/samples/target/lib/*}" \
    "$here/AdapterOptions.java" "$base" "$work"
HF_HUB_OFFLINE=1 "$peer/bin/python" "$here/adapter_options.py" "$base" "$work"
