"""Small random models of every family with unusual configurations, and bitsandbytes checkpoints: what transformers and PEFT compute, and what
llama.cpp computes from our GGUF files, against qlora4j (Families.java works between the two commands).

    families.py make DIR
    families.py compare DIR LLAMA_CPP_FOLDER
    families.py golden DIR GOLDEN_DIR          (of what `make` has left in DIR: golden/families, see the README there)
"""
import json
import pathlib
import re
import shutil
import sys
import warnings

import bitsandbytes
import numpy as np
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

SIZES = dict(vocab_size=16, hidden_size=64, intermediate_size=112, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0)
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=32)
SHORT, LONG = [1.0 + 0.1 * i for i in range(8)], [1.5 + 0.5 * i for i in range(8)]
LONGROPE = dict(rope_type="longrope", rope_theta=1e4, original_max_position_embeddings=32, short_factor=SHORT, long_factor=LONG)
MOE = dict(model_type="qwen3_moe", head_dim=16, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True)
GEMMA3 = dict(model_type="gemma3_text", head_dim=16, query_pre_attn_scalar=16, sliding_window=9)
ALL = dict(target_modules="all-linear")

# name: configuration, LoRA options (None: transformers 5 has fused the linear layers)
CASES = {
    "llama": (dict(model_type="llama"), ALL),
    "mistral": (dict(model_type="mistral", sliding_window=12), ALL),
    "llama biases": (dict(model_type="llama", attention_bias=True, mlp_bias=True), ALL),
    "llama trained biases": (dict(model_type="llama", attention_bias=True, mlp_bias=True), dict(target_modules=["q_proj", "down_proj"], bias="all")),
    "llama trained biases of targets": (dict(model_type="llama", attention_bias=True, mlp_bias=True), dict(
        target_modules=["k_proj", "up_proj"], bias="lora_only", use_dora=True)),
    "llama head_dim 24, linear": (dict(model_type="llama", head_dim=24, rope_parameters=dict(rope_type="linear", rope_theta=5e4, factor=3.0)), ALL),
    "llama llama3, tied": (dict(model_type="llama", tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)),
        dict(target_modules=["q_proj", "down_proj"], layers_to_transform=2)),
    "llama yarn": (dict(model_type="llama", rope_parameters=YARN), ALL),
    "llama longrope": (dict(model_type="llama", rope_parameters=LONGROPE), ALL),
    "llama dynamic": (dict(model_type="llama", rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=2.0)), ALL),
    "llama dynamic, long rows": (dict(model_type="llama", max_position_embeddings=24, rope_parameters=dict(
        rope_type="dynamic", rope_theta=1e4, factor=2.0)), ALL),
    "llama gelu_pytorch_tanh": (dict(model_type="llama", hidden_act="gelu_pytorch_tanh"), ALL),
    "llama gelu": (dict(model_type="llama", hidden_act="gelu"), ALL),
    "llama relu": (dict(model_type="llama", hidden_act="relu"), ALL),
    "llama partial_rotary_factor": (dict(model_type="llama", rope_parameters=dict(
        rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)), ALL),
    "llama one kv head": (dict(model_type="llama", num_key_value_heads=1), dict(target_modules=["q_proj", "k_proj"], layers_to_transform=[0, 3])),
    "mistral no window": (dict(model_type="mistral", sliding_window=None), ALL),
    "mistral window 1": (dict(model_type="mistral", sliding_window=1), ALL),
    "mistral head_dim 24": (dict(model_type="mistral", sliding_window=7, head_dim=24, tie_word_embeddings=True), ALL),
    "qwen2": (dict(model_type="qwen2"), ALL),
    "qwen2 layer_types": (dict(model_type="qwen2", use_sliding_window=True, sliding_window=6, layer_types=[
        "sliding_attention", "full_attention", "full_attention", "sliding_attention"]), dict(target_modules="all-linear", use_dora=True)),
    "qwen2 max_window_layers 3": (dict(model_type="qwen2", use_sliding_window=True, sliding_window=6, max_window_layers=3), ALL),
    "qwen2 yarn betas": (dict(model_type="qwen2", rope_parameters=dict(YARN, beta_fast=16.0, beta_slow=2.0)), ALL),
    "qwen2 yarn attention_factor": (dict(model_type="qwen2", tie_word_embeddings=True, rope_parameters=dict(YARN, attention_factor=0.8)), ALL),
    "qwen2 yarn mscale": (dict(model_type="qwen2", rope_parameters=dict(YARN, mscale=0.7, mscale_all_dim=1.2)), ALL),
    "qwen2 yarn truncate false": (dict(model_type="qwen2", rope_parameters=dict(YARN, truncate=False)), ALL),
    "qwen3": (dict(model_type="qwen3", head_dim=24), ALL),
    "qwen3 attention_bias": (dict(model_type="qwen3", head_dim=16, attention_bias=True, tie_word_embeddings=True), ALL),
    "qwen3 windows, yarn": (dict(model_type="qwen3", head_dim=16, use_sliding_window=True, sliding_window=5, max_window_layers=2,
                                 rope_parameters=YARN), ALL),
    "qwen3_moe": (MOE, None),
    "qwen3_moe norm_topk_prob false": (dict(MOE, norm_topk_prob=False), None),
    "qwen3_moe decoder_sparse_step 2": (dict(MOE, decoder_sparse_step=2), None),
    "qwen3_moe mlp_only_layers": (dict(MOE, mlp_only_layers=[0, 3]), None),
    "qwen3_moe attention_bias, tied": (dict(MOE, attention_bias=True, tie_word_embeddings=True), None),
    "qwen3_moe window, yarn": (dict(MOE, use_sliding_window=True, sliding_window=5, rope_parameters=YARN), None),
    "qwen3_moe all experts": (dict(MOE, num_experts_per_tok=6), None),
    "gemma2": (dict(model_type="gemma2", head_dim=16, query_pre_attn_scalar=16, sliding_window=9), ALL),
    "gemma2 query_pre_attn_scalar 40": (dict(model_type="gemma2", head_dim=24, query_pre_attn_scalar=40, sliding_window=9), ALL),
    "gemma2 no softcaps": (dict(model_type="gemma2", head_dim=16, query_pre_attn_scalar=16, sliding_window=9,
                                attn_logit_softcapping=None, final_logit_softcapping=None), ALL),
    "gemma2 biases, untied": (dict(model_type="gemma2", head_dim=16, sliding_window=9, attention_bias=True, tie_word_embeddings=False), ALL),
    "gemma2 silu, linear": (dict(model_type="gemma2", head_dim=16, hidden_activation="silu", sliding_window=9, rope_parameters=dict(
        rope_type="linear", rope_theta=1e4, factor=2.0)), ALL),
    "gemma2 layer_types": (dict(model_type="gemma2", head_dim=16, sliding_window=9, layer_types=[
        "full_attention", "sliding_attention", "sliding_attention", "full_attention"]), ALL),
    "gemma3": (GEMMA3, ALL),
    "gemma3 pattern 2, linear": (dict(GEMMA3, query_pre_attn_scalar=30, layer_types=["sliding_attention", "full_attention"] * 2, rope_parameters=dict(
        full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6), sliding_attention=dict(rope_type="default", rope_theta=2e4))), ALL),
    "gemma3 softcaps, biases": (dict(GEMMA3, final_logit_softcapping=5.0, attn_logit_softcapping=3.0, attention_bias=True), ALL),
    "gemma3 yarn, untied": (dict(GEMMA3, tie_word_embeddings=False, rope_parameters=dict(
        full_attention=dict(YARN), sliding_attention=dict(rope_type="default", rope_theta=1e4))), ALL),
    "gemma3 bidirectional": (dict(GEMMA3, use_bidirectional_attention=True), ALL),
    "phi3": (dict(model_type="phi3"), ALL),
    "phi3 tied, window": (dict(model_type="phi3", tie_word_embeddings=True, sliding_window=7), ALL),
    "phi3 longrope": (dict(model_type="phi3", rope_parameters=LONGROPE, original_max_position_embeddings=32), ALL),
    "phi3 longrope, short rows": (dict(model_type="phi3", max_position_embeddings=1024, original_max_position_embeddings=256, rope_parameters=dict(
        LONGROPE, original_max_position_embeddings=256)), ALL),
    "phi3 longrope attention_factor": (dict(model_type="phi3", original_max_position_embeddings=32, rope_parameters=dict(
        LONGROPE, attention_factor=1.3)), ALL),
    "phi3 longrope, long context": (dict(model_type="phi3", max_position_embeddings=128, original_max_position_embeddings=20, rope_parameters=dict(
        LONGROPE, original_max_position_embeddings=20)), ALL),
    "phi3 partial_rotary_factor": (dict(model_type="phi3", rope_parameters=dict(
        rope_type="default", rope_theta=1e4, partial_rotary_factor=0.75)), ALL),
    "phi3 partial, longrope": (dict(model_type="phi3", original_max_position_embeddings=32, rope_parameters=dict(
        LONGROPE, partial_rotary_factor=0.5, short_factor=SHORT[:4], long_factor=LONG[:4])), ALL),
    "smollm3": (dict(model_type="smollm3", num_hidden_layers=5), ALL),
    "smollm3 biases, untied": (dict(model_type="smollm3", attention_bias=True, mlp_bias=True, tie_word_embeddings=False), ALL),
    "smollm3 windows on NoPE layers": (dict(model_type="smollm3", use_sliding_window=True, sliding_window=6, no_rope_layer_interval=2), ALL),
    "smollm3 no_rope_layers": (dict(model_type="smollm3", no_rope_layers=[0, 1, 1, 0]), ALL),
    "smollm3 yarn": (dict(model_type="smollm3", rope_parameters=YARN), ALL),
    "olmo2": (dict(model_type="olmo2"), ALL),
    "olmo2 biases": (dict(model_type="olmo2", attention_bias=True, num_key_value_heads=4), ALL),
    "olmo2 tied, linear": (dict(model_type="olmo2", tie_word_embeddings=True, rope_parameters=dict(
        rope_type="linear", rope_theta=5e5, factor=2.0)), ALL),
    "olmo2 yarn": (dict(model_type="olmo2", rope_parameters=YARN), ALL),
}
# bitsandbytes checkpoints: configuration, BitsAndBytesConfig, block size
NARROW = dict(model_type="llama", hidden_size=36, intermediate_size=50, head_dim=10)
DENSE = dict(bnb_4bit_quant_type="nf4", load_in_4bit=True, bnb_4bit_compute_dtype="float32")
QUANTIZED = {
    "bnb nf4": (dict(model_type="qwen2"), DENSE, 64),
    "bnb nf4 double, blocks across rows": (NARROW, dict(DENSE, bnb_4bit_use_double_quant=True), 64),
    "bnb fp4, blocks of 128 across rows": (NARROW, dict(DENSE, bnb_4bit_quant_type="fp4"), 128),
    "bnb fp4 double, blocks of 32": (dict(model_type="phi3"), dict(DENSE, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=True), 32),
    "bnb nf4 double, blocks of 4096": (dict(model_type="gemma2", head_dim=16), dict(DENSE, bnb_4bit_use_double_quant=True), 4096),
    "bnb nf4, skipped modules": (dict(model_type="mistral"), dict(DENSE, llm_int8_skip_modules=["lm_head", "down_proj", "model.layers.1"]), 64),
    "bnb nf4, lm_head too": (dict(model_type="olmo2"), dict(DENSE, llm_int8_skip_modules=["q_proj"]), 64),
    "bnb nf4, bfloat16 storage": (dict(model_type="smollm3"), dict(DENSE, bnb_4bit_quant_storage="bfloat16"), 64),
    "bnb nf4 double, gemma3": (GEMMA3, dict(DENSE, bnb_4bit_use_double_quant=True), 64),
    "bnb int8": (dict(model_type="qwen3", head_dim=16), dict(load_in_8bit=True), 0),
    "bnb int8, skipped modules": (dict(model_type="gemma3_text", head_dim=16), dict(load_in_8bit=True, llm_int8_skip_modules=["lm_head", "o_proj", "model.layers.2.mlp"]), 0),
}
REFUSED = {"llama gelu", "llama relu", "llama partial_rotary_factor", "gemma3 bidirectional"}  # by qlora4j, by name
LENGTHS = [40, 11]


