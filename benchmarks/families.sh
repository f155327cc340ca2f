#!/usr/bin/env bash
# Small random models of all families with unusual configurations, against transformers, PEFT and llama.cpp: a table of deviations.
# usage: benchmarks/families.sh [WORK_DIR]     Needs python3 with pip, and npm; the peers are installed once (PEER=DIR to choose where).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/peer.sh"
. "$here/llama_cpp.sh"
work=${1:-$(mktemp -d)}
"$root/qlora" doctor > /dev/null # builds and fetches what is missing
. "$root/.mvn/find-jdk.sh"
"$peer/bin/python" "$here/families.py" make "$work" 2> "$work.log"
"$(find_jdk 22 running javac)/bin/java" -Xmx2g --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    -cp "$root/samples/target/*:$root/samples/target/lib/*" "$here/Families.java" "$work" 2>> "$work.log"
"$peer/bin/python" "$here/families.py" compare "$work" "$llama_cpp" 2>> "$work.log"
