"""The part of llama.cpp's public C interface that a capture needs, through ctypes (include/llama.h, ggml/include/ggml.h of 2026).

The library comes from a Python package that carries it (xllamacpp: compiled wheels; llama-cpp-python) or from a file. Both headers
change between versions, so the layouts are checked on the library's own answers before anything is run."""

import ctypes
import importlib.util
import os
import pathlib

import numpy

EVALUATED = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)  # ggml_backend_sched_eval_callback
LOGGED = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
F32, F16, I32 = 0, 1, 26  # enum ggml_type
# Behind the known fields: structures are passed by value, and a newer library may have more of them.
SPARE = ("spare", ctypes.c_uint8 * 256)


class ModelParameters(ctypes.Structure):
    _fields_ = [("devices", ctypes.c_void_p), ("overrides", ctypes.c_void_p), ("n_gpu_layers", ctypes.c_int32), ("split_mode", ctypes.c_int), SPARE]


class ContextParameters(ctypes.Structure):
    _fields_ = [
        ("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("n_ubatch", ctypes.c_uint32), ("n_seq_max", ctypes.c_uint32),
        ("n_rs_seq", ctypes.c_uint32), ("n_outputs_max", ctypes.c_uint32), ("n_outputs_max_per_seq", ctypes.c_uint32), ("n_threads", ctypes.c_int32),
        ("n_threads_batch", ctypes.c_int32), ("ctx_type", ctypes.c_int), ("rope_scaling_type", ctypes.c_int), ("pooling_type", ctypes.c_int),
        ("attention_type", ctypes.c_int), ("flash_attn_type", ctypes.c_int), ("rope_freq_base", ctypes.c_float), ("rope_freq_scale", ctypes.c_float),
        ("yarn_ext_factor", ctypes.c_float), ("yarn_attn_factor", ctypes.c_float), ("yarn_beta_fast", ctypes.c_float), ("yarn_beta_slow", ctypes.c_float),
        ("yarn_orig_ctx", ctypes.c_uint32), ("defrag_thold", ctypes.c_float), ("cb_eval", EVALUATED), ("cb_eval_user_data", ctypes.c_void_p),
        ("type_k", ctypes.c_int), ("type_v", ctypes.c_int), ("abort_callback", ctypes.c_void_p), ("abort_data", ctypes.c_void_p),
        ("embeddings", ctypes.c_bool), ("offload_kqv", ctypes.c_bool), ("no_perf", ctypes.c_bool), ("op_offload", ctypes.c_bool),
        ("swa_full", ctypes.c_bool), ("kv_unified", ctypes.c_bool), SPARE,
    ]  # fmt: skip


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p), ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)), ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]  # fmt: skip


class Node(ctypes.Structure):
    """struct ggml_tensor."""

    _fields_ = [
        ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4), ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32), ("src", ctypes.c_void_p * 10), ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t), ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64),
    ]  # fmt: skip


P, SIZE = ctypes.c_void_p, ctypes.c_size_t
# name: result, arguments
FUNCTIONS = {
    "llama_backend_init": (None, []), "llama_log_set": (None, [LOGGED, P]), "llama_print_system_info": (ctypes.c_char_p, []),
    "llama_model_default_params": (ModelParameters, []), "llama_model_load_from_file": (P, [ctypes.c_char_p, ModelParameters]), "llama_model_free": (None, [P]),
    "llama_model_get_vocab": (P, [P]), "llama_vocab_n_tokens": (ctypes.c_int32, [P]),
    "llama_tokenize": (ctypes.c_int32, [P, ctypes.c_char_p, ctypes.c_int32, P, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]),
    "llama_context_default_params": (ContextParameters, []), "llama_init_from_model": (P, [P, ContextParameters]), "llama_free": (None, [P]),
    "llama_batch_init": (Batch, [ctypes.c_int32] * 3), "llama_batch_free": (None, [Batch]), "llama_decode": (ctypes.c_int32, [P, Batch]),
    "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [P]),
    "ggml_get_name": (ctypes.c_char_p, [P]), "ggml_op_name": (ctypes.c_char_p, [ctypes.c_int]), "ggml_nbytes": (SIZE, [P]), "ggml_nelements": (ctypes.c_int64, [P]),
    "ggml_backend_tensor_get": (None, [P, P, SIZE, SIZE]),
}  # fmt: skip


