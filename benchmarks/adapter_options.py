"""Opens with PEFT what AdapterOptions.java wrote and compares logits.    usage: adapter_options.py BASE DIR"""
import pathlib
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

IDS = [1, 78, 277, 78, 244, 74, 248, 258, 230, 258, 288, 57, 4, 303, 83, 243, 285]
worst = 0.0
for folder in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        before = base(torch.tensor([IDS])).logits[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # tensors the file lacks, or that have no place
            warnings.filterwarnings("error", message=".*(missing|unexpected).*keys")
            model = PeftModel.from_pretrained(base, folder).eval()
        theirs = model(torch.tensor([IDS])).logits[0]
    ours = load_file(folder / "logits.safetensors")["logits"]
    difference = (ours - theirs).abs().max().item()
    worst = max(worst, difference)
    print(f"{folder.name:20} largest difference {difference:.1e}, the adapter changes logits by {(theirs - before).abs().max().item():.2f}")
sys.exit(worst > 2e-4)
