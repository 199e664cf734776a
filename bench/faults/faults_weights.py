"""Pairs whose B holds other tensor values: wrong transforms of a converter, damaged data, too few bits."""

import dataclasses
import re

import gguf
import numpy
import torch

import gguf_side
import models
from case import Expect

LLAMA = "ggml-org/llama.cpp"
HF = "huggingface/transformers"
F16_MAX = 65504.0


@dataclasses.dataclass
class Fault:
    name: str
    base: str
    source: str
    change: object
    causes: list
    tensor: list
    stage: list
    layer: list
    gguf: str = ""  # type of B as a GGUF file; empty: a folder
    also: list = dataclasses.field(default_factory=list)
    phase: list = dataclasses.field(default_factory=lambda: ["weights"])
    verdict: list = dataclasses.field(default_factory=lambda: ["different"])
    dtype: object = None  # the stored type of B's folder


def layer_name(layer, rest):
    return f"model.layers.{layer}.{rest}.weight"


def edit(name, function):
    return lambda model: model.edit(name, function)


def each(names, function):
    return lambda model: [model.edit(name, function) for name in list(model.tensors) if re.search(names, name)]


def drop(*names):
    return lambda model: [model.tensors.pop(name) for name in names]


def swap(one, other):
    def change(model):
        t = model.tensors
        t[one], t[other] = t[other], t[one]

    return change


def swap_layers(one, other):
    def change(model):
        for name in list(model.tensors):
            if f"layers.{one}." in name:
                twin = name.replace(f"layers.{one}.", f"layers.{other}.")
                swap(name, twin)(model)

    return change


def rotate_layers(model):
    """Every layer holds the next one's weights."""
    old = dict(model.tensors)
    for name, value in old.items():
        match = re.search(r"(.*layers\.)(\d+)(\..*)", name)
        if match:
            model.tensors[f"{match[1]}{(int(match[2]) + 1) % model.layers}{match[3]}"] = value


def permute(name, heads_of):
    """Rows in the order of adjacent rope pairs, by the head count that heads_of(model) gives."""

    def change(model):
        rows = model.tensors[name].shape[0]
        order = models.swap_pairs_to_halves(heads_of(model), rows)
        model.tensors[name] = model.tensors[name][torch.from_numpy(order)].contiguous()

    return change


def unpermute_gguf(name, heads):
    """The rows of a GGUF tensor in transformers' order again: as a converter that skips the permutation writes them."""

    def change(file):
        order = models.swap_pairs_to_halves(file.meta[file.key(heads)], len(file.tensors[name]))
        file.tensors[name] = file.tensors[name][numpy.argsort(order)]

    return change


def wrong_heads_gguf(name):
    """K permuted as if it had as many heads as q."""

    def change(file):
        rows = len(file.tensors[name])
        plain = file.tensors[name][numpy.argsort(models.swap_pairs_to_halves(file.meta[file.key("attention.head_count_kv")], rows))]
        file.tensors[name] = plain[models.swap_pairs_to_halves(file.meta[file.key("attention.head_count")], rows)]

    return change


def every(*changes):
    return lambda target: [change(target) for change in changes]


def spoil(count, value=1500.0, seed=5):
    def function(t):
        places = torch.from_numpy(numpy.random.Generator(numpy.random.PCG64(seed)).permutation(t.numel())[:count].copy())
        t.view(-1)[places] = value
        return t

    return function


def coarse(kind):
    """Values as a coarser type would have left them."""

    def function(array):
        blocks = numpy.ascontiguousarray(array).reshape(-1, 32)
        return gguf.quants.dequantize(gguf.quants.quantize(blocks, gguf_side.TYPES[kind]), gguf_side.TYPES[kind]).reshape(array.shape)

    return function


def coarse_tensor(kind):
    return lambda t: torch.from_numpy(coarse(kind)(t.numpy()))


