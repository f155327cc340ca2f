#!/bin/sh
# Estimate against measured peak for several settings of the demonstration model: samples/scripts/memory.sh [FOLDER]
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
run() {
    name=$1
    shift
    "$root/qlora" sft --model SmolLM2-135M-Instruct --quant_method bnb --quant_bits 4 --dataset alpaca-en#8 alpaca-zh#8 \
        --max_steps 8 --gradient_accumulation_steps 2 --output_dir "$folder/$name" --add_version false "$@" > "$folder/$name.log" 2>&1
    grep -E '^(device|process) memory: estimated' "$folder/$name.log" | sed "s/^/$name: /"
}
run rank_8_max_length_512 --max_length 512
run rank_64 --max_length 512 --lora_rank 64
run max_length_1024 --max_length 1024 --truncation_strategy split
run no_checkpointing --max_length 256 --gradient_checkpointing false
run paged_adamw_8bit --max_length 512 --lora_rank 64 --optim paged_adamw_8bit
run batch_4 --max_length 256 --per_device_train_batch_size 4 --lora_dropout 0
run packing --packing true --max_length 512
