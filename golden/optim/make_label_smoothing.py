"""Losses of transformers' LabelSmoother for the rows of models/llama: python make_label_smoothing.py > label_smoothing.json"""
import json
import pathlib
import torch
import transformers
from transformers.trainer_pt_utils import LabelSmoother

llama = pathlib.Path(__file__).resolve().parent.parent / "models" / "llama"
torch.set_num_threads(1)
model = transformers.AutoModelForCausalLM.from_pretrained(llama / "base", dtype=torch.float32, attn_implementation="eager").eval()
rows = [json.loads(line) for line in (llama / "batch.jsonl").read_text().splitlines()]
result = {"transformers": transformers.__version__, "cases": []}
for epsilon in (0.1, 0.3):
    losses = []
    for row in rows:
        labels = torch.tensor([row["labels"]])
        with torch.no_grad():
            outputs = model(input_ids=torch.tensor([row["input_ids"]]))
        losses.append(LabelSmoother(epsilon=epsilon)({"logits": outputs.logits}, labels, shift_labels=True).item())
    result["cases"].append({"label_smoothing_factor": epsilon, "losses": losses})
print(json.dumps(result, indent=1))
