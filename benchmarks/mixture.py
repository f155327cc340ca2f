"""A small random mixture of experts for qlora4j to train, then its files in transformers and PEFT.

    mixture.py make TOKENIZER_DIR MODEL_DIR
    mixture.py compare MODEL_DIR ADAPTER_DIR MERGED_DIR
"""

import pathlib
import shutil
import sys

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM


def make(tokenizer, model):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen3_moe", vocab_size=49152, hidden_size=128, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=64,
        norm_topk_prob=True, tie_word_embeddings=True, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2)
    AutoModelForCausalLM.from_config(config).float().save_pretrained(model)
    for file in pathlib.Path(tokenizer).iterdir():
        if file.name.startswith(("tokenizer", "chat_template", "special_tokens", "vocab", "merges")):
            shutil.copy(file, model)


def compare(model, adapter, merged):
    def load(path):
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()

    ids = torch.randint(3, 49152, (4, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        base = load(model)(ids).logits
        ours = load(merged)(ids).logits
        peft = PeftModel.from_pretrained(load(model), adapter).eval()(ids).logits
    print(f"the adapter changes logits by {float((peft - base).abs().max()):.2g} at most;"
          f" PEFT's and those of the merged model differ by {float((peft - ours).abs().max()):.1e}")


{"make": make, "compare": compare}[sys.argv[1]](*sys.argv[2:])
