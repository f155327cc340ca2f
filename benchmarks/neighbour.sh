#!/usr/bin/env bash
# What a foreign process that keeps one core busy costs: training and answering, alone and beside it, in turn. Prints the slowdown of both.
# usage: benchmarks/neighbour.sh [MODEL]     default: the demonstration model
set -euo pipefail
root=$(dirname "$(cd "$(dirname "$0")" && pwd)")
model=${1:-SmolLM2-135M-Instruct}
busy=
trap '[ -z "$busy" ] || kill "$busy"' EXIT

speed() { # OPTIONS…
    "$root/qlora" bench --model "$model" --quant_method bnb --quant_bits 4 "$@" 2>/dev/null |
        tail -n 1 | grep -o '"tokens_per_second":[0-9.]*' | cut -d: -f2
}

measure() { # NAME OPTIONS…
    local name=$1 alone beside
    shift
    alone=$(speed "$@")
    sh -c 'while :; do :; done' &
    busy=$!
    beside=$(speed "$@")
    kill "$busy"
    busy=
    awk -v n="$name" -v a="$alone" -v b="$beside" 'BEGIN { printf "%s: %.1f tokens/s alone, %.1f beside a busy process, %.2f x slower\n", n, a, b, a / b }'
}

measure "training, 512 tokens" --workload train --sequence 512
measure answering --workload generate
