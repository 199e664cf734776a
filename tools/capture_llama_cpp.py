#!/usr/bin/env python3
"""Captures the stages of a GGUF model as llama.cpp computes them, as a stage directory for `apr bisect` and `apr diff`.

    capture_llama_cpp.py MODEL.gguf --ids 1,2,3 | --ids-file F | --text T  --out DIR
                         [--library libllama.so] [--threads N] [--gpu-layers N] [--cache f32|f16] [--force]

It runs the llama.cpp that `pip install xllamacpp` (or llama-cpp-python) brings, or a library of your own, through its public
interface: the evaluation callback of llama_context_params (llama.h, cb_eval) sees every node of the graph after it was computed, and what is recorded is what was
used. Flash attention is off, because it has no scores to show. Nodes are known by the weight that they read
(blk.3.ffn_up.weight) and, where they read none, by the name that llama.cpp gives them (src/llama-graph.cpp).

The rows of q and k lie in GGUF's order for some architectures (elements i and i + D/2 of a head side by side); they are
written in transformers' order. attn_scores are llama.cpp's products times the scale that its softmax applies. Where gate,
activation and product are one node, ffn_silu is absent.
"""

import argparse
import collections
import contextlib
import ctypes
import os
import pathlib
import re
import struct
import sys

import gguf
import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "oracle"))

import libllama
from aprt import EXIT_USAGE, LAYER_STAGES, MODEL_STAGES, parse_ids, prepare, write_directory

# Architectures whose converter puts rope pairs side by side (convert_hf_to_gguf.py, permute).
ADJACENT_ROWS = ("llama", "granite", "smollm3", "mistral3", "deci", "arcee")
# A node reads blk.<layer>.<weight>.weight: the stage it is. Biases replace the value without them.
BY_WEIGHT = {
    "attn_norm": "attn_norm", "attn_q_norm": "q_norm", "attn_k_norm": "k_norm", "attn_output": "attn_out",
    "post_attention_norm": "post_attn_norm", "ffn_norm": "ffn_norm", "ffn_gate": "ffn_gate", "ffn_up": "ffn_up",
    "ffn_down": "ffn_out", "post_ffw_norm": "post_ffn_norm", "ffn_gate_inp": "moe_router_logits",
}  # fmt: skip
BY_NAME = {
    "kq_soft_max": "attn_softmax", "kqv_out": "attention", "ffn_inp": "post_attn_residual", "sa_out": "post_attn_residual",
    "ffn_silu": "ffn_silu", "ffn_gelu": "ffn_silu", "ffn_relu": "ffn_silu", "ffn_swiglu": "ffn_swigl", "ffn_geglu": "ffn_swigl",
    "ffn_reglu": "ffn_swigl", "ffn_gate_par": "ffn_swigl", "ffn_moe_weights": "moe_router", "ffn_moe_weights_norm": "moe_router",
    "ffn_moe_weights_scaled": "moe_router", "ffn_moe_topk": "moe_router_indices", "ffn_moe_out": "moe_ffn_out",
    "l_out": "post_ffn_residual", "result_norm": "final_norm", "result_output": "lm_head",
}  # fmt: skip
SCORES = ("kq", "kq_scaled", "kq_scaled_2")
# What ggml's CPU kernels turn activations into, by the type of the weight (ggml-cpu.c, type_traits_cpu, vec_dot_type).
ACTIVATIONS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


