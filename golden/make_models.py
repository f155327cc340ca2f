"""Computes a case of golden/models with transformers, peft and bitsandbytes, by the definitions of README.md.

    python make_models.py CASE...      (writes models/CASE; versions as in README.md; one thread, a few seconds each)

The cases here were added to the project after the first set: smaller ones, and families it lacks.
"""
import json, math, pathlib, shutil, sys

import bitsandbytes.nn.modules
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

# with AVX512-BF16 bitsandbytes computes in bfloat16 instead of the compute dtype that was asked for
bitsandbytes.nn.modules.has_avx512bf16 = lambda: False

HERE = pathlib.Path(__file__).parent / "models"
HYPER = dict(optimizer="torch.optim.AdamW", steps=10, lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01, max_grad_norm=1.0)

CASES = {
    "llama_4bit_tiny": dict(
        features=["4-bit base (nf4, nf4_dq, fp4_dq), small enough for the project", "GQA", "untied"],
        config=dict(model_type="llama", vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
                    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5,
                    tie_word_embeddings=False, bos_token_id=1, eos_token_id=2),
        lora=dict(r=2, lora_alpha=4, target_modules="all-linear"),
        lengths=[30, 41, 17], seed=11, quants=["nf4", "nf4_dq", "fp4_dq"]),
    "qwen3_moe": dict(
        features=["8 experts, 2 of them for a token", "norm_topk_prob", "mlp_only_layers [1]", "all-linear with the routers",
                  "q_norm/k_norm per head", "tied"],
        config=dict(model_type="qwen3_moe", vocab_size=72, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
                    num_attention_heads=3, num_key_value_heads=1, head_dim=10, max_position_embeddings=256, num_experts=8,
                    num_experts_per_tok=2, moe_intermediate_size=12, norm_topk_prob=True, mlp_only_layers=[1],
                    rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2),
        lora=dict(r=2, lora_alpha=4, target_modules="all-linear"),
        lengths=[30, 25, 17], seed=12, quants=[],
        config_v4=dict(rope_theta=10000.0, rope_scaling=None, num_experts=8)),
    "gemma3_text_tiny": dict(
        features=["local/global layers (sliding_window_pattern 3)", "two rope thetas, linear factor 8 on the global one",
                  "q_norm/k_norm with 1+w", "query_pre_attn_scalar 20", "sliding window 11"],
        config=dict(model_type="gemma3_text", vocab_size=112, hidden_size=36, intermediate_size=52, num_hidden_layers=4,
                    num_attention_heads=3, num_key_value_heads=1, head_dim=16, max_position_embeddings=256,
                    query_pre_attn_scalar=20, sliding_window=11, bos_token_id=2, eos_token_id=1, pad_token_id=0,
                    layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
                    rope_parameters=dict(
                        full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
                        sliding_attention=dict(rope_type="default", rope_theta=1e4))),
        lora=dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "gate_proj", "down_proj"]),
        lengths=[40, 34, 27], seed=13, quants=[],
        config_v4=dict(rope_theta=1e6, rope_local_base_freq=1e4, rope_scaling=dict(rope_type="linear", factor=8.0),
                       sliding_window_pattern=3)),
}


class Mixture(torch.nn.Module):
    """A mixture of experts as files hold it: linear layers `gate` and `experts.N.…`. Transformers 5 has fused them into
    parameters, where peft has no linear layer to put LoRA on; peft's names are those of transformers 4, as in files."""

    def __init__(self, fused, config):
        super().__init__()
        linear = lambda w: torch.nn.utils.skip_init(torch.nn.Linear, w.shape[1], w.shape[0], bias=False)
        self.top_k, self.normalize, self.act = config.num_experts_per_tok, config.norm_topk_prob, fused.experts.act_fn
        weights = dict(gate_proj=lambda e: fused.experts.gate_up_proj[e].chunk(2)[0],
                       up_proj=lambda e: fused.experts.gate_up_proj[e].chunk(2)[1],
                       down_proj=lambda e: fused.experts.down_proj[e])
        self.gate = linear(fused.gate.weight)
        self.experts = torch.nn.ModuleList(
            torch.nn.ModuleDict({n: linear(w(e)) for n, w in weights.items()}) for e in range(config.num_experts))
        with torch.no_grad():
            self.gate.weight.copy_(fused.gate.weight)
            for e, expert in enumerate(self.experts):
                for n, w in weights.items():
                    expert[n].weight.copy_(w(e))

    def forward(self, x):
        h = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(h).softmax(-1).topk(self.top_k)
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(h)
        for e, expert in enumerate(self.experts):
            tokens, rank = torch.where(chosen == e)
            product = self.act(expert["gate_proj"](h[tokens])) * expert["up_proj"](h[tokens])
            out = out.index_add(0, tokens, expert["down_proj"](product) * weights[tokens, rank, None])
        return out.reshape(x.shape)


def unfused(model):
    """The same model with linear layers, and with a model_type that peft does not convert."""
    if model.config.model_type != "qwen3_moe":
        return model
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        before = model(ids).logits
        for layer in model.model.layers:
            if hasattr(layer.mlp, "experts"):
                layer.mlp = Mixture(layer.mlp, model.config)
        difference = float((model(ids).logits - before).abs().max())
    assert difference < 1e-5, difference
    model.config.model_type = "unfused"
    return model