def block_scale(tensor, blocks, offset, value):
    """Overwrites the f16 scale of some blocks of an encoded tensor."""

    def change(file):
        elements, size = gguf.GGML_QUANT_SIZES[file.types[tensor]]
        if elements == 1:
            raise ValueError(f"{tensor} has no blocks")

        def patch(data):
            flat = data.reshape(-1)
            for block in blocks:
                flat[block * size + offset : block * size + offset + 2] = numpy.array([value], "<f2").view(numpy.uint8)
            return data

        file.patches[tensor] = patch

    return change


def gguf_edit(name, function):
    return lambda file: file.edit(name, function)


def fused(name, *parts):
    """Reorders the equal-width row groups of a fused tensor; parts: sizes in order and the new order."""
    sizes, order = parts

    def change(model):
        pieces = torch.split(model.tensors[name], sizes(model))
        model.tensors[name] = torch.cat([pieces[i] for i in order]).contiguous()

    return change


def interleave_heads(name, undo=False):
    """[q, k, v][head] rows as [head][q, k, v], or the reverse."""

    def change(model):
        t = model.tensors[name]
        shape = (model.heads, 3, -1, *t.shape[1:]) if undo else (3, model.heads, -1, *t.shape[1:])
        model.tensors[name] = t.view(shape).transpose(0, 1).reshape(t.shape).contiguous()

    return change


def qkv_sizes(model):
    d = model.head_dim
    return [model.heads * d, model.kv_heads * d, model.kv_heads * d]


def retype(name, dtype, scale):
    """A tensor scaled on one side of a product and back on the other, then stored too narrow."""

    def change(model):
        model.tensors[name] = (model.tensors[name].float() * scale).to(dtype)

    return change


