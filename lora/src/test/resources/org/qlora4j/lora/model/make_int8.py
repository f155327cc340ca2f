"""Makes int8/: a tiny Llama in LLM.int8, and what transformers computes from its dequantized weights. Run in this folder."""
import json, torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from safetensors.torch import save_file
torch.manual_seed(20260)
torch.set_num_threads(1)
c = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.3)
LlamaForCausalLM(c).to(torch.bfloat16).save_pretrained('int8_base')
m = AutoModelForCausalLM.from_pretrained('int8_base', dtype=torch.float32, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map='cpu')
m.save_pretrained('int8')
m = AutoModelForCausalLM.from_pretrained('int8', dtype=torch.float32, device_map='cpu', attn_implementation='eager')
m = m.dequantize(torch.float32).eval()
ids = [1, 17, 63, 3, 9, 42, 42, 7]
with torch.no_grad():
    logits = m(torch.tensor([ids])).logits[0]
w = m.model.layers[0].mlp.down_proj.weight.detach().contiguous()
save_file({'logits': logits.contiguous(), 'model.layers.0.mlp.down_proj.weight': w}, 'int8/expected.safetensors')
