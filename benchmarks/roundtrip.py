"""Compares logits and bytes of roundtrip.sh's files: transformers, PEFT, gguf and llama.cpp against qlora4j.

usage: roundtrip.py WORK_DIR OUR_ADAPTER LIBJLLAMA
"""
import sys

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, quants
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from llama_cpp import LlamaCpp

work, adapter, library = sys.argv[1:]
torch.set_num_threads(1)
ids = [i * 2654435761 % 49152 for i in range(1, 49)]


def ours(name):
    return load_file(f"{work}/logits-{name}.safetensors")["logits"]


def transformers(folder, peft=None):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", device_map="cpu")
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # would compute in bf16, whatever bnb_4bit_compute_dtype says
    if peft:
        model = PeftModel.from_pretrained(model, peft)
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].numpy()


def row(what, against, expected, found):
    spread = np.abs(expected).max()
    same = (expected.argmax(-1) == found.argmax(-1)).mean()
    print(f"| {what} | {against} | {np.abs(expected - found).max():.2g} | {spread:.0f} | {same:.0%} |", flush=True)


print("| file | opened by | largest deviation of a logit from qlora4j's | largest logit | same first choice |")
print("|---|---|---|---|---|")
row("GGUF to Hugging Face folder", "transformers", transformers(f"{work}/base"), ours("base"))
row("base + adapter merged", "transformers", transformers(f"{work}/merged"), ours("merged"))
row("bnb nf4, double quantization", "transformers + bitsandbytes", transformers(f"{work}/nf4"), ours("nf4"))
row("bnb fp4, blocks of 32, down_proj skipped", "transformers + bitsandbytes", transformers(f"{work}/fp4"), ours("fp4"))
row("bnb nf4 of the merged model, bf16 storage", "transformers + bitsandbytes", transformers(f"{work}/merged-nf4"), ours("merged-nf4"))
row("our adapter", "PEFT", transformers(f"{work}/base", adapter), ours("adapter"))
row("PEFT's adapter (rsLoRA, rank_pattern)", "PEFT", transformers(f"{work}/base", f"{work}/peft-adapter"), ours("peft-adapter"))
llama = LlamaCpp(library)
for kind in ("f32", "f16", "bf16", "q8_0", "q4_0"):
    row(f"GGUF {kind} of the merged model", "llama.cpp", llama.logits(f"{work}/merged-{kind}.gguf", ids), ours(f"merged-{kind}.gguf"))
row("GGUF f32 base + GGUF adapter", "llama.cpp", llama.logits(f"{work}/base-f32.gguf", ids, f"{work}/lora.gguf"), ours("adapter"))

print()
exact = {t.name: t for t in GGUFReader(f"{work}/merged-f32.gguf").tensors}
for kind in ("q8_0", "q4_0"):
    different = total = 0
    for tensor in GGUFReader(f"{work}/merged-{kind}.gguf").tensors:
        if tensor.tensor_type == GGMLQuantizationType.F32:
            continue
        values = quants.dequantize(exact[tensor.name].data, exact[tensor.name].tensor_type)
        expected = llama.quantize(tensor.tensor_type.name.lower(), values)
        different += int((expected != np.asarray(tensor.data).ravel()).sum())
        total += expected.size
    print(f"GGUF {kind}: {different} of {total} bytes differ from those of ggml's reference quantizers")
