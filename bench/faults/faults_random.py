"""Pairs drawn at random over every model, every cause name and every container, so that a new seed is a bench nobody has seen.

Recipes name a cause and plant it in a model drawn from all that it fits; faulty engines are in random_engines.py. What is asked of the
answer is asked only where it follows from the recipe: a tensor's stage from its name, a setting's stage from what it does."""

import re
import subprocess

import numpy
import torch

import faults_file
import faults_sweep
import faults_tokens
import faults_weights
import gguf_side
import models
import random_engines
import random_files
import random_gguf
import random_runs
from case import Expect
from faults_sweep import SOURCE as SWEEP_SOURCE

SEED = 4711
UNKNOWN = ("cohere2", "phi")  # their models lie there for captures; the program does not run them
ROUNDS = 2  # how often each recipe is used
SOURCE = SWEEP_SOURCE | {
    "layer_order": "huggingface/transformers#45156", "extra_tensor": "mlc-ai/mlc-llm#3494", "wrong_shape": "paiml/aprender#2535",
    "fused_layout": "huggingface/transformers#33473", "nan_block_scale": "ikawrakow/ik_llama.cpp#649", "overflow": "ggml-org/llama.cpp#9130", "tie_word_embeddings": "huggingface/transformers#45156",
}  # fmt: skip
STAGES = (
    (r"wte|embed_in|embed_tokens|wpe", "embedding"), (r"lm_head|embed_out", "lm_head"), (r"model\.norm|ln_f|final_layer_?norm", "final_norm"),
    (r"(\.(q|k|v)_proj|c_attn|query_key_value|qkv_proj)\.weight", "qkv_matmul"), (r"(\.(q|k|v)_proj|c_attn|query_key_value)\.bias", "qkv_bias"),
    (r"correction_bias", "moe_router"), (r"o_proj|attn\.c_proj|attention\.dense|self_attn\.dense", "attn_out"), (r"self_attn\.q_(norm|layernorm)", "q_norm"), (r"self_attn\.k_(norm|layernorm)", "k_norm"),
    (r"\.experts\b|shared_expert(s|)\.", "moe_ffn_out"), (r"mlp\.gate\.|block_sparse_moe\.gate\.|mlp\.router\.", "moe_router_logits"), (r"gate_proj|gate_up_proj", "ffn_gate"),
    (r"up_proj|c_fc|dense_h_to_4h|fc1", "ffn_up"), (r"down_proj|mlp\.c_proj|dense_4h_to_h|fc2", "ffn_out"), (r"input_layernorm|ln_1", "attn_norm"),
    (r"pre_feedforward_layernorm", "ffn_norm"), (r"post_feedforward_layernorm", "post_ffn_norm"), (r"post_attention_layernorm|ln_2", "ffn_norm"),
)  # fmt: skip
SANDWICH = ("gemma2", "gemma3_text", "olmo2")
BLOCK = re.compile(r"(?:layers|\.h)\.(\d+)\.")


def every_model():
    """(name, path) of all tiny models: the larger set and the one in testdata."""
    found = {}
    for home in (models.SHARED, models.TESTDATA):
        if home.exists():
            found |= {f"{name.name}{'' if home == models.SHARED else '-small'}": name for name in sorted(home.iterdir())
                      if (name / "expected.safetensors").exists() and name.name not in UNKNOWN}  # fmt: skip
    return found


def layer_of(name):
    match = BLOCK.search(name)
    return int(match[1]) if match else 0 if re.search(r"wte|wpe|embed_in|embed_tokens", name) else None


def stages_of(model, name):
    """Where a tensor is first read; empty: not asked."""
    if "kv_a_" in name or "kv_b_" in name or "q_a_" in name or "q_b_" in name or "sinks" in name or "shared_expert_gate" in name:
        return []
    if model.config["model_type"] in SANDWICH and "post_attention_layernorm" in name:
        return ["post_attn_norm"]
    if "gate_up_proj" in name and "experts" not in name:
        return ["ffn_gate", "ffn_up"]  # by which rows are hit
    return [next((stage for pattern, stage in STAGES if re.search(pattern, name)), None)]


