"""transformers + bitsandbytes: greedy tokens behind a prompt of 64, as `qlora bench` takes them; one line of JSON.

usage: peer_generate.py MODEL_DIR NEW_TOKENS ROUNDS THREADS
"""
import json
import statistics
import sys
import time

import torch

MODEL, TOKENS, ROUNDS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(int(sys.argv[4]))

from transformers import AutoModelForCausalLM, BitsAndBytesConfig

quantization = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
)
model = AutoModelForCausalLM.from_pretrained(
    MODEL, dtype=torch.float32, device_map={"": "cpu"}, quantization_config=quantization
).eval()
torch.manual_seed(0)
ids = torch.randint(3, model.config.vocab_size, (1, 64))


def generate(tokens):
    start = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
        )
    assert out.shape[1] == 64 + tokens
    return time.perf_counter() - start


generate(2)
first = statistics.median(generate(1) for _ in range(ROUNDS + 1))
whole = statistics.median(generate(TOKENS) for _ in range(ROUNDS))
peak = next(int(line.split()[1]) * 1024 / 1e6 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(dict(first_token_s=first, tokens_per_second=(TOKENS - 1) / (whole - first), peak_mb=peak, workload="generate")))
