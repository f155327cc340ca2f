#!/usr/bin/env bash
# LoRA on routers and experts of a small random qwen3_moe, trained here: opened by PEFT against merged here.
# usage: benchmarks/mixture.sh [WORK_DIR]     Needs python3 with pip; the peers are installed once (PEER=DIR to choose where).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/peer.sh"
work=${1:-$(mktemp -d)}
mkdir -p "$work"
q=$root/qlora
[ -e "$work/tokenizer" ] || "$q" export --model SmolLM2-135M-Instruct --output_dir "$work/tokenizer" >&2
"$peer/bin/python" "$here/mixture.py" make "$work/tokenizer" "$work/base" 2> "$work/peers.log"
rm -rf "$work/adapter" "$work/merged"
# PEFT's experts take no dropout
"$q" sft --model "$work/base" --dataset "$root/samples/data/alpaca-en.jsonl#40" --lora_dropout 0 --max_steps 12 --learning_rate 1e-2 \
    --gradient_accumulation_steps 2 --lora_rank 8 --save_steps 12 --add_version false --output_dir "$work/adapter" >&2
"$q" export --model "$work/base" --adapters "$work/adapter/checkpoint-12" --merge_lora true --output_dir "$work/merged" >&2
HF_HUB_OFFLINE=1 "$peer/bin/python" "$here/mixture.py" compare "$work/base" "$work/adapter/checkpoint-12" "$work/merged" 2>> "$work/peers.log" ||
    { tail -n 20 "$work/peers.log" >&2; exit 1; }