def rows():
    generator = torch.Generator().manual_seed(7)
    return [[1] + torch.randint(3, 16, (n - 1,), generator=generator).tolist() for n in LENGTHS]


def load(folder, **more):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more).eval()


def values(name, shape, scale):
    """scale · [-1, 1), a hash of the name and the element's number: the Java tests make the same."""
    def mix(z):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    with np.errstate(over="ignore"):
        seed = np.uint64(0)
        for letter in name.encode():
            seed = mix(seed ^ np.uint64(letter))
        hashes = mix(seed ^ np.arange(int(np.prod(shape)), dtype=np.uint64))
        units = ((hashes >> np.uint64(40)).astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2 ** -23)
    return torch.from_numpy((units * np.float32(scale)).reshape(shape))


def rewrite(file, ones):
    """Puts generated numbers into a safetensors file; names that `ones` finds are around 1."""
    tensors = load_file(file)
    save_file({n: values(n, t.shape, 0.2) + (1 if re.search(ones, n) else 0) for n, t in tensors.items()}, file, {"format": "pt"})
    return tensors


def make(folder, config, lora):
    config = AutoConfig.for_model(**{**SIZES, **config})
    AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().save_pretrained(folder / "base")
    gemma = config.model_type.startswith("gemma")
    tensors = rewrite(folder / "base" / "model.safetensors", "^$" if gemma else r"norm\.weight$")
    (folder / "shapes.json").write_text(json.dumps({n: list(t.shape) for n, t in tensors.items()}))
    expected = {}
    model = load(folder / "base")
    for i, ids in enumerate(rows()):
        with torch.no_grad():
            expected[f"logits.{i}"] = model(torch.tensor([ids])).logits[0]
    if lora:
        get_peft_model(model, LoraConfig(r=2, lora_alpha=3, task_type="CAUSAL_LM", **lora)).save_pretrained(folder / "adapter")
        names = rewrite(folder / "adapter" / "adapter_model.safetensors", "magnitude")
        adapted = PeftModel.from_pretrained(load(folder / "base"), folder / "adapter", is_trainable=True).eval()
        total = sum(len(ids) - 1 for ids in rows())
        loss = 0
        for ids in rows():
            ids = torch.tensor([ids])
            part = adapted(ids, labels=ids).loss * (ids.shape[1] - 1) / total
            part.backward()
            loss += part.item()
        expected["loss"] = torch.tensor([loss])
        for n, p in adapted.named_parameters():
            if p.grad is not None:
                n = n.replace(".default", "").removesuffix(".weight") if "magnitude" in n else n.replace(".default", "")
                assert n in names, n
                expected[f"grad.{n}"] = p.grad.contiguous()
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")