class Taps:
    """Turns computed nodes into stages."""

    def __init__(self, llama, tokens, heads, kv_heads, ffn, adjacent):
        self.llama, self.tokens, self.ffn, self.adjacent = llama, tokens, ffn, adjacent
        self.heads = {"q": heads, "k": kv_heads, "v": kv_heads}
        self.values, self.parts, self.scores = {}, collections.defaultdict(dict), {}
        self.error = None

    def __call__(self, pointer, ask, user):
        if ask:
            return True
        try:
            self.take(pointer, self.llama.node(pointer))
        except Exception as error:  # an exception cannot cross the C library
            self.error = self.error or error
            return False
        return True

    def take(self, pointer, node):
        op = self.llama.op(node)
        name, _, layer = node.name.decode().partition(" ")[0].partition("-")
        if op in ("VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE") and name != "ffn_moe_topk":
            return
        layer = int(layer) if layer.isdigit() else None
        weight = self.weight(node)
        if weight and self.of_weight(pointer, node, op, *weight):
            return
        looked_up = op == "GET_ROWS" and self.name_of(node.src[1]) == "inp_tokens"
        if looked_up or name in ("inp_scaled", "inpL") or op == "SCALE" and name in ("embd", "inp_embd"):
            self.store(0, "embedding", self.rows(pointer, node))
        elif name in ("Qcur", "Kcur") and op == "ROPE":
            self.store(layer, f"{name[0].lower()}_post_rope", self.heads_in_order(self.rows(pointer, node), name[0].lower()))
        elif name in SCORES and op in ("MUL_MAT", "SCALE"):
            self.scores[layer] = self.square(pointer, node)
        elif name in BY_NAME:
            if name == "kq_soft_max":
                scale = struct.unpack("<f", struct.pack("<i", node.op_params[0]))[0]
                self.store(layer, "attn_scores", self.scores.pop(layer) * scale)
                self.store(layer, "attn_softmax", self.square(pointer, node))
            else:
                self.store(layer, BY_NAME[name], self.rows(pointer, node))
        elif name == "ffn_out" and (layer, "moe_router_logits") in self.values:
            self.store(layer, "moe_ffn_out", self.rows(pointer, node))

    def name_of(self, pointer):
        return self.llama.node(pointer).name.decode() if pointer else ""

    def weight(self, node):
        """(layer or None, what, "weight" or "bias") of the file's tensor that a node reads."""
        for source in node.src[:2]:
            if source:
                name = self.name_of(source).rpartition("#")[2]
                match = re.match(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)\b", name)
                if match:
                    return (None if match[1] is None else int(match[1])), match[2], match[3]
        return None

    def of_weight(self, pointer, node, op, layer, what, kind):
        if op not in ("MUL_MAT", "MUL", "ADD") or layer is None:
            return False
        if what in ("attn_q", "attn_k", "attn_v", "attn_qkv"):
            self.projected(layer, what.removeprefix("attn_"), kind, self.rows(pointer, node))
        elif what in BY_WEIGHT:
            rows = self.rows(pointer, node)
            if what == "ffn_up" and rows.shape[1] == 2 * self.ffn:  # fused, gate first
                self.store(layer, "ffn_gate", rows[:, : self.ffn])
                rows = rows[:, self.ffn :]
            if what == "ffn_norm" and op == "MUL":
                self.residual(layer, self.llama.node(node.src[0]).src[0])
            self.store(layer, BY_WEIGHT[what], rows)
        else:
            return False
        return True

    def residual(self, layer, pointer):
        """What the second norm reads, where llama.cpp gives it no name."""
        if not pointer or (layer, "post_attn_residual") in self.values:
            return
        node = self.llama.node(pointer)
        if self.llama.op(node) == "ADD" and node.name.startswith(b"node_"):
            self.store(layer, "post_attn_residual", self.rows(pointer, node))

    def projected(self, layer, part, kind, rows):
        parts = self.parts[layer]
        if part != "qkv":
            rows = self.heads_in_order(rows, part)
        parts[part, kind] = rows
        if kind == "weight":
            parts.pop((part, "bias"), None)
        for stage, chosen in (("qkv_matmul", ("weight",)), ("qkv_bias", ("bias", "weight"))):
            found = [next((parts[name, k] for k in chosen if (name, k) in parts), None) for name in (("qkv",) if part == "qkv" else "qkv")]
            if all(value is not None for value in found):
                self.store(layer, stage, numpy.concatenate(found, axis=1))

    def heads_in_order(self, rows, part):
        if not self.adjacent or part == "v":
            return rows
        shape = (len(rows), self.heads[part], -1, 2)
        return rows.reshape(shape).swapaxes(2, 3).reshape(rows.shape)

    def rows(self, pointer, node):
        """[T, W]: a token's values lie in the last dimensions but one."""
        values = self.llama.values(pointer, node)[0]
        if values.shape[0] == self.tokens:
            return values.reshape(self.tokens, -1)
        if values.shape[1] == self.tokens and values.shape[0] == 1:
            return values[0]
        raise RuntimeError(f"{node.name.decode()}: shape {values.shape} for {self.tokens} tokens")

    def square(self, pointer, node):
        """[H, T, T] of [H, T, cells of the cache]."""
        return self.llama.values(pointer, node)[0][:, : self.tokens, : self.tokens]

    def store(self, layer, stage, value):
        self.values[None if stage in MODEL_STAGES else layer, stage] = numpy.array(value)

    def stages(self):
        layers = sorted({layer for layer, _ in self.values if layer is not None})
        for layer in layers:
            if (layer, "moe_router_logits") in self.values:  # what else is called ffn there belongs to the shared expert
                for stage in ("ffn_gate", "ffn_up", "ffn_silu", "ffn_swigl", "ffn_out"):
                    self.values.pop((layer, stage), None)
        found = {f"layer-{n}/{s}": self.values[n, s] for n in layers for s in LAYER_STAGES if (n, s) in self.values}
        return found | {s: self.values[None, s] for s in MODEL_STAGES if (None, s) in self.values}