QKV, Q, K, V, O = "qkv_matmul", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"
GATE, UP, DOWN = "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"
CONVERTER = [
    Fault("k-permuted-with-q-heads", "llama-linear", f"{LLAMA}#3364", wrong_heads_gguf("blk.0.attn_k.weight"), ["rope_permutation"],
          [layer_name(0, K)], [QKV], [0], gguf="f32"),
    Fault("k-permuted-with-q-heads-all", "mistral-window", f"{LLAMA}#3018", lambda f: [wrong_heads_gguf(f"blk.{i}.attn_k.weight")(f) for i in range(3)],
          ["rope_permutation"], [layer_name(0, K)], [QKV], [0], gguf="f16"),
    Fault("k-not-permuted", "mixtral", f"{LLAMA}#22611", unpermute_gguf("blk.1.attn_k.weight", "attention.head_count_kv"), ["rope_permutation"],
          [layer_name(1, K)], [QKV], [1], gguf="q8_0"),
    Fault("q-and-k-not-permuted", "granite", f"{LLAMA}#22611",
          every(unpermute_gguf("blk.0.attn_k.weight", "attention.head_count_kv"), unpermute_gguf("blk.0.attn_q.weight", "attention.head_count")),
          ["rope_permutation"], [layer_name(0, Q), layer_name(0, K)], [QKV], [0], gguf="f32"),
    Fault("permuted-in-folder", "qwen3", "nurl-lang/nurl#584", every(permute(layer_name(0, Q), lambda m: m.heads), permute(layer_name(0, K), lambda m: m.kv_heads)),
          ["rope_permutation"], [layer_name(0, Q), layer_name(0, K)], [QKV], [0]),
    Fault("permuted-last-layer", "olmo2", "huggingface/nanotron#427", permute(layer_name(2, K), lambda m: m.kv_heads), ["rope_permutation"],
          [layer_name(2, K)], [QKV], [2]),
    Fault("permuted-bias", "qwen2", f"{LLAMA}#22611", permute("model.layers.1.self_attn.k_proj.bias", lambda m: m.kv_heads), ["rope_permutation"],
          ["model.layers.1.self_attn.k_proj.bias"], ["qkv_bias"], [1]),
    Fault("transposed-square", "qwen2-yarn", "paiml/aprender#1466", edit(layer_name(1, O), lambda t: t.t().contiguous()), ["transposed"],
          [layer_name(1, O)], ["attn_out"], [1]),
    Fault("transposed-shape", "llama-mha", "paiml/aprender#1466",
          lambda m: m.tensors.update({layer_name(0, DOWN): m.tensors[layer_name(0, DOWN)].t().contiguous()}), ["transposed"], [layer_name(0, DOWN)],
          ["ffn_out"], [0]),
    Fault("transposed-all-ffn", "qwen2", "paiml/aprender#1466",
          lambda m: m.tensors.update({n: t.t().contiguous() for n, t in m.tensors.items() if ".mlp." in n}), ["transposed"],
          [layer_name(0, GATE), layer_name(0, UP)], ["ffn_gate", "ffn_up"], [0]),
    Fault("conv1d-not-transposed", "gpt2", "paiml/aprender#1466", edit("transformer.h.0.attn.c_proj.weight", lambda t: t.t().contiguous()), ["transposed"],
          ["transformer.h.0.attn.c_proj.weight"], ["attn_out"], [0]),
    Fault("norms-without-plus-one", "gemma", f"{LLAMA}#5631", lambda f: [gguf_edit(n, lambda v: v - 1)(f) for n in f.tensors if n.endswith("norm.weight")],
          ["norm_offset"], [layer_name(0, "input_layernorm")], ["attn_norm"], [0], gguf="f16"),
    Fault("final-norm-without-plus-one", "gemma2", "kekzl/imp#1287", gguf_edit("output_norm.weight", lambda v: v - 1), ["norm_offset"],
          ["model.norm.weight"], ["final_norm"], [None], gguf="bf16"),
    Fault("norms-plus-one-twice", "gemma3", "Blaizzy/mlx-vlm#1556", each(r"layernorm", lambda t: t + 1), ["norm_offset"],
          [layer_name(0, "input_layernorm")], ["attn_norm"], [0]),
    Fault("norm-minus-one", "qwen3", "vllm-project/vllm#31464", edit(layer_name(1, "post_attention_layernorm"), lambda t: t - 1), ["norm_offset"],
          [layer_name(1, "post_attention_layernorm")], ["ffn_norm"], [1]),
    Fault("qk-norm-plus-one", "gemma3", "utensils/mold#1078", each(r"layers\.2\..*q_norm", lambda t: t + 1), ["norm_offset"],
          [layer_name(2, "self_attn.q_norm")], ["q_norm"], [2]),
    Fault("fused-qkv-order", "phi3", "huggingface/nanotron#427", fused(layer_name(0, "self_attn.qkv_proj"), qkv_sizes, (1, 0, 2)), ["fused_layout"],
          [layer_name(0, "self_attn.qkv_proj")], [QKV], [0]),
    Fault("fused-gate-up-order", "phi3", f"{HF}#33473", fused(layer_name(1, "mlp.gate_up_proj"), lambda m: [m.config["intermediate_size"]] * 2, (1, 0)),
          ["fused_layout", "swapped_tensors"], [layer_name(1, "mlp.gate_up_proj")], ["ffn_gate"], [1]),
    Fault("fused-heads-not-split", "gpt-neox", f"{HF}#33473", interleave_heads("gpt_neox.layers.0.attention.query_key_value.weight", undo=True),
          ["fused_layout"], ["gpt_neox.layers.0.attention.query_key_value.weight"], [QKV], [0]),
    Fault("fused-heads-gguf", "gpt-neox", f"{HF}#33473",
          gguf_edit("blk.1.attn_qkv.weight", lambda v: v.reshape(3, 4, -1, v.shape[-1]).swapaxes(0, 1).reshape(v.shape)), ["fused_layout"],
          ["gpt_neox.layers.1.attention.query_key_value.weight"], [QKV], [1], gguf="f32"),
    Fault("fused-gate-up-halves", "gpt-oss", f"{HF}#33473",
          edit("model.layers.0.mlp.experts.gate_up_proj", lambda t: torch.cat([t[..., ::2], t[..., 1::2]], dim=-1).contiguous()), ["fused_layout"],
          ["model.layers.0.mlp.experts.gate_up_proj"], ["moe_ffn_out"], [0]),
    Fault("bias-dropped-gguf", "qwen2", f"{LLAMA}#4283", lambda f: f.tensors.pop("blk.0.attn_q.bias"), ["missing_bias"],
          ["model.layers.0.self_attn.q_proj.bias"], ["qkv_bias"], [0], gguf="f32"),
    Fault("biases-dropped-gguf", "qwen2", "mlc-ai/mlc-llm#3494", lambda f: [f.tensors.pop(n) for n in list(f.tensors) if n.endswith(".bias")],
          ["missing_bias"], ["model.layers.0.self_attn"], ["qkv_bias"], [0], gguf="q8_0"),
    Fault("bias-dropped", "starcoder2", f"{LLAMA}#3133", drop("model.layers.1.mlp.c_fc.bias"), ["missing_bias"], ["model.layers.1.mlp.c_fc.bias"],
          ["ffn_up"], [1]),
    Fault("bias-zeroed-o", "gpt-oss", "sbryngelson/ANEForge#253", drop("model.layers.2.self_attn.o_proj.bias"), ["missing_bias"],
          ["model.layers.2.self_attn.o_proj.bias"], ["attn_out"], [2]),
    Fault("tensor-missing", "smollm3-nope", "paiml/aprender#2535", drop(layer_name(1, UP)), ["missing_tensor"], [layer_name(1, UP)], ["ffn_up"], [1]),
    Fault("norm-missing", "llama-linear", "paiml/aprender#2535", drop("model.norm.weight"), ["missing_tensor"], ["model.norm.weight"], ["final_norm"], [None]),
    Fault("head-left-out", "olmo2", "NVIDIA-NeMo/Automodel#2511", drop("lm_head.weight"), ["missing_tensor"], ["lm_head.weight"], ["lm_head"], [None]),
    Fault("expert-missing-gguf", "mixtral", "paiml/aprender#2535", lambda f: f.tensors.pop("blk.2.ffn_up_exps.weight"), ["missing_tensor"],
          ["model.layers.2.block_sparse_moe.experts", "blk.2.ffn_up_exps.weight"], ["moe_ffn_out"], [2], gguf="f32"),
    Fault("extra-bias-gguf", "llama-mha", "mlc-ai/mlc-llm#3494",
          lambda f: f.tensors.update({"blk.1.attn_k.bias": numpy.full(len(f.tensors["blk.1.attn_k.weight"]), 0.3, numpy.float32)})
          or f.types.update({"blk.1.attn_k.bias": gguf_side.TYPES["f32"]}), ["extra_tensor"], ["model.layers.1.self_attn.k_proj.bias"],
          ["qkv_bias", "qkv_matmul"], [1], gguf="f32"),
    Fault("extra-unread", "llama-mha", "ikawrakow/ik_llama.cpp#2291",
          lambda m: m.tensors.update({layer_name(0, "self_attn.q_norm"): torch.ones(m.head_dim)}), ["extra_tensor"],
          [layer_name(0, "self_attn.q_norm")], [], [], verdict=["different", "same", "rounding"], also=[{"causes": ["extra_tensor"], "anywhere": True}]),
    Fault("wrong-shape", "qwen3", "paiml/aprender#2535",
          lambda m: m.tensors.update({layer_name(0, DOWN): m.tensors[layer_name(0, DOWN)][:, :-8].contiguous()}), ["wrong_shape"], [layer_name(0, DOWN)],
          ["ffn_out"], [0]),
    Fault("wrong-shape-vocabulary", "llama-mha", "paiml/aprender#2535",
          lambda m: m.tensors.update({"lm_head.weight": m.tensors["lm_head.weight"][:-10].contiguous()}), ["wrong_shape"], ["lm_head.weight"], ["lm_head"],
          [None]),
]  # fmt: skip

