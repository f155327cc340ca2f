#!/usr/bin/env bash
# Data parallel on this machine: 2 ranks of one thread each against 1 rank of one thread, the same total batch. Prints tokens/s of both, their
# ratio, and whether the adapters are equal to the bit.
#   benchmarks/mpi.sh [MODEL [STEPS]]     default: the demonstration model, 4 steps of 8 passes
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
model=${1:-SmolLM2-135M-Instruct}
steps=${2:-4}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

train() { # ranks
    mpirun -n "$1" --oversubscribe --bind-to none "$root/qlora" sft --model "$model" --quant_method bnb --quant_bits 4 \
        --dataset "$root/samples/data/alpaca-en.jsonl#64" --gradient_accumulation_steps 8 --max_steps "$steps" --logging_steps "$steps" \
        --threads 1 --output_dir "$work/$1" --add_version false >"$work/$1.txt" 2>&1 || { cat "$work/$1.txt" >&2; exit 1; }
    # the first line of the log is the first step, which compiles; the last one is the mean of the others
    tail -n 1 "$work/$1/logging.jsonl" | grep -o '"tokens_per_second":[0-9.]*' | cut -d: -f2
}

one=$(train 1)
two=$(train 2)
echo "1 rank x 1 thread:  $one tokens/s"
echo "2 ranks x 1 thread: $two tokens/s"
echo "ratio: $(awk "BEGIN { printf \"%.2f\", $two / $one }")"
cmp "$work"/1/checkpoint-"$steps"/adapter_model.safetensors "$work"/2/checkpoint-"$steps"/adapter_model.safetensors &&
    echo "the adapters are equal to the bit"