def matrix(model, name):
    return model.tensors[name].dim() == 2 and "shared_expert_gate" not in name and "wpe" not in name


def block_matrix(model, name):
    return matrix(model, name) and BLOCK.search(name) and "norm" not in name and not re.search(r"mlp\.gate\.|block_sparse_moe\.gate|router", name)


def is_norm(model, name):
    return re.search(r"norm|ln_", name) and name.endswith(".weight") and model.tensors[name].dim() == 1


def is_bias(model, name):
    return name.endswith("bias") and "norm" not in name and "ln_" not in name and BLOCK.search(name) and model.tensors[name].dim() == 1 and "router" not in name


class Draw:
    """A model under change: draws from the generator, and what was hit."""

    def __init__(self, rng, name, path):
        self.rng, self.name, self.path = rng, name, path
        self.model = models.Model.load(path)
        self.kind = self.model.config["model_type"]
        self.expect = {}
        self.container = "folder"

    def pick(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def tensor(self, fits):
        """A tensor that fits, or raises LookupError: the recipe wants another model."""
        t = self.model.tensors
        names = [n for n in t if fits(self.model, n) and not (n == "lm_head.weight" and self.model.config.get("tie_word_embeddings"))]
        if not names:
            raise LookupError
        return self.pick(*names)

    def hit(self, *tensors, **more):
        first = min(tensors, key=lambda n: (layer_of(n) is None, layer_of(n) or 0))
        self.expect = {"tensor": list(tensors), "layer": [layer_of(first)], "stage": [s for n in tensors for s in stages_of(self.model, n)]} | more

    def contained(self, *kinds):
        """B is written as one of these where it can be."""
        if self.kind in gguf_side.ARCHITECTURES and not self.name.endswith("-small") and self.name != "llama-dynamic":
            self.container = self.pick("folder", *kinds)


# --- Weights ---


def scaled(d):
    name = d.tensor(matrix)
    factor = float(d.pick(0.125, 0.7, 0.97, 1.05, 3.0, 10.0, d.model.hidden**0.5))
    d.model.edit(name, lambda t: t * factor)
    d.hit(name)
    d.contained("f32", "q8_0")


def zeroed(d):
    name = d.tensor(matrix)
    d.model.edit(name, torch.zeros_like)
    d.hit(name)
    d.contained("f32", "q4_0")


def nan_values(d):
    name = d.tensor(lambda m, n: True)
    d.model.edit(name, faults_weights.spoil(int(d.rng.integers(1, 6)), float("nan"), int(d.rng.integers(1 << 30))))
    d.hit(name)


def corrupt(d):
    name = d.tensor(block_matrix)
    spread = float(d.model.tensors[name].float().std())
    d.model.edit(name, faults_weights.spoil(int(d.rng.integers(1, 20)), spread * float(d.pick(25, -80, 1000)), int(d.rng.integers(1 << 30))))
    d.hit(name)


def transposed(d):
    name = d.tensor(block_matrix)
    old = d.model.tensors[name]
    new = old.t().contiguous()
    d.model.tensors[name] = new if old.shape[0] == old.shape[1] or d.rng.integers(2) else new.view(old.shape)
    d.hit(name)


def shifted(d):
    name = d.tensor(lambda m, n: matrix(m, n) and not BLOCK.search(n))
    by = int(d.pick(-3, -1, 1, 2, 5))
    d.model.edit(name, lambda t: torch.roll(t, by, 0))
    d.hit(name)
    d.contained("f32", "bf16")


def permuted(d):
    if d.kind in ("cohere", "cohere2", "deepseek_v2", "deepseek_v3") or (d.model.rope("partial_rotary_factor") or 1) != 1:
        raise LookupError
    name = d.tensor(lambda m, n: re.search(r"\.(q|k)_proj\.weight", n))
    own = d.model.heads if ".q_proj" in name else d.model.kv_heads
    faults_weights.permute(name, lambda m: own)(d.model)
    d.hit(name)
    d.contained("f32", "q8_0")


def swapped(d):
    name = d.tensor(block_matrix)
    t = d.model.tensors
    twins = [n for n in t if n != name and block_matrix(d.model, n) and t[n].shape == t[name].shape and layer_of(n) == layer_of(name)
             and not torch.equal(t[n], t[name]) and (".experts." in n) == (".experts." in name)]  # fmt: skip
    if not twins:
        raise LookupError
    twin = d.pick(*twins)
    faults_weights.swap(name, twin)(d.model)
    d.hit(name, twin, alternatives=["layer_order", "fused_layout"])


def layers_swapped(d):
    pairs = [(i, j) for i in range(d.model.layers) for j in range(i + 1, d.model.layers)]
    one, other = d.pick(*pairs)
    strip = lambda n: n.split(f".{one}.", 1)[1]
    shapes = {k: {BLOCK.sub("*", n): tuple(t.shape) for n, t in d.model.tensors.items() if layer_of(n) == k and BLOCK.search(n)} for k in (one, other)}
    if shapes[one] != shapes[other]:
        raise LookupError
    for name in [n for n in d.model.tensors if BLOCK.search(n) and layer_of(n) == one]:
        prefix = name[: BLOCK.search(name).start()]
        word = BLOCK.search(name)[0].replace(str(one), str(other))
        faults_weights.swap(name, prefix + word + strip(name))(d.model)
    stage = "qkv_matmul" if d.kind == "olmo2" else "attn_norm"
    d.expect = {"layer": [one], "stage": [stage] if "deepseek" not in d.kind else [], "alternatives": ["swapped_tensors"]}


def missing(d):
    name = d.tensor(lambda m, n: m.tensors[n].dim() >= 2 and "wpe" not in n)
    d.hit(name)
    del d.model.tensors[name]


def extra_bias(d):
    """A bias that the configuration does not speak of."""
    if d.kind in ("gemma3_text", "deepseek_v2", "deepseek_v3", "gpt_oss"):
        raise LookupError
    name = d.tensor(lambda m, n: re.search(r"layers.*\.(q|k|v|o|down|up)_proj\.weight", n) and n.replace(".weight", ".bias") not in m.tensors)
    bias = name.replace(".weight", ".bias")
    d.model.tensors[bias] = torch.full((len(d.model.tensors[name]),), 0.25, dtype=d.model.tensors[name].dtype)
    d.expect = {"verdict": ["different", "same", "rounding"], "phase": [], "also": [{"causes": ["extra_tensor"], "anywhere": True}], "unasked": True}


def bias_lost(d):
    name = d.tensor(is_bias)
    d.hit(name, alternatives=["zeroed_tensor", "missing_tensor"])
    if d.rng.integers(2):
        d.model.edit(name, torch.zeros_like)
    else:
        del d.model.tensors[name]


def wrong_shape(d):
    name = d.tensor(lambda m, n: matrix(m, n) and "wte" not in n)
    t = d.model.tensors[name]
    d.model.tensors[name] = (t[:-4] if d.rng.integers(2) else t[:, :-4]).contiguous()
    d.hit(name)
    if "embed" in name:
        d.expect["stage"].append("lm_head")


def norm_offset(d):
    by = float(d.pick(1, -1))
    if d.rng.integers(3):
        name = d.tensor(is_norm)
        d.model.edit(name, lambda t: t + by)
        d.hit(name)
    else:
        hit = [n for n in d.model.tensors if is_norm(d.model, n)]
        for name in hit:
            d.model.edit(name, lambda t: t + by)
        d.expect = {"layer": [0]}
    d.contained("f32", "f16")


def fused(d):
    c = d.model.config
    if d.kind == "phi3":
        name = d.tensor(lambda m, n: "qkv_proj" in n or "gate_up_proj" in n)
        qkv = "qkv_proj" in name
        sizes = faults_weights.qkv_sizes(d.model) if qkv else [c["intermediate_size"]] * 2
        order = d.pick((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)) if qkv else (1, 0)
        faults_weights.fused(name, lambda m: sizes, order)(d.model)
    elif d.kind == "gpt2":
        name = d.tensor(lambda m, n: n.endswith("c_attn.weight"))
        parts = d.model.tensors[name].chunk(3, dim=1)
        d.model.tensors[name] = torch.cat([parts[i] for i in d.pick((1, 0, 2), (0, 2, 1), (2, 1, 0))], dim=1).contiguous()
    elif d.kind == "gpt_neox":
        name = d.tensor(lambda m, n: n.endswith("query_key_value.weight"))
        faults_weights.interleave_heads(name, undo=bool(d.rng.integers(2)))(d.model)
    elif d.kind == "gpt_oss":
        name = d.tensor(lambda m, n: n.endswith("gate_up_proj"))
        d.model.edit(name, lambda t: torch.cat([t[..., ::2], t[..., 1::2]], dim=-1).contiguous())
    else:
        raise LookupError
    d.hit(name, alternatives=["swapped_tensors"])


def coarse(d):
    name = d.tensor(lambda m, n: block_matrix(m, n) and m.tensors[n].numel() % 32 == 0 and m.tensors[n].numel() >= 1024)
    d.model.edit(name, faults_weights.coarse_tensor(d.pick("q4_0", "q5_0", "q4_1")))
    d.hit(name)


def overflow(d):
    name = d.tensor(block_matrix)
    d.model.edit(name, faults_weights.spoil(int(d.rng.integers(1, 6)), float(d.pick(float("inf"), -float("inf"))), int(d.rng.integers(1 << 30))))
    d.hit(name)


WEIGHTS = (
    ("scaled_tensor", scaled), ("zeroed_tensor", zeroed), ("nan_values", nan_values), ("corrupt_values", corrupt), ("transposed", transposed),
    ("shifted_rows", shifted), ("rope_permutation", permuted), ("swapped_tensors", swapped), ("layer_order", layers_swapped), ("missing_tensor", missing),
    ("extra_tensor", extra_bias), ("missing_bias", bias_lost), ("wrong_shape", wrong_shape), ("norm_offset", norm_offset), ("fused_layout", fused),
    ("coarse_quantization", coarse), ("overflow", overflow),
)  # fmt: skip


def drawn(rng, homes, recipe):
    """A model that the recipe fits, with its fault planted."""
    names = list(homes)
    for at in rng.permutation(len(names)):
        d = Draw(rng, names[at], homes[names[at]])
        try:
            recipe(d)
        except LookupError:
            continue
        return d
    raise ValueError(f"{recipe.__name__} fits no model")


def written(bench, identifier, d):
    if d.container != "folder":
        return gguf_side.convert(d.model, d.container).save(bench.place(identifier, "b.gguf"))
    return d.model.save(bench.place(identifier, "b"), int(d.rng.integers(1, 4)))


def expected(d, phase, causes, **base):
    fields = {"phase": phase} | base | {k: v for k, v in d.expect.items() if k not in ("alternatives", "unasked")}
    return Expect(causes=[] if d.expect.get("unasked") else [*causes, *d.expect.get("alternatives", [])], **fields)


def weights(bench, rng, homes, recipes=WEIGHTS, word="weights"):
    for number in range(ROUNDS * len(recipes)):
        cause, recipe = recipes[number % len(recipes)]
        d = drawn(rng, homes, recipe)
        identifier = f"random-{word}-{number:03d}-{cause}-{d.name}"
        bench.add(identifier, "random", SOURCE[cause], d.path, written(bench, identifier, d), expected(d, ["weights"], [cause]))
    if recipes is WEIGHTS:
        block_scales(bench, rng, homes)


def block_scales(bench, rng, homes):
    fit = random_gguf.gguf_models(homes)
    for number in range(ROUNDS):
        names = []
        while not names:  # rows of some models are no whole blocks
            base = str(rng.choice(fit))
            d = Draw(rng, base, homes[base])
            kind = d.pick("q8_0", "q4_0", "q5_0")
            file = gguf_side.convert(d.model, kind)
            names = [n for n, t in file.types.items() if t == gguf_side.TYPES[kind] and n.startswith("blk.")]
        name = d.pick(*names)
        faults_weights.block_scale(name, [int(i) for i in rng.integers(0, file.tensors[name].size // 32, 3)], 0, float(d.pick(numpy.nan, numpy.inf)))(file)
        identifier = f"random-weights-nan-scale-{number}-{base}"
        layer = int(name.split(".")[1])
        bench.add(identifier, "random", SOURCE["nan_block_scale"], homes[base], file.save(bench.place(identifier, "b.gguf")),
                  Expect(phase=["weights"], causes=["nan_block_scale"], layer=[layer]))


# --- Settings ---


def has(config, *keys):
    key = next((k for k in keys if config.get(k) is not None), None)
    if key is None:
        raise LookupError
    return key


def setting(d, key, value, cause_stage, layer=0):
    d.model.config[key] = value
    d.expect = {"key": [key], "stage": cause_stage, "layer": [layer] if layer != "any" else []}


def theta(d):
    if d.kind in ("gpt2",) or "sliding_attention" in d.model.rope():
        raise LookupError
    d.model.set_rope(rope_theta=float(d.pick(1000.0, 12000.0, 77777.0, 300000.0, 5e6)))
    d.expect = {"key": ["rope_theta"], "stage": ["q_post_rope"]}


def rope_scaling(d):
    if d.kind in ("gpt2", "phi3", "gemma3_text", "gpt_oss", "deepseek_v2", "deepseek_v3") or d.model.rope("rope_type") not in ("default", "linear", "yarn", "llama3"):
        raise LookupError
    if d.model.rope("rope_type") == "default":
        d.model.set_rope(rope_type="linear", factor=float(d.pick(2.0, 4.0, 8.0)))
    elif d.rng.integers(2):
        d.model.set_rope(rope_type=None)
    else:
        d.model.set_rope(factor=float(d.model.rope("factor")) * 2)
    d.expect = {"stage": ["q_post_rope"]}


def rope_dim(d):
    if d.kind not in ("stablelm", "gpt_neox", "phi") or d.model.head_dim % 4:
        raise LookupError
    old = d.model.rope("partial_rotary_factor") or d.model.config.get("rotary_pct") or 1
    d.model.set_rope(partial_rotary_factor=0.5 if old != 0.5 else 1.0)
    d.expect = {"stage": ["q_post_rope"]}


def rope_layers(d):
    if d.kind != "smollm3":
        raise LookupError
    now = list(d.model.config["no_rope_layers"])
    at = int(d.rng.integers(len(now)))
    now[at] = 1 - now[at]
    setting(d, "no_rope_layers", now, ["q_post_rope"], at)


def rope_style(d):
    if d.kind != "deepseek_v3":
        raise LookupError
    setting(d, "rope_interleave", not d.model.config.get("rope_interleave", True), ["q_post_rope"])


def eps(d):
    key = has(d.model.config, *faults_sweep.EPS)
    setting(d, key, d.model.config[key] * float(d.pick(50, 200, 1000)), ["q_norm"] if d.kind == "olmo2" else ["attn_norm"])


def activation(d):
    key = models.activation_key(d.model.config)
    if d.kind == "gpt_oss" or key is None:
        raise LookupError
    old = d.model.config[key]
    others = [a for a in ("silu", "relu", "gelu", "gelu_pytorch_tanh") if a != old and not (old == "gelu_new" and "tanh" in a) and not (old in ("gelu", "gelu_fast") and "gemma" in d.kind)]
    moe = d.model.config.get("num_experts_per_tok")
    setting(d, key, d.pick(*others), ["ffn_silu", "moe_ffn_out"] if moe else ["ffn_silu"])


def multiplied(name, factors, stage, layer=0):
    def change(d):
        key = has(d.model.config, name)
        old = d.model.config[key]
        setting(d, key, type(old)(old * float(d.pick(*factors))), stage, layer)

    change.__name__ = name
    return change


def window(d):
    types = d.model.config.get("layer_types") or []
    if not d.model.config.get("sliding_window") or d.kind in ("qwen2_moe", "phi3", "qwen2") or (types and "sliding_attention" not in types):
        raise LookupError
    layer = types.index("sliding_attention") if types else 0
    old = d.model.config["sliding_window"]
    setting(d, "sliding_window", old + int(d.pick(-2, -1, 1, 3)), ["attn_softmax"], layer)


def top_k(d):
    key = has(d.model.config, "num_experts_per_tok")
    if "deepseek" in d.kind:
        raise LookupError
    old = d.model.config[key]
    setting(d, key, old + int(d.pick(-1, 1)) if old > 1 else old + 1, ["moe_router", "moe_router_indices"], "any")


def norm_topk(d):
    if "norm_topk_prob" not in d.model.config or "deepseek" in d.kind:
        raise LookupError
    setting(d, "norm_topk_prob", not d.model.config["norm_topk_prob"], ["moe_router"], "any")


def tie(d):
    if d.model.config.get("tie_word_embeddings") or d.model.config["model_type"] in ("phi",) or not any(n in d.model.tensors for n in ("lm_head.weight", "embed_out.weight")):
        raise LookupError
    setting(d, "tie_word_embeddings", True, ["lm_head"], None)


def head_count(d):
    key = has(d.model.config, "num_attention_heads")
    if d.kind in ("deepseek_v2", "deepseek_v3") or not d.model.config.get("head_dim"):
        raise LookupError
    setting(d, key, d.model.config[key] * 2, ["qkv_matmul"])


def kv_head_count(d):
    key = has(d.model.config, "num_key_value_heads")
    if d.kind in ("deepseek_v2", "deepseek_v3", "gpt_neox", "gpt2") or d.model.kv_heads == d.model.heads:
        raise LookupError
    setting(d, key, d.model.heads, ["qkv_matmul"])


def head_dim(d):
    key = has(d.model.config, "head_dim")
    if d.kind in ("deepseek_v2", "deepseek_v3"):
        raise LookupError
    setting(d, key, d.model.config[key] * 2, ["qkv_matmul"])


def parallel(d):
    key = has(d.model.config, "use_parallel_residual") if d.kind == "gpt_neox" else "use_parallel_residual"
    if d.kind != "gpt_neox":
        raise LookupError
    setting(d, key, not d.model.config[key], ["ffn_norm", "post_attn_residual", "post_ffn_residual"])


SETTINGS = (
    ("rope_theta", theta), ("rope_scaling", rope_scaling), ("rope_dim", rope_dim), ("rope_layers", rope_layers), ("rope_style", rope_style), ("norm_eps", eps),
    ("activation", activation), ("attention_scale", multiplied("query_pre_attn_scalar", (0.25, 3), ["attn_scores"])),
    ("attention_scale", multiplied("attention_multiplier", (0.3, 1.2), ["attn_scores"])),
    ("attention_softcap", multiplied("attn_logit_softcapping", (0.3, 0.8), ["attn_scores"])),
    ("logit_softcap", multiplied("final_logit_softcapping", (0.25, 0.7), ["lm_head"], None)), ("sliding_window", window),
    ("embedding_scale", multiplied("embedding_multiplier", (0.5, 1.2), ["embedding"])), ("residual_scale", multiplied("residual_multiplier", (0.4, 1.3), ["post_attn_residual"])),
    ("logit_scale", multiplied("logits_scaling", (0.25, 1.5), ["lm_head"], None)), ("logit_scale", multiplied("logit_scale", (0.25, 2), ["lm_head"], None)),
    ("moe_top_k", top_k), ("moe_norm_topk", norm_topk), ("tie_word_embeddings", tie), ("head_count", head_count), ("kv_head_count", kv_head_count),
    ("head_dim", head_dim), ("parallel_residual", parallel),
)  # fmt: skip


def settings(bench, rng, homes, recipes=SETTINGS, word="config"):
    for number in range(ROUNDS * len(recipes)):
        cause, recipe = recipes[number % len(recipes)]
        d = drawn(rng, homes, recipe)
        identifier = f"random-{word}-{number:03d}-{cause}-{d.name}"
        geometry = ["head_count", "kv_head_count", "head_dim"]
        bench.add(identifier, "random", "ggml-org/llama.cpp#2373", d.path, written(bench, identifier, d),
                  expected(d, ["config"], geometry if cause in geometry else [cause]))


def together(bench, rng, homes):
    """Two faults in one file: a setting and a tensor of a layer behind it."""
    for number in range(4 * ROUNDS):
        cause, recipe = [s for s in SETTINGS if s[1] in (theta, eps, activation, window)][number % 4]
        other, plant = [w for w in WEIGHTS if w[1] in (scaled, zeroed, norm_offset, corrupt)][int(rng.integers(4))]

        def both(d, recipe=recipe, plant=plant):
            plant(d)
            second = dict(d.expect)
            if second.get("layer") == [0] or "tensor" not in second:
                raise LookupError
            recipe(d)
            d.expect["also"] = [{"causes": [other], "layer": second["layer"][0]}]
            d.container = "folder"

        d = drawn(rng, homes, both)
        identifier = f"random-two-{number:03d}-{cause}-{other}-{d.name}"
        bench.add(identifier, "random", "ggml-org/llama.cpp#2768", d.path, written(bench, identifier, d), expected(d, ["config"], [cause]))


# --- Tokens and files ---


def tokens(bench, rng, faults=None, word="tokens"):
    """The faults of faults_tokens.py on other texts and with other pieces."""
    words = ("rope", "Hello", "42", "don't", "norm  two", "tensor\n\tx", "l'été", "value = 3.5;", "ÅÆ", "what is", "THE END.")
    for number, fault in enumerate(faults or faults_tokens.FAULTS):
        if faults is None and (fault.args == "--messages" or fault.also or rng.integers(2)):
            continue
        text = " ".join(str(rng.choice(words)) for _ in range(8))
        path, model = faults_tokens.base_model(bench, fault.base)
        identifier = f"random-{word}-{number:03d}-{fault.name}"
        if fault.gguf:
            file = gguf_side.convert(model)
            fault.change(file)
            b = file.save(bench.place(identifier, "b.gguf"))
        else:
            fault.change(model)
            b = model.save(bench.place(identifier, "b"))
        args = [[], ["-p", text], ["--ids", "5,60,17"]][int(rng.integers(3))] if faults is None else faults_tokens.arguments(bench, fault.args)
        bench.add(identifier, "random", fault.source, path, b, Expect(phase=["tokens"], causes=fault.causes), args)


def files(bench, rng, homes):
    for number in range(6 * ROUNDS):
        name = str(rng.choice(list(homes)))
        d = Draw(rng, name, homes[name])
        d.contained("f32", "q8_0")
        identifier = f"random-file-{number:03d}-{name}"
        if number % 3 == 2 and bench.program is not None:
            b, causes = bench.place(identifier, "b.apr"), faults_file.CUT
            subprocess.run([bench.program, "export", d.path, "--format", "apr", "-o", b], check=True, capture_output=True)
            faults_file.cut(b, float(rng.uniform(0.2, 0.98)))
        elif number % 3 == 1:
            b, causes = d.model.save(bench.place(identifier, "b")), faults_file.BAD + faults_file.CUT
            faults_file.header_edit(d.pick(faults_file.gap, faults_file.retyped))(b)
        else:
            b, causes = written(bench, identifier, d), faults_file.CUT
            parts = sorted(b.glob("model*.safetensors")) if b.is_dir() else [b]
            faults_file.cut(d.pick(*parts), float(rng.uniform(0.3, 0.98)))
        bench.add(identifier, "random", faults_file.DOWNLOAD, d.path, b, Expect(phase=["file"], causes=causes))


def register(bench):
    homes = every_model()
    generator = lambda offset: numpy.random.Generator(numpy.random.PCG64([SEED, offset]))
    weights(bench, generator(0), homes)
    settings(bench, generator(1), homes)
    together(bench, generator(2), homes)
    tokens(bench, generator(3))
    files(bench, generator(4), homes)
    random_gguf.metadata(bench, generator(7), homes)
    random_gguf.rows(bench, generator(8), homes, SOURCE)
    random_engines.faulty(bench, generator(5), homes, Draw)
    random_engines.sound(bench, generator(6), homes, Draw)
    weights(bench, generator(9), homes, random_files.WEIGHTS, "layers")
    settings(bench, generator(10), homes, random_files.SETTINGS, "lost")
    random_files.metadata(bench, generator(11), homes, Expect, ROUNDS)
    tokens(bench, generator(12), random_files.TOKENS, "texts")
    random_runs.faulty(bench, generator(13), homes, Draw, random_engines.planned, ROUNDS)
    random_runs.pairs(bench, generator(14), homes, Draw, ROUNDS)
    if bench.program is not None:
        random_runs.sides(bench, generator(15), homes, Draw, SETTINGS, WEIGHTS, ROUNDS)