def load_dequantized(folder):
    """A bitsandbytes checkpoint with plain linear layers. LLM.int8's products would round activations too; and for 4 bits the library
    that bitsandbytes 0.50.2 has for AVX-512 takes a neighbour's scale where blocks cross rows, which its PyTorch code does not."""
    model = load(folder, device_map="cpu")
    if getattr(model, "is_loaded_in_8bit", False):
        return model.dequantize(torch.float32).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            absmax = state.absmax
            if state.nested:
                absmax = bitsandbytes.functional.dequantize_blockwise(absmax, state.state2) + state.offset
            plain = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            with torch.no_grad():
                plain.weight.copy_(_dequantize_4bit_compute(module.weight.data.view(torch.uint8).flatten(), absmax, state.code,
                                                            state.blocksize, state.shape, torch.float32))
                if module.bias is not None:
                    plain.bias.copy_(module.bias)
            model.set_submodule(name, plain)
    return model.eval()


def make_quantized(folder, config, options, block):
    config = AutoConfig.for_model(**{**SIZES, **config})
    AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().save_pretrained(folder / "float")
    rewrite(folder / "float" / "model.safetensors", "^$" if config.model_type.startswith("gemma") else r"norm\.weight$")
    original = bitsandbytes.functional.quantize_4bit
    bitsandbytes.functional.quantize_4bit = lambda *a, **k: original(*a, **{**k, "blocksize": block})
    try:
        model = load(folder / "float", quantization_config=BitsAndBytesConfig(**options), device_map="cpu")
        model.save_pretrained(folder / "base")
    finally:
        bitsandbytes.functional.quantize_4bit = original
    model = load_dequantized(folder / "base")
    with torch.no_grad():
        expected = {f"logits.{i}": model(torch.tensor([ids])).logits[0].float().contiguous() for i, ids in enumerate(rows())}
    save_file(expected, folder / "expected.safetensors")


