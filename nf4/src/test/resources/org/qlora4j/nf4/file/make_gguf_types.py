"""Makes gguf_types.gguf (random blocks of every type that is read, metadata of every value type) and
gguf_types.safetensors (what gguf.quants.dequantize makes of them). See README.md; run: python make_gguf_types.py"""
import numpy as np
from gguf import GGMLQuantizationType as T, GGUFValueType as V, GGUFWriter, GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors.numpy import save_file

BLOCKS = 2  # per tensor, one row of them
# byte offsets of the fp16 scales inside a block: the only bytes that must not be arbitrary (no NaN, no infinity)
F16_AT = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q8_K": [], "IQ4_NL": [0], "IQ4_XS": [0]}

rng = np.random.default_rng(20260)
w = GGUFWriter("gguf_types.gguf", "llama")
w.add_uint8("test.u8", 200)
w.add_int8("test.i8", -100)
w.add_uint16("test.u16", 60000)
w.add_int16("test.i16", -30000)
w.add_uint32("test.u32", 4000000000)
w.add_int32("test.i32", -2000000000)
w.add_uint64("test.u64", 2**63 - 1)
w.add_int64("test.i64", -(2**63))
w.add_float32("test.f32", 1e-5)
w.add_float64("test.f64", 0.1)
w.add_bool("test.bool", True)
w.add_string("test.string", "grüße ▁")
w.add_array("test.strings", ["<s>", "", "▁the"])
w.add_array("test.floats", [0.5, -1.5])
w.add_key_value("test.nested", [[1, 2], [3]], V.ARRAY, sub_type=V.ARRAY)

expected = {}
for name, f16_at in F16_AT.items():
    qtype = T[name]
    size, bytes_ = GGML_QUANT_SIZES[qtype]
    data = rng.integers(0, 256, (BLOCKS, bytes_), dtype=np.uint8)
    for b in range(BLOCKS):
        for at in f16_at:
            # negative scales in the second block: a quantum of zero must give the same sign of zero
            data[b, at:at + 2] = np.array([rng.uniform(0.01, 2.0) * (1 - 2 * b)], dtype=np.float16).view(np.uint8)
        if name == "Q8_K":
            data[b, 0:4] = np.array([rng.uniform(0.01, 2.0) * (1 - 2 * b)], dtype=np.float32).view(np.uint8)
    flat = data.reshape(1, -1)
    w.add_tensor(name, flat, raw_dtype=qtype)
    if name == "Q8_K":  # not in gguf.quants: a float32 scale, 256 int8, 16 sums that do not matter here
        values = data[:, 0:4].copy().view(np.float32) * data[:, 4:260].view(np.int8).astype(np.float32)
    else:
        values = dequantize(flat, qtype).astype(np.float32)
    expected[name] = values.reshape(BLOCKS * size)
plain = rng.standard_normal((3, 4)).astype(np.float32)
w.add_tensor("F32", plain)
w.add_tensor("F16", plain.astype(np.float16))
bf16 = (plain.view(np.uint32) >> 16).astype(np.uint16)
w.add_tensor("BF16", bf16.view(np.uint8).reshape(3, 8), raw_dtype=T.BF16)
expected["F32"] = plain
expected["F16"] = plain.astype(np.float16).astype(np.float32)
expected["BF16"] = (bf16.astype(np.uint32) << 16).view(np.float32)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
save_file(expected, "gguf_types.safetensors", {"format": "np"})
