#!/usr/bin/env bash
# Files both ways between qlora4j and transformers, PEFT and llama.cpp, on this machine: one table of the largest deviations.
# usage: benchmarks/roundtrip.sh [WORK_DIR]     Needs python3 with pip; the peers are installed once (PEER=DIR to choose where).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/peer.sh"
work=${1:-$(mktemp -d)}
mkdir -p "$work"
llama=$cache/llama-4.2.0 # llama.cpp's Java binding, with llama.cpp b4916 inside
jar=$llama/llama-4.2.0.jar
[ -f "$jar" ] || "$root/mvnw" -B -q dependency:copy -Dartifact=de.kherud:llama:4.2.0 -DoutputDirectory="$llama" -Dmdep.useBaseVersion=true
lib=$llama/de/kherud/llama/Linux/x86_64/libjllama.so
[ -f "$lib" ] || (cd "$llama" && python3 -m zipfile -e "$jar" . )
q=$root/qlora
. "$root/.mvn/find-jdk.sh"
java=$(find_jdk 22 running javac)/bin/java # runs source files

step() { # FILE_OR_FOLDER COMMAND…: runs the command unless its result is there
    [ -e "$work/$1" ] || { echo "== $1" >&2; "${@:2}" >&2; }
}

step base "$q" export --model SmolLM2-135M-Instruct --torch_dtype float32 --output_dir "$work/base"
step adapter "$q" sft --model "$work/base" --dataset self-cognition#40 --model_name Xiaoyu --model_author "Feather Lab" --max_steps 12 \
    --gradient_accumulation_steps 2 --learning_rate 1e-3 --lora_rank 8 --lora_alpha 16 --save_steps 12 --add_version false --output_dir "$work/adapter"
ours=$work/adapter/checkpoint-12
step peft-adapter "$peer/bin/python" "$here/roundtrip_peft.py" "$work/base" "$work/peft-adapter"
merge="$q export --model $work/base --adapters $ours --merge_lora true"
bnb="--quant_method bnb --quant_bits 4 --bnb_4bit_compute_dtype float32"
step merged $merge --output_dir "$work/merged"
step nf4 "$q" export --model "$work/base" $bnb --output_dir "$work/nf4"
step fp4 "$q" export --model "$work/base" $bnb --bnb_4bit_quant_type fp4 --bnb_4bit_use_double_quant false --bnb_4bit_blocksize 32 \
    --llm_int8_skip_modules down_proj --output_dir "$work/fp4"
step merged-nf4 $merge $bnb --bnb_4bit_quant_storage bfloat16 --output_dir "$work/merged-nf4"
for type in f32 f16 bf16 q8_0 q4_0; do
    step merged-$type.gguf $merge --to_gguf true --outtype $type --outfile "$work/merged-$type.gguf"
done
step base-f32.gguf "$q" export --model "$work/base" --to_gguf true --outtype f32 --outfile "$work/base-f32.gguf"
step lora.gguf "$q" export --model "$work/base" --adapters "$ours" --to_gguf true --outtype f32 --outfile "$work/lora.gguf"

logits() { # NAME MODEL [ADAPTER]: what we compute
    step "logits-$1.safetensors" "$java" -Xmx2g --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
        -cp "$root/samples/target/*:$root/samples/target/lib/*" "$here/Logits.java" "$work/logits-$1.safetensors" "${@:2}"
}
logits base "$work/base"
logits adapter "$work/base" "$ours"
logits peft-adapter "$work/base" "$work/peft-adapter"
for model in merged nf4 fp4 merged-nf4 merged-f32.gguf merged-f16.gguf merged-bf16.gguf merged-q8_0.gguf merged-q4_0.gguf; do
    logits "$model" "$work/$model"
done
HF_HUB_OFFLINE=1 "$peer/bin/python" "$here/roundtrip.py" "$work" "$ours" "$lib" 2> "$work/peers.log" ||
    { tail -n 20 "$work/peers.log" >&2; exit 1; }

echo
question="What is your name?"
for model in "merged-q8_0.gguf" "base-f32.gguf lora.gguf"; do
    set -- $model
    answer=$("$java" --enable-native-access=ALL-UNNAMED -cp "$jar" "$here/LlamaCpp.java" "$question" "$work/$1" ${2:+"$work/$2"} 2> "$work/llama.log" | tail -n 1)
    echo "llama.cpp (Java binding), $model: $question -> $answer"
done
echo "qlora4j, merged-q8_0.gguf: $question -> $("$q" infer --model "$work/merged-q8_0.gguf" --prompt "$question" --stream false --max_new_tokens 40 2>/dev/null | tail -n 1)"
