"""The C interface of llama.cpp, as far as logits need it: of b4916, which its Java binding has inside, and of newer ones."""
import ctypes as c
import pathlib

import numpy as np


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p), ("pos", c.POINTER(c.c_int32)),
                ("n_seq_id", c.POINTER(c.c_int32)), ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


class Parameters(c.Structure):
    """llama_model_params or llama_context_params: larger than both, which a callee does not see."""
    _fields_ = [("words", c.c_uint32 * 128)]


class LlamaCpp:
    def __init__(self, library):
        """library: a file with all of llama.cpp inside, or a folder with libllama*.so, libggml*.so and its backends"""
        folder = pathlib.Path(library)
        if folder.is_dir():
            ggml = c.CDLL(str(next(folder.glob("libggml.*so"))), mode=c.RTLD_GLOBAL)
            ggml.ggml_backend_load_all_from_path.argtypes = [c.c_char_p]
            library = next(folder.glob("libllama.*so"))
        self.lib = c.CDLL(str(library))
        log = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
        self.log = ""
        self.keep_log = log(self._log)
        self.lib.llama_log_set(self.keep_log, None)
        if folder.is_dir():
            ggml.ggml_backend_load_all_from_path(str(folder).encode())
        for name, result, arguments in (
                ("llama_model_default_params", Parameters, []),
                ("llama_context_default_params", Parameters, []),
                ("llama_model_load_from_file", c.c_void_p, [c.c_char_p, Parameters]),
                ("llama_init_from_model", c.c_void_p, [c.c_void_p, Parameters]),
                ("llama_adapter_lora_init", c.c_void_p, [c.c_void_p, c.c_char_p]),
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

    def _log(self, level, text, user):
        if level >= 3:  # warnings and errors
            self.log += text.decode(errors="replace")

    def context(self, model, size):
        """Deterministic and precise: one thread, keys and values in fp32, no flash attention."""
        parameters = self.lib.llama_context_default_params()
        words = parameters.words
        pairs = lambda value: next(i for i in range(4, 40) if words[i] == words[i + 1] == value)
        threads, types = pairs(4), pairs(1)  # found by their default values; types are F16
        words[0] = words[1] = words[2] = size  # n_ctx, n_batch, n_ubatch
        words[threads] = words[threads + 1] = 1
        words[types] = words[types + 1] = 0
        if hasattr(self.lib, "llama_flash_attn_type_name"):
            assert words[threads + 6] == 2 ** 32 - 1, "flash_attn_type is expected here, AUTO"
            words[threads + 6] = 0
        context = self.lib.llama_init_from_model(model, parameters)
        assert context, f"llama.cpp makes no context: {self.log}"
        return context

    def plain_context(self, model, size, threads):
        """As llama.cpp would have it, for measuring speed."""
        parameters = self.lib.llama_context_default_params()
        words = parameters.words
        at = next(i for i in range(4, 40) if words[i] == words[i + 1] == 4)
        words[0] = size
        words[at] = words[at + 1] = threads
        context = self.lib.llama_init_from_model(model, parameters)
        assert context, f"llama.cpp makes no context: {self.log}"
        return context

    def apply(self, context, model, adapter_file):
        adapter = self.lib.llama_adapter_lora_init(model, adapter_file.encode())
        assert adapter, f"llama.cpp does not load {adapter_file}: {self.log}"
        if hasattr(self.lib, "llama_set_adapters_lora"):
            function = self.lib.llama_set_adapters_lora
            function.argtypes = [c.c_void_p, c.POINTER(c.c_void_p), c.c_size_t, c.POINTER(c.c_float)]
            result = function(context, (c.c_void_p * 1)(adapter), 1, (c.c_float * 1)(1.0))
        else:
            self.lib.llama_set_adapter_lora.argtypes = [c.c_void_p, c.c_void_p, c.c_float]
            result = self.lib.llama_set_adapter_lora(context, adapter, 1.0)
        assert result == 0, f"llama.cpp does not apply {adapter_file}: {self.log}"

    def logits(self, model_file, ids, adapter_file=None, context=256):
        """[tokens, vocabulary]; None if llama.cpp does not load the file (log says why)"""
        lib = self.lib
        self.log = ""
        model = lib.llama_model_load_from_file(model_file.encode(), lib.llama_model_default_params())
        if not model:
            return None
        context = self.context(model, context)
        if adapter_file:
            self.apply(context, model, adapter_file)
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
