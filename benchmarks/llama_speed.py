"""llama.cpp: greedy tokens behind a prompt of 64, as `qlora bench` takes them, with llama.cpp's own settings; one line of JSON.

usage: llama_speed.py LIBRARY MODEL.gguf NEW_TOKENS ROUNDS THREADS     LIBRARY as llama_cpp.py takes it
"""
import json
import statistics
import sys
import time

import numpy as np
from llama_cpp import LlamaCpp

LIBRARY, MODEL, TOKENS, ROUNDS, THREADS = *sys.argv[1:3], *map(int, sys.argv[3:6])
llama = LlamaCpp(LIBRARY)
lib = llama.lib
model = lib.llama_model_load_from_file(MODEL.encode(), lib.llama_model_default_params())
assert model, llama.log
count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
ids = [int(i) for i in np.random.default_rng(0).integers(3, count, 64)]
batch = lib.llama_batch_init(len(ids), 0, 1)


def decode(context, tokens, at):
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, at + i, 1, i == len(tokens) - 1
        batch.seq_id[i][0] = 0
    assert lib.llama_decode(context, batch) == 0
    return int(np.ctypeslib.as_array(lib.llama_get_logits_ith(context, len(tokens) - 1), (count,)).argmax())


def generate():
    context = llama.plain_context(model, len(ids) + TOKENS, THREADS)
    start = time.perf_counter()
    token = decode(context, ids, 0)
    first = time.perf_counter() - start
    for n in range(TOKENS - 1):
        token = decode(context, [token], len(ids) + n)
    whole = time.perf_counter() - start
    lib.llama_free(context)
    return first, (TOKENS - 1) / (whole - first)


generate()
rounds = [generate() for _ in range(ROUNDS)]
peak = next(int(line.split()[1]) * 1024 / 1e6 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(dict(first_token_s=statistics.median(r[0] for r in rounds),
                      tokens_per_second=statistics.median(r[1] for r in rounds), peak_mb=peak, workload="generate")))
