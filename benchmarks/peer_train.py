"""transformers + peft + bitsandbytes: training steps as `qlora bench` takes them; one line of JSON.

usage: peer_train.py MODEL_DIR {train|instructions} SEQUENCE GRADIENT_CHECKPOINTING(0|1) STEPS THREADS {float32|bfloat16}
"""
import json
import statistics
import sys
import time

import torch

MODEL, WORKLOAD, SEQUENCE, CHECKPOINTING, STEPS, THREADS, DTYPE = sys.argv[1:8]
SEQUENCE, CHECKPOINTING, STEPS = int(SEQUENCE), CHECKPOINTING == "1", int(STEPS)
torch.set_num_threads(int(THREADS))

from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def memory(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6


def times():
    """Seconds since this process was started, and of CPU time, as ProcessTimes counts them."""
    fields = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
    return float(open("/proc/uptime").read().split()[0]) - int(fields[19]) / 100, (int(fields[11]) + int(fields[12])) / 100


dtype = getattr(torch, DTYPE)
quantization = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
)
start = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype, device_map={"": "cpu"}, quantization_config=quantization)
load_s = time.perf_counter() - start
model = prepare_model_for_kbit_training(
    model, use_gradient_checkpointing=CHECKPOINTING, gradient_checkpointing_kwargs={"use_reentrant": False}
)
names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(
    model, LoraConfig(r=8, lora_alpha=32, lora_dropout=0.0, target_modules=names, task_type="CAUSAL_LM")
)
model.train()
model.config.use_cache = False
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

torch.manual_seed(0)
lengths = [SEQUENCE] if WORKLOAD == "train" else [30 + i * 97 % 371 for i in range(16)]
rows = []
for length in lengths:
    ids = torch.randint(3, model.config.vocab_size, (1, length))
    labels = ids.clone()
    if WORKLOAD == "instructions":
        labels[:, : length // 2] = -100
    rows.append((ids, labels))
label_tokens = sum(int((labels[:, 1:] != -100).sum()) for _, labels in rows)

open("/proc/self/clear_refs", "w").write("5")
started, cpu = times()
seconds = []
for step in range(STEPS + 1):
    start = time.perf_counter()
    total = 0.0
    for ids, labels in rows:
        tokens = int((labels[:, 1:] != -100).sum())
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss * (tokens / label_tokens)
        loss.backward()
        total += loss.item()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds.append(time.perf_counter() - start)
step_s = statistics.median(seconds[1:])
tokens = sum(lengths)
print(json.dumps(dict(
    tokens=tokens, gradient_checkpointing=CHECKPOINTING, step_s=step_s, tokens_per_second=tokens / step_s, loss=total,
    peak_mb=memory("VmHWM"), file_backed_mb=memory("RssFile"),
    seconds_to_first_step=started, cpu_seconds_to_first_step=cpu, workload=WORKLOAD, load_s=load_s)))