def short(numbers):
    return [float(f"{x:.7g}") for x in numbers.flatten().tolist()]


def templates(shapes):
    """{name with # for numbers: [shape, layers]}"""
    made = {}
    for name, shape in shapes.items():
        layer = re.search(r"layers\.(\d+)\.", name)
        layers = made.setdefault(re.sub(r"\.(\d+)\.", ".#.", name), [list(shape), []])[1]
        if layer and int(layer.group(1)) not in layers:
            layers.append(int(layer.group(1)))
    return {name: [shape, sorted(layers)] for name, (shape, layers) in sorted(made.items())}


def golden(case, out):
    """Configuration, shapes and what came out; the numbers of weights and adapters are generated."""
    expected = load_file(case / "expected.safetensors")
    made = dict(config=json.loads((case / "base" / "config.json").read_text()),
                shapes=templates(json.loads((case / "shapes.json").read_text())), rows=rows(),
                logits=[short(expected[f"logits.{i}"][-4:]) for i in range(len(LENGTHS))])
    if "loss" in expected:
        written = json.loads((case / "adapter" / "adapter_config.json").read_text())
        made["adapter_config"] = {k: sorted(v) if k == "target_modules" else v for k, v in written.items() if v and k not in ("base_model_name_or_path", "auto_mapping")}
        made["adapter_shapes"] = templates({n: t.shape for n, t in load_file(case / "adapter" / "adapter_model.safetensors").items()})
        made["loss"] = expected["loss"].item()
        sums = {}  # over all layers: squares, and the product with generated numbers
        for n, g in expected.items():
            if n.startswith("grad."):
                n = n.removeprefix("grad.")
                sums.setdefault(re.sub(r".*layers\.\d+\.", "", n), []).append(torch.stack([(g * g).sum(), (g * values(n, g.shape, 1)).sum()]))
        made["gradients"] = {kind: short(torch.stack(parts).sum(0)) for kind, parts in sums.items()}
    (out / (re.sub(r"[^a-z0-9]+", "_", case.name) + ".json")).write_text(json.dumps(made, separators=(",", ":")) + "\n")


