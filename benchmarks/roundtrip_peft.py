"""Writes an adapter with PEFT that changes the model from the start: rsLoRA, a rank of its own for down_proj.

usage: roundtrip_peft.py MODEL OUT_DIR
"""
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

torch.manual_seed(7)
config = LoraConfig(r=8, lora_alpha=4, use_rslora=True, init_lora_weights=False, target_modules="all-linear",
                    rank_pattern={"down_proj": 3}, task_type="CAUSAL_LM")
get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32), config).save_pretrained(sys.argv[2])