DAMAGE = [
    Fault("swapped-gate-up", "qwen2", f"{HF}#33473", swap(layer_name(2, GATE), layer_name(2, UP)), ["swapped_tensors"],
          [layer_name(2, GATE), layer_name(2, UP)], ["ffn_gate"], [2]),
    Fault("swapped-k-v", "llama-mha", f"{HF}#33473", swap(layer_name(1, K), layer_name(1, V)), ["swapped_tensors"], [layer_name(1, K), layer_name(1, V)],
          [QKV], [1]),
    Fault("swapped-experts", "qwen3-moe", "mlxcel/mlxcel#391", every(*(swap(f"model.layers.1.mlp.experts.0.{p}_proj.weight",
          f"model.layers.1.mlp.experts.3.{p}_proj.weight") for p in ("gate", "up", "down"))), ["swapped_tensors"], ["model.layers.1.mlp.experts"],
          ["moe_ffn_out"], [1]),
    Fault("swapped-norms", "gemma2", f"{HF}#33473", swap(layer_name(0, "input_layernorm"), layer_name(0, "post_attention_layernorm")), ["swapped_tensors"],
          [layer_name(0, "input_layernorm"), layer_name(0, "post_attention_layernorm")], ["attn_norm"], [0]),
    Fault("layers-exchanged", "llama-mha", f"{HF}#45156", swap_layers(0, 2), ["layer_order"], ["model.layers.0"], ["attn_norm"], [0]),
    Fault("layers-exchanged-late", "gemma3", f"{HF}#45156", swap_layers(3, 4), ["layer_order"], ["model.layers.3"], ["attn_norm"], [3]),
    Fault("layers-rotated", "stablelm", f"{HF}#45156", rotate_layers, ["layer_order"], ["model.layers.0"], ["attn_norm"], [0]),
    Fault("embedding-rows-shifted", "qwen3", f"{LLAMA}#3133", edit("model.embed_tokens.weight", lambda t: torch.roll(t, 1, 0)), ["shifted_rows"],
          ["model.embed_tokens.weight"], ["embedding"], [0]),
    Fault("head-rows-shifted", "llama-linear", f"{LLAMA}#3133", edit("lm_head.weight", lambda t: torch.roll(t, -1, 0)), ["shifted_rows"],
          ["lm_head.weight"], ["lm_head"], [None]),
    Fault("o-scaled", "olmoe", "TransformerLensOrg/TransformerLens#27", edit(layer_name(1, O), lambda t: t / 12), ["scaled_tensor"], [layer_name(1, O)],
          ["attn_out"], [1]),
    Fault("embedding-scaled-in", "gemma", f"{LLAMA}#5631", gguf_edit("token_embd.weight", lambda v: v * 96**0.5), ["scaled_tensor"],
          ["model.embed_tokens.weight"], ["embedding"], [0], gguf="f32"),
    Fault("scaled-slightly", "qwen2-yarn", "TransformerLensOrg/TransformerLens#27", edit(layer_name(2, DOWN), lambda t: t * 1.02), ["scaled_tensor"],
          [layer_name(2, DOWN)], ["ffn_out"], [2]),
    Fault("corrupt-18-values", "llama-mha", "facebookresearch/metaseq#122", edit(layer_name(1, UP), spoil(18)), ["corrupt_values"], [layer_name(1, UP)],
          ["ffn_up"], [1]),
    Fault("corrupt-one-value", "phi3", "facebookresearch/metaseq#122", edit(layer_name(2, "self_attn.qkv_proj"), spoil(1, -900.0)), ["corrupt_values"],
          [layer_name(2, "self_attn.qkv_proj")], [QKV], [2]),
    Fault("corrupt-small-values", "cohere", "facebookresearch/metaseq#122", edit(layer_name(0, O), spoil(5, 0.7)), ["corrupt_values"], [layer_name(0, O)],
          ["attn_out"], [0]),
    Fault("corrupt-quantised-block", "mistral-window", "ikawrakow/ik_llama.cpp#649",
          block_scale("blk.1.ffn_up.weight", [7], 0, 3.0), ["corrupt_values"], [layer_name(1, UP)], ["ffn_up"], [1], gguf="q8_0"),
    Fault("nan-one", "gpt2", f"{LLAMA}#8661", edit("transformer.h.1.mlp.c_fc.weight", spoil(1, float("nan"))), ["nan_values"],
          ["transformer.h.1.mlp.c_fc.weight"], ["ffn_up"], [1]),
    Fault("nan-in-norm", "qwen3-moe", f"{LLAMA}#11764", edit(layer_name(0, "post_attention_layernorm"), spoil(2, float("nan"))), ["nan_values"],
          [layer_name(0, "post_attention_layernorm")], ["ffn_norm"], [0]),
    Fault("nan-whole-tensor", "granite", f"{LLAMA}#12439", edit(layer_name(2, V), lambda t: t * float("nan")), ["nan_values"], [layer_name(2, V)], [QKV], [2]),
    Fault("nan-scale-q8", "llama-mha", "ikawrakow/ik_llama.cpp#649", block_scale("blk.1.attn_v.weight", [3], 0, float("nan")), ["nan_block_scale"],
          [layer_name(1, V)], [QKV], [1], gguf="q8_0"),
    Fault("nan-scale-q4", "gemma2", "ikawrakow/ik_llama.cpp#649", block_scale("blk.3.ffn_up.weight", range(40, 60), 0, float("nan")), ["nan_block_scale"],
          [layer_name(3, UP)], ["ffn_up"], [3], gguf="q4_0"),
    Fault("nan-minimum-q4-1", "stablelm", f"{LLAMA}#11764", block_scale("blk.0.ffn_gate.weight", [0], 2, float("inf")),
          ["nan_block_scale"], [layer_name(0, GATE)], ["ffn_gate"], [0], gguf="q4_1"),
    Fault("zeroed", "smollm3-nope", f"{LLAMA}#12439", edit(layer_name(2, V), torch.zeros_like), ["zeroed_tensor"], [layer_name(2, V)], [QKV], [2]),
    Fault("zeroed-expert", "mixtral", f"{LLAMA}#12439", each(r"layers\.0\..*experts\.1\.w2", torch.zeros_like), ["zeroed_tensor"],
          ["model.layers.0.block_sparse_moe.experts.1.w2.weight"], ["moe_ffn_out"], [0]),
    Fault("zeroed-head-gguf", "llama-linear", f"{LLAMA}#12439", gguf_edit("output.weight", numpy.zeros_like), ["zeroed_tensor"], ["lm_head.weight"],
          ["lm_head"], [None], gguf="q5_0"),
    Fault("overflow-infinite", "olmo2", f"{LLAMA}#9130", edit(layer_name(1, GATE), spoil(4, float("inf"))), ["overflow"], [layer_name(1, GATE)],
          ["ffn_gate"], [1]),
    Fault("coarse-down", "llama-mha", f"{LLAMA}#2783", edit(layer_name(1, DOWN), coarse_tensor("q4_0")), ["coarse_quantization"], [layer_name(1, DOWN)],
          ["ffn_out"], [1]),
    Fault("coarse-in-q8-file", "qwen3", "unslothai/unsloth#6056", gguf_edit("blk.0.ffn_gate.weight", coarse("q4_0")), ["coarse_quantization"],
          [layer_name(0, GATE)], ["ffn_gate"], [0], gguf="q8_0"),
    Fault("coarse-everywhere", "granite", "unslothai/unsloth#6056", lambda f: [gguf_edit(n, coarse("q4_0"))(f) for n, v in f.tensors.items()
          if v.ndim == 2 and "blk" in n], ["coarse_quantization"], [layer_name(0, Q), layer_name(0, K), layer_name(0, V)], [QKV], [0], gguf="q8_0"),
    Fault("coarse-bf16-in-f32", "phi3", f"{LLAMA}#2783", each(r"layers\.1\..*o_proj", lambda t: t.bfloat16().float()), ["coarse_quantization"],
          [layer_name(1, O)], ["attn_out"], [1]),
    Fault("two-permutation-and-scale", "mistral-window", f"{LLAMA}#3364, kekzl/imp#1287",
          every(permute(layer_name(0, K), lambda m: m.kv_heads), edit(layer_name(2, DOWN), lambda t: t * 2)), ["rope_permutation"], [layer_name(0, K)],
          [QKV], [0], also=[{"causes": ["scaled_tensor"], "layer": 2}]),
    Fault("two-zero-and-norm", "olmoe", f"{LLAMA}#12439, #5631", every(edit(layer_name(0, V), torch.zeros_like), edit("model.norm.weight", lambda t: t + 1)),
          ["zeroed_tensor"], [layer_name(0, V)], [QKV], [0], also=[{"causes": ["norm_offset"], "layer": None}]),
    Fault("two-theta-and-corrupt", "qwen2", f"{LLAMA}#2768, facebookresearch/metaseq#122", every(lambda m: m.set_rope(rope_theta=10000.0),
          edit(layer_name(1, UP), spoil(3, 40.0))), ["rope_theta"], [], ["q_post_rope"], [0], phase=["config"],
          also=[{"causes": ["corrupt_values"], "layer": 1}]),
]  # fmt: skip


