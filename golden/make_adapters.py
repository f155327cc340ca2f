"""Writes golden/adapters: PEFT adapters on the golden base models, one for each option, and what PEFT computes with them.

    python golden/make_adapters.py          needs torch, transformers, peft

<case>/adapter_config.json, adapter_model.safetensors   the adapter, every trained tensor random
<case>/expected.safetensors   logits (last 4 positions of the first row), losses [rows], and `grad.<name>` of the mean of all
                              label losses: whole, or the norm and the first rows of a matrix of more than 4096 elements
<case>/case.json              the base it belongs to
"""

import json
import pathlib
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).parent
OUT = ROOT / "adapters"
torch.set_num_threads(1)

CASES = {
    "dora": ("llama_tied", dict(r=2, target_modules=["q_proj", "down_proj"], use_dora=True)),
    "dora_rslora_patterns": (
        "llama_tied",
        dict(
            r=2,
            target_modules=["v_proj", "o_proj", "up_proj"],
            use_dora=True,
            use_rslora=True,
            rank_pattern={"up_proj": 3},
            alpha_pattern={"layers.1.self_attn.v_proj": 5},
            layers_to_transform=1,
        ),
    ),
    "layers_pattern": (
        "llama_tied",
        dict(r=2, target_modules=["q_proj", "gate_proj"], layers_to_transform=[0], layers_pattern=["layers"]),
    ),
    "exclude_regex": (
        "llama_tied",
        dict(r=2, target_modules=r".*(self_attn|mlp)\..*_proj", exclude_modules=r".*\.0\..*|.*gate_proj|.*down_proj"),
    ),
    "lm_head_lora": ("llama_tied", dict(r=2, target_modules=["lm_head", "k_proj"])),
    "embed_saved": ("llama_tied", dict(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"])),
    "embed_saved_tied": (
        "llama_tied",
        dict(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    ),
    "tokens_tied": ("llama_tied", dict(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 78, 277])),
    "tokens_untied": (
        "llama",
        dict(r=2, target_modules=["v_proj"], trainable_token_indices={"embed_tokens": [1, 5, 9]}),
    ),
    "embed_lora": ("llama_tied", dict(r=2, target_modules=["embed_tokens", "o_proj"])),
    "combine_a": ("llama_tied", dict(r=2, target_modules=["q_proj", "v_proj"])),
    "combine_b": ("llama_tied", dict(r=2, target_modules=["q_proj", "up_proj"], use_rslora=True)),
    "lora_bias": ("llama_tied", dict(r=2, target_modules=["q_proj", "up_proj"], lora_bias=True)),
}


def rows(base):
    return [json.loads(line) for line in (ROOT / "models" / base / "batch.jsonl").read_text().splitlines()]


def token_losses(model, row):
    ids = torch.tensor([row["input_ids"]])
    labels = torch.tensor(row["labels"])[1:]
    logits = model(ids).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], labels, reduction="none", ignore_index=-100)
    return logits, losses[labels != -100]


def base_model(base):
    return AutoModelForCausalLM.from_pretrained(
        ROOT / "models" / base / "base", dtype=torch.float32, attn_implementation="eager"
    )


def randomize(model):
    generator = torch.Generator().manual_seed(7)
    for name, p in sorted(model.named_parameters()):
        if not p.requires_grad:
            continue
        noise = torch.randn(p.shape, generator=generator)
        if "lora_magnitude" in name:
            p.data *= 1 + 0.2 * noise
        elif "lora_" in name:
            p.data = 0.15 * noise
        else:
            p.data += 0.1 * p.data.std() * noise


def expected(model, base):
    model.eval()
    model.zero_grad()
    tensors = {}
    all_losses = []
    losses = []
    for i, row in enumerate(rows(base)):
        logits, l = token_losses(model, row)
        if i == 0:
            tensors["logits"] = logits[-4:].detach().clone()
        all_losses.append(l)
        losses.append(l.mean().item())
    tensors["losses"] = torch.tensor(losses)
    torch.cat(all_losses).mean().backward()
    state = {n: p.grad for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    for name, g in get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False).items():
        if g is not None:
            if g.numel() > 4096:
                tensors[f"grad_norm.{name}"] = g.norm().reshape(1)
                tensors[f"grad.{name}"] = g[:8].clone()
            else:
                tensors[f"grad.{name}"] = g.clone()
    return tensors


def write(name, base, model):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    # without the frozen matrix that PEFT writes too if embedding or head have LoRA
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"golden/{base}"
    for key, value in config.items():
        if isinstance(value, list) and key in ("target_modules", "exclude_modules", "modules_to_save"):
            config[key] = sorted(value)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    save_file({k: v.contiguous() for k, v in expected(model, base).items()}, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps({"base": base}))
    print(name, sorted(load_file(folder / "adapter_model.safetensors")))


def main():
    for name, (base, options) in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        torch.manual_seed(3)
        model = get_peft_model(base_model(base), LoraConfig(lora_alpha=4, task_type="CAUSAL_LM", **options))
        randomize(model)
        write(name, base, model)
    if len(sys.argv) == 1:
        combined()
        starts()


def combined():
    """combine_a and combine_b by add_weighted_adapter with the weights 0.7 and -0.4: logits of the first row's end."""
    model = PeftModel.from_pretrained(base_model("llama_tied"), OUT / "combine_a", adapter_name="a")
    model.load_adapter(OUT / "combine_b", "b")
    tensors = {}
    for how in ("linear", "cat"):
        model.add_weighted_adapter(["a", "b"], [0.7, -0.4], how, combination_type=how)
        model.set_adapter(how)
        model.eval()
        with torch.no_grad():
            logits, _ = token_losses(model, rows("llama_tied")[0])
        tensors[how] = logits[-4:].clone()
    save_file(tensors, OUT / "combined.safetensors")


def starts():
    """scaling * B @ A as PiSSA and OLoRA start, by <init>.<module>; rank 3, alpha 5."""
    tensors = {}
    for how in ("pissa", "olora"):
        options = LoraConfig(
            r=3, lora_alpha=5, target_modules=["k_proj", "down_proj"], init_lora_weights=how, task_type="CAUSAL_LM"
        )
        model = get_peft_model(base_model("llama_tied"), options).base_model.model
        for module in ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj"):
            layer = model.get_submodule(module)
            tensors[f"{how}.{module}"] = layer.get_delta_weight("default").detach().clone().contiguous()
    save_file(tensors, OUT / "starts.safetensors")


if __name__ == "__main__":
    main()