def rows(case, vocab, generator):
    made = []
    for i, n in enumerate(case["lengths"]):
        ids = [1] + torch.randint(3, vocab, (n - 1,), generator=generator).tolist()
        first = [n // 3, 0, n - 4][i % 3]
        made.append((ids, [-100 if t < first else ids[t] for t in range(n)]))
    return made


def randomize(parameters, generator, deviation):
    with torch.no_grad():
        for p in parameters:
            mean = 1.0 if p.dim() == 1 and p.numel() > 0 and bool((p == 1).all()) else 0.0
            p.copy_(mean + deviation * torch.randn(p.shape, generator=generator))


def losses(model, ids, labels):
    logits = model(torch.tensor([ids])).logits[0]
    target = torch.tensor(labels[1:])
    keep = target != -100
    return torch.nn.functional.cross_entropy(logits[:-1][keep].float(), target[keep], reduction="none")


def trained(model):
    return {n.replace(".default", ""): p for n, p in model.named_parameters() if p.requires_grad}


def evaluate(name, case, folder, load, batch):
    base = load()
    base.eval()
    ids = batch[0][0]
    with torch.no_grad():
        tensors = {"logits.base": base(torch.tensor([ids])).logits[0].clone()}
        base_losses = [losses(base, *r).double() for r in batch]
    adapter = (folder if (folder / "adapter_init").exists() else folder.parent) / "adapter_init"
    model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
    model.eval()
    with torch.no_grad():
        tensors["logits.adapter"] = model(torch.tensor([ids])).logits[0].clone()
        adapter_losses = [losses(model, *r).double() for r in batch]
        total = sum(len(l) for l in base_losses)
        prompt = len(ids) // 2
        greedy, gap = list(ids[:prompt]), math.inf
        for _ in range(12):
            top = model(torch.tensor([greedy])).logits[0, -1].topk(2)
            gap = min(gap, float(top.values[0] - top.values[1]))
            greedy.append(int(top.indices[0]))
    sum(losses(model, *r).sum() for r in batch).div(total).backward()
    norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in trained(model).values()))
    tensors |= {n: p.grad.clone() for n, p in trained(model).items()}
    model.zero_grad()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=HYPER["lr"], betas=HYPER["betas"], eps=HYPER["eps"],
                                  weight_decay=HYPER["weight_decay"])
    steps = []
    for s in range(1, HYPER["steps"] + 1):
        row = (s - 1) % len(batch)
        optimizer.zero_grad()
        loss = losses(model, *batch[row]).mean()
        loss.backward()
        n = torch.nn.utils.clip_grad_norm_(trained(model).values(), HYPER["max_grad_norm"])
        optimizer.step()
        steps.append(dict(step=s, row=row, loss=float(loss), grad_norm=float(n)))
    save_adapter(model, folder / "adapter_final", name)
    save_file({k: v.float().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(dict(
        case=name, family=case["config"]["model_type"], features=case["features"],
        rows=[dict(row=i, tokens=len(r[0]), label_tokens=len(b), loss_base=float(b.mean()), loss_adapter=float(a.mean()))
              for i, (r, b, a) in enumerate(zip(batch, base_losses, adapter_losses))],
        total_label_tokens=total, total_loss_base=float(sum(b.sum() for b in base_losses)) / total,
        total_loss_adapter=float(sum(a.sum() for a in adapter_losses)) / total, grad_norm=norm,
        greedy=dict(row=0, prompt_tokens=prompt, new_tokens=greedy[prompt:], min_top2_gap=gap),
        train=dict(hyper=HYPER, steps=steps)), indent=1))


def save_adapter(model, folder, name):
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = "golden/" + name
    config = {k: sorted(v) if isinstance(v, list) and all(isinstance(x, str) for x in v) else v for k, v in config.items()}
    file.write_text(json.dumps(config, indent=2, sort_keys=True))


def make(name):
    case = CASES[name]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(case["seed"])
    config = AutoConfig.for_model(**case["config"])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    randomize(model.parameters(), generator, 0.12)
    model.tie_weights()
    model.save_pretrained(folder / "base")
    if "config_v4" in case:
        five = json.loads((folder / "base" / "config.json").read_text())
        left = {"dtype", "rope_parameters", "layer_types", "_sliding_window_pattern", "num_local_experts"}
        four = {k: v for k, v in five.items() if k not in left} | case["config_v4"]
        four |= dict(torch_dtype=five["dtype"], transformers_version="4.51.3")
        (folder / "config_v4.json").write_text(json.dumps(four, indent=2, sort_keys=True))
    batch = rows(case, config.vocab_size, generator)
    (folder / "batch.jsonl").write_text("".join(json.dumps(dict(input_ids=i, labels=l)) + "\n" for i, l in batch))
    peft = get_peft_model(unfused(model), LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
    randomize(trained(peft).values(), generator, 0.1)
    save_adapter(peft, folder / "adapter_init", name)

    def load(path=folder / "base", **more):
        return unfused(
            AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager", **more).eval())

    evaluate(name, case, folder, load, batch)
    for quant in case["quants"]:
        variant = folder / quant
        variant.mkdir()
        bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=quant.split("_")[0],
                                 bnb_4bit_use_double_quant=quant.endswith("_dq"), bnb_4bit_compute_dtype=torch.float32)
        load(quantization_config=bnb, device_map="cpu").save_pretrained(variant / "base")
        evaluate(name, case, variant, lambda: load(variant / "base", device_map="cpu"), batch)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        make(case)
