#!/usr/bin/env bash
# What a token of training costs on this CPU, by the model's size and by the sequence's length, on 1 and 2 threads: prints a
# table, keeps the lines of JSON in RESULT, and draws docs/cost_by_parameters.png and docs/cost_by_length.png.
# usage: benchmarks/scaling_cpu.sh [RESULT.jsonl]     MODELS, LENGTHS, THREADS and PICTURES (a folder) may be set.
# Needs 8 GB of free memory for the largest model; half an hour on 2 cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
result=${1:-scaling_cpu.jsonl}
"$root/qlora" doctor > /dev/null # builds and fetches what is missing
. "$root/.mvn/find-jdk.sh"
java=$(find_jdk 22 running javac)/bin/java

run() { # CLASS ARGUMENTS…
    "$java" -Xmx2g -XX:+UseSerialGC --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
        -cp "$root/samples/target/*:$root/samples/target/lib/*" "$here/$1.java" "${@:2}"
}

: > "$result"
for threads in ${THREADS:-1 2}; do
    for model in ${MODELS-qwen3-0.6b qwen3-1.7b llama2-7b}; do
        run ScalingCpu "$model" "$threads" 256 1 2> /dev/null | tail -n 1 | tee -a "$result" >&2
    done
    for length in ${LENGTHS-128 256 512 1024 2048 4096}; do
        # a short step is timed more often, and has warmed up as often
        run ScalingCpu smollm2-135m "$threads" "$length" $((length < 512 ? 8 : length < 2048 ? 4 : 2)) 2> /dev/null |
            tail -n 1 | tee -a "$result" >&2
    done
done
run Plot scaling "$result" "${PICTURES:-$root/docs}" 2> /dev/null
python3 - "$result" <<'PY'
import json, sys

print("| model | threads | tokens | tokens/s | ms per token | share of the floor |")
print("|---|---|---|---|---|---|")
for line in open(sys.argv[1]):
    r = json.loads(line)
    print(f"| {r['model']}, {r['parameters'] / 1e6:.0f} M | {r['threads']} | {r['sequence']} | {r['tokens_per_second']:.1f} "
          f"| {r['ms_per_token']:.2f} | {100 * r['share_of_floor']:.0f} % |")
PY