def apart(a, b):
    return float((a - b).abs().max())


def compare(folder, llama):
    failed = []
    print("| model | logits, cpu | reference | loss | gradients (relative) | written as bnb nf4 | from GGUF | llama.cpp | largest logit |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in sorted(folder.iterdir(), key=lambda p: (p / "order").read_text()):
        expected = load_file(case / "expected.safetensors") if (case / "expected.safetensors").exists() else None
        ours = load_file(case / "ours.safetensors") if (case / "ours.safetensors").exists() else {}
        said = json.loads((case / "said.json").read_text())
        if expected is None:
            print(f"| {case.name} | transformers does not make it: {(case / 'refused').read_text()} | | | | | | |")
            continue
        if ("model" in said) != (case.name in REFUSED):
            failed.append(f"{case.name}: refused" if "model" in said else f"{case.name}: not refused")
        if "model" in said:
            print(f"| {case.name} | refused: {said['model']} | | | | | | |")
            continue
        cells = []
        for device in ("cpu", "reference"):
            worst = max(apart(expected[f"logits.{i}"], ours[f"{device}.logits.{i}"]) for i in range(len(LENGTHS)))
            cells.append(f"{worst:.1e}")
            if not worst < 2e-4:
                failed.append(f"{case.name}: logits on {device}")
        if "loss" in expected and "adapter" not in said:
            loss = apart(expected["loss"], ours["loss"])
            gradients = [n for n in expected if n.startswith("grad.")]
            assert {n for n in ours if n.startswith("grad.")} == set(gradients), case
            largest = max(float(expected[n].norm()) for n in gradients)
            # a window of one key has no gradient in q and k
            worst = max(float((expected[n].flatten() - ours[n]).norm() / max(expected[n].norm(), 1e-3 * largest)) for n in gradients)
            cells += [f"{loss:.1e}", f"{worst:.1e}"]
            if not (loss < 5e-5 and worst < 1e-4):
                failed.append(f"{case.name}: loss or gradients")
        else:
            cells += [said.get("adapter", "·"), "·"]
        largest = float(expected["logits.0"].abs().max())
        cells.append(written_in_4bit(case, ours, failed))
        if "gguf" in said:
            cells += [said["gguf"], ""]
        else:
            context = int(ours["context"][0])
            worst = max(apart(ours[f"cpu.logits.{i}"][:context], ours[f"gguf.logits.{i}"][:context]) for i in range(len(LENGTHS)))
            cells.append(f"{worst:.1e}")
            if not worst < 1e-5:
                failed.append(f"{case.name}: logits from GGUF")
            cells.append(llama_cpp(case, llama, ours, largest, context, failed))
        print("| " + " | ".join([case.name] + cells + [f"{largest:.1f}"]) + " |", flush=True)
    print()
    print("\n".join("FAILED " + f for f in failed) or "all within tolerance")
    sys.exit(bool(failed))


def written_in_4bit(case, ours, failed):
    """What qlora4j wrote as nf4 with double quantization, opened by transformers and bitsandbytes."""
    if "nf4.logits.0" not in ours:
        return "·"
    model = load_dequantized(case / "nf4")
    with torch.no_grad():
        worst = max(apart(model(torch.tensor([ids])).logits[0], ours[f"nf4.logits.{i}"]) for i, ids in enumerate(rows()))
    if not worst < 2e-4:
        failed.append(f"{case.name}: written as nf4")
    return f"{worst:.1e}"


def halves(case, ids):
    """transformers with gelu as llama.cpp computes it on CPUs, by a table of fp16."""
    model = (load_dequantized if case.name in QUANTIZED else load)(case / "base")
    for layer in model.model.layers:
        gelu = layer.mlp.act_fn.forward
        layer.mlp.act_fn.forward = lambda x, gelu=gelu: gelu(x.half().float()).half().float()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def llama_cpp(case, llama, ours, largest, context, failed):
    """As far as the file's context reaches; with longrope, rows longer than original_max_position_embeddings only."""
    config = json.loads((case / "base" / "config.json").read_text())
    longrope = (config.get("rope_parameters") or {}).get("rope_type") == "longrope"
    worst, note = 0.0, ""
    for i, ids in enumerate(rows()):
        n = min(len(ids), context)
        if longrope and n <= config["original_max_position_embeddings"] < 256:  # its contexts are multiples of 256
            note = " (long rows)"
            continue
        theirs = llama.logits(str(case / "model.gguf"), ids[:n], context=n)
        if theirs is None:
            failed.append(f"{case.name}: llama.cpp does not load its GGUF file: {llama.log}")
            return "not loaded"
        if config["model_type"].startswith("gemma"):
            note = " (gelu in fp16)"
            worst = max(worst, apart(torch.tensor(theirs), halves(case, ids)[:n]))
        else:
            worst = max(worst, apart(torch.tensor(theirs), ours[f"cpu.logits.{i}"][:n]))
    # two numbers that round to neighbouring halves are 5e-4 of their size apart
    if not worst < (2e-3 if config["model_type"].startswith("gemma") else 2e-4):
        failed.append(f"{case.name}: llama.cpp's logits")
    return f"{worst:.1e}{note}" + (f" (first {context} tokens)" if context < LENGTHS[0] else "")


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "make":
        root.mkdir(parents=True, exist_ok=True)
        for number, (name, arguments) in enumerate({**CASES, **QUANTIZED}.items()):
            case = root / name
            shutil.rmtree(case, ignore_errors=True)
            case.mkdir()
            (case / "order").write_text(f"{number:03}")
            (case / "rows.json").write_text(json.dumps(rows()))
            try:
                (make if name in CASES else make_quantized)(case, *arguments)
            except Exception as e:
                (case / "refused").write_text(f"{type(e).__name__}: {e}")
    elif sys.argv[1] == "golden":
        for name in CASES:
            if name not in REFUSED and not (root / name / "refused").exists():
                golden(root / name, pathlib.Path(sys.argv[3]))
    else:
        from llama_cpp import LlamaCpp
        compare(root, LlamaCpp(sys.argv[3]))
