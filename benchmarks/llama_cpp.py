"""The C interface of llama.cpp b4916, as far as logits need it."""
import ctypes as c

import numpy as np


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p), ("pos", c.POINTER(c.c_int32)),
                ("n_seq_id", c.POINTER(c.c_int32)), ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


class Parameters(c.Structure):
    """llama_model_params or llama_context_params: larger than both, which a callee does not see."""
    _fields_ = [("words", c.c_uint32 * 128)]


class LlamaCpp:
    def __init__(self, library):
        self.lib = c.CDLL(library)
        log = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
        self.silent = log(lambda level, text, user: None)
        self.lib.llama_log_set(self.silent, None)
        for name, result, arguments in (
                ("llama_model_default_params", Parameters, []),
                ("llama_context_default_params", Parameters, []),
                ("llama_model_load_from_file", c.c_void_p, [c.c_char_p, Parameters]),
                ("llama_init_from_model", c.c_void_p, [c.c_void_p, Parameters]),
                ("llama_adapter_lora_init", c.c_void_p, [c.c_void_p, c.c_char_p]),
                ("llama_set_adapter_lora", c.c_int32, [c.c_void_p, c.c_void_p, c.c_float]),
                ("llama_batch_init", Batch, [c.c_int32] * 3),
                ("llama_decode", c.c_int32, [c.c_void_p, Batch]),
                ("llama_get_logits_ith", c.POINTER(c.c_float), [c.c_void_p, c.c_int32]),
                ("llama_model_get_vocab", c.c_void_p, [c.c_void_p]),
                ("llama_vocab_n_tokens", c.c_int32, [c.c_void_p]),
                ("llama_free", None, [c.c_void_p]),
                ("llama_model_free", None, [c.c_void_p])):
            function = getattr(self.lib, name)
            function.restype, function.argtypes = result, arguments
        self.lib.llama_backend_init()

    def logits(self, model_file, ids, adapter_file=None):
        lib = self.lib
        model = lib.llama_model_load_from_file(model_file.encode(), lib.llama_model_default_params())
        assert model, f"llama.cpp does not load {model_file}"
        parameters = lib.llama_context_default_params()
        words = parameters.words
        words[0] = words[1] = words[2] = 256  # n_ctx, n_batch, n_ubatch
        words[4] = words[5] = 1  # n_threads, n_threads_batch
        assert words[22] == words[23] == 1, "type_k and type_v are expected here, F16"
        words[22] = words[23] = 0  # a cache in F32
        context = lib.llama_init_from_model(model, parameters)
        assert context, "llama.cpp makes no context"
        if adapter_file:
            adapter = lib.llama_adapter_lora_init(model, adapter_file.encode())
            assert adapter and lib.llama_set_adapter_lora(context, adapter, 1.0) == 0, f"llama.cpp does not apply {adapter_file}"
        batch = lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        assert lib.llama_decode(context, batch) == 0
        count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        rows = [np.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), (count,)).copy() for i in range(len(ids))]
        lib.llama_free(context)
        lib.llama_model_free(model)
        return np.stack(rows)

    def quantize(self, kind, values):
        """ggml's quantize_row_<kind>_ref."""
        values = np.ascontiguousarray(values, np.float32)
        out = np.zeros(values.size // 32 * {"q8_0": 34, "q4_0": 18}[kind], np.uint8)
        function = getattr(self.lib, f"quantize_row_{kind}_ref")
        function.argtypes = [c.c_void_p, c.c_void_p, c.c_int64]
        function(values.ctypes.data, out.ctypes.data, values.size)
        return out