def clipped_source(model):
    """A down projection with values beyond f16, and what a cast that saturates makes of it."""
    big = model.copy()
    big.to(torch.float32)
    name = layer_name(1, DOWN)
    big.edit(name, spoil(6, 90000.0))
    small = big.copy()
    small.edit(name, lambda t: t.clamp(-F16_MAX, F16_MAX))
    narrow = big.copy()
    for key in narrow.tensors:
        narrow.tensors[key] = narrow.tensors[key].half()
    narrow.config["dtype" if "dtype" in narrow.config else "torch_dtype"] = "float16"
    return big, small, narrow


def overflow_pairs(bench):
    for name, pick in (("saturated", 1), ("cast-to-f16", 2)):
        identifier = f"weights-damage-overflow-{name}"
        path = models.folder("llama-mha")
        if path is None or not bench.wants(identifier):
            continue
        made = clipped_source(models.Model.load(path))
        a, b = bench.place(identifier, "a"), bench.place(identifier, "b")
        made[0].save(a)
        made[pick].save(b)
        bench.add(identifier, "weights", f"{LLAMA}#9130", a, b,
                  Expect(phase=["weights"], layer=[1], stage=["ffn_out"], tensor=[layer_name(1, DOWN)], causes=["overflow"]))


def register(bench):
    for group, faults in (("converter", CONVERTER), ("damage", DAMAGE)):
        for fault in faults:
            identifier = f"weights-{group}-{fault.name}"
            path = models.folder(fault.base)
            if path is None or not bench.wants(identifier):
                continue
            model = models.Model.load(path)
            b = bench.place(identifier, "b.gguf" if fault.gguf else "b")
            if fault.gguf:
                file = gguf_side.convert(model, fault.gguf)
                fault.change(file)
                file.save(b)
            else:
                fault.change(model)
                model.save(b)
            bench.add(identifier, "weights", fault.source, gguf_side.trusted(bench, identifier, fault.base, path), b,
                      Expect(phase=fault.phase, layer=fault.layer, stage=fault.stage, tensor=fault.tensor, causes=fault.causes, verdict=fault.verdict,
                             also=fault.also))
    overflow_pairs(bench)