def describe(path):
    """(architecture, heads, kv heads, feed-forward width, precision) of a GGUF file."""
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    heads = int(reader.fields[f"{arch}.attention.head_count"].contents())
    kv_field = reader.fields.get(f"{arch}.attention.head_count_kv")
    ffn = int(reader.fields[f"{arch}.feed_forward_length"].contents())
    weights = collections.Counter()
    for tensor in reader.tensors:
        if len(tensor.shape) > 1 and tensor.name != "token_embd.weight":
            weights[tensor.tensor_type.name] += int(tensor.n_elements)
    kind = weights.most_common(1)[0][0]
    precision = {"weights": kind.lower(), "activations": ACTIVATIONS.get(kind, "int8"), "accumulate": "f32"}
    return arch, heads, int(kv_field.contents()) if kv_field else heads, ffn, precision


@contextlib.contextmanager
def loaded(llama, path, gpu_layers):
    llama.backend_init()
    parameters = llama.model_default_params()
    parameters.n_gpu_layers = gpu_layers
    model = llama.model_load_from_file(os.fsencode(path), parameters)
    if not model:
        raise ValueError(f"llama.cpp cannot load {path}")
    try:
        yield model
    finally:
        llama.model_free(model)


def tokenize(llama, model, text):
    data = text.encode()
    room = (ctypes.c_int32 * (len(data) + 16))()
    count = llama.tokenize(llama.model_get_vocab(model), data, len(data), room, len(room), True, True)
    if count < 1:
        raise ValueError("the text has no tokens")
    return list(room[:count])


def run(llama, model, ids, taps, arguments):
    parameters = llama.context_default_params()
    parameters.n_ctx = max(len(ids), 32)
    parameters.n_batch = parameters.n_ubatch = len(ids)
    parameters.n_threads = parameters.n_threads_batch = arguments.threads
    parameters.flash_attn_type = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.type_k = parameters.type_v = {"f32": libllama.F32, "f16": libllama.F16}[arguments.cache]
    parameters.swa_full = True
    parameters.cb_eval = callback = libllama.EVALUATED(taps)
    context = llama.init_from_model(model, parameters)
    if not context:
        raise ValueError("llama.cpp cannot make a context")
    batch = llama.batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for place, number in enumerate(ids):
            batch.token[place], batch.pos[place], batch.n_seq_id[place], batch.logits[place] = number, place, 1, 1
            batch.seq_id[place][0] = 0
        code = llama.decode(context, batch)
        if taps.error:
            raise taps.error
        if code != 0:
            raise ValueError(f"llama_decode returned {code}")
    finally:
        llama.batch_free(batch)
        llama.free(context)
        del callback  # the library has called it for the last time


def capture(arguments):
    llama = libllama.Library(arguments.library)
    if not arguments.verbose:
        llama.silence()
    arch, heads, kv_heads, ffn, precision = describe(arguments.model)
    with loaded(llama, arguments.model, arguments.gpu_layers) as model:
        if arguments.text is not None:
            ids = tokenize(llama, model, arguments.text)
        else:
            ids = parse_ids(arguments.ids if arguments.ids is not None else arguments.ids_file.read_text())
        size = llama.vocab_n_tokens(llama.model_get_vocab(model))
        if max(ids) >= size:
            raise ValueError(f"id {max(ids)} is outside the vocabulary of {size}")
        prepare(arguments.out, arguments.force)
        taps = Taps(llama, len(ids), heads, kv_heads, ffn, arch in ADJACENT_ROWS)
        run(llama, model, ids, taps, arguments)
    found = taps.stages()
    write_directory(arguments.out, found, engine=f"llama.cpp ({llama.source})", model=str(arguments.model), architecture=arch, precision=precision, ids=ids,
                    extra={"cache": arguments.cache, "gpu_layers": arguments.gpu_layers})
    print(f"{arguments.out}: {len(found)} stages of {len(ids)} tokens, weights {precision['weights']}, activations {precision['activations']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL.gguf")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--ids", help="token ids, separated by commas")
    prompt.add_argument("--ids-file", type=pathlib.Path, help="token ids, separated by commas or white space")
    prompt.add_argument("--text", help="tokenised by llama.cpp, its special tokens added")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--library", type=pathlib.Path, help="libllama.so with libggml-base.so beside it; default: the one of an installed package")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--gpu-layers", type=int, default=0, help="default 0: everything on the CPU")
    parser.add_argument("--cache", choices=("f32", "f16"), default="f32", help="type of the cache of keys and values; llama.cpp's own default is f16")
    parser.add_argument("--force", action="store_true", help="replace the stages that DIR holds")
    parser.add_argument("--verbose", action="store_true", help="show what llama.cpp says")
    arguments = parser.parse_args()
    try:
        capture(arguments)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"capture_llama_cpp.py: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