def find_library(given):
    """(files to load, first the one with ggml; where it is from)."""
    if given is not None:
        beside = sorted(given.parent.glob("*ggml-base*"))
        return [*beside[:1], given], str(given)
    for package, pattern in (("xllamacpp", "xllamacpp*.so"), ("llama_cpp", "lib/*llama.*")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folder = pathlib.Path(spec.origin).parent
            files = sorted(folder.glob(pattern))
            if files:
                return [*sorted(folder.glob("lib/*ggml-base*"))[:1], files[0]], package
    raise ValueError("no llama.cpp found: pip install xllamacpp (or llama-cpp-python), or name the library by --library libllama.so")


class Library:
    NUMPY = {F32: numpy.float32, F16: numpy.float16, I32: numpy.int32}

    def __init__(self, given=None):
        files, self.source = find_library(given)
        loaded = [ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL) for file in files]
        for name, (result, arguments) in FUNCTIONS.items():
            function = next((getattr(library, name) for library in reversed(loaded) if hasattr(library, name)), None)
            if function is None:
                raise ValueError(f"{files[-1]} does not export {name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("llama_"), function)
        self._checked = False
        self._check_parameters()

    def _check_parameters(self):
        """The documented defaults stand where this file expects them (src/llama-context.cpp, llama_context_default_params)."""
        p = self.context_default_params()
        seen = (p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max, p.yarn_ext_factor, p.defrag_thold, bool(p.cb_eval), p.type_k, p.type_v)
        if seen != (512, 2048, 512, 1, -1.0, -1.0, False, F16, F16):
            raise ValueError(f"this version of llama.cpp has other context parameters than tools/oracle/libllama.py: {seen}")

    def silence(self):
        self._silent = LOGGED(lambda level, text, user: None)
        self.log_set(self._silent, None)

    def logits(self, path, ids, threads=2):
        """[T, V] in f32 of a model file, every position in one batch, cache in f32."""
        self.backend_init()
        model = self.model_load_from_file(os.fsencode(path), self.model_default_params())
        if not model:
            raise ValueError(f"llama.cpp cannot load {path}")
        parameters = self.context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = max(len(ids), 256), len(ids), len(ids)
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.flash_attn_type, parameters.type_k, parameters.type_v, parameters.swa_full = 0, F32, F32, True
        context = self.init_from_model(model, parameters)
        try:
            if not context:
                raise ValueError("llama.cpp cannot make a context")
            return self._decode(context, model, ids)
        finally:
            if context:
                self.free(context)
            self.model_free(model)

    def _decode(self, context, model, ids):
        batch = self.batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, number in enumerate(ids):
                batch.token[place], batch.pos[place], batch.n_seq_id[place], batch.logits[place] = number, place, 1, 1
                batch.seq_id[place][0] = 0
            code = self.decode(context, batch)
            if code != 0:
                raise ValueError(f"llama_decode returned {code}")
            size = self.vocab_n_tokens(self.model_get_vocab(model))
            return numpy.ctypeslib.as_array(self.get_logits(context), (len(ids), size)).copy()
        finally:
            self.batch_free(batch)

    def node(self, pointer):
        node = ctypes.cast(pointer, ctypes.POINTER(Node)).contents
        if not self._checked:
            elements = numpy.prod(list(node.ne), dtype=numpy.int64)
            if node.name != self.ggml_get_name(pointer) or elements != self.ggml_nelements(pointer):
                raise ValueError("this version of ggml lays out its tensors otherwise than tools/oracle/libllama.py")
            self._checked = True
        return node

    def op(self, node):
        return self.ggml_op_name(node.op).decode()

    def values(self, pointer, node):
        """As [ne3, ne2, ne1, ne0], a copy in f32."""
        kind = self.NUMPY.get(node.type)
        if kind is None:
            raise ValueError(f"{node.name.decode()}: values of ggml type {node.type} are not read")
        data = ctypes.create_string_buffer(self.ggml_nbytes(pointer))
        self.ggml_backend_tensor_get(pointer, data, 0, len(data))
        return numpy.ndarray(tuple(node.ne)[::-1], kind, buffer=data, strides=tuple(node.nb)[::-1]).astype(numpy.float32)
