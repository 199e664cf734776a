"""Faulty and sound engines drawn at random: PyTorch with a patched module or a changed constant, on random tokens, in a random precision."""

import re

import torch

import engines
import faults_engine
import gguf_side
import healthy
import models
from case import Expect
from engines import attention, function, input_of

LATENT = ("deepseek_v2", "deepseek_v3")
ROUNDS = 2


class Plan:
    """What to do to a loaded model, and what must be answered."""

    def __init__(self, stage, layer=(0,), change=None, inside=(), around=(), dtype="f32", precision=None, first=0, length=None, also_named=()):
        self.stage, self.layer, self.change, self.inside, self.around, self.dtype = list(stage), list(layer), change, inside, around, dtype
        self.precision, self.first, self.length, self.also_named = precision, first, length, list(also_named)


def refuse(when):
    if when:
        raise LookupError


def setting(d, stage, name, factors, layer=0, **more):
    old = d.model.config.get(name)
    refuse(not old)
    new = type(old)(old * float(d.pick(*factors)))
    return Plan(stage, (layer,), change=lambda c: setattr(c, name, new), **more)


def theta(d):
    refuse(d.kind in ("gpt2", "gemma3_text"))
    value = float(d.pick(900.0, 15000.0, 444444.0))
    return Plan(["q_post_rope"], change=lambda c: c.rope_parameters.update(rope_theta=value), dtype=d.pick("f32", "bf16", "f16") if d.kind != "gpt_oss" else "f32")


def scaling(d):
    refuse(d.kind in ("gpt2", "phi3", "gemma3_text", "gpt_oss", *LATENT) or d.model.rope("rope_type") not in ("default", "linear"))
    factor = float(d.pick(1.5, 3.0, 8.0))
    return Plan(["q_post_rope"], change=lambda c: c.rope_parameters.update(rope_type="linear", factor=factor))


def style(d):
    refuse(d.kind in ("gpt2", "gpt_oss", "cohere", "cohere2", "gpt_neox", "phi", "stablelm", "gemma3_text", *LATENT))
    return Plan(["q_post_rope"], inside=(function("apply_rotary_pos_emb", engines.adjacent),), dtype=d.pick("f32", "bf16"))


def rotated_part(d):
    old = d.model.rope("partial_rotary_factor") or 1
    refuse(d.kind not in ("stablelm", "gpt_neox", "phi") or d.model.head_dim % 4)
    return Plan(["q_post_rope"], change=lambda c: c.rope_parameters.update(partial_rotary_factor=0.5 if old != 0.5 else 1.0))


def rotating_layers(d):
    refuse(d.kind != "smollm3")
    now = list(d.model.config["no_rope_layers"])
    at = now.index(0)
    return Plan(["q_post_rope"], (at,), change=lambda c: setattr(c, "no_rope_layers", [1] * len(now)))


def position(d):
    refuse(d.kind in ("gpt_oss", *LATENT) or d.model.rope("rope_type") == "longrope" if d.kind != "gpt2" else False)
    by = int(d.pick(1, 2, 9, 40))
    if d.kind == "gpt2":
        return Plan(["embedding"], first=by)
    refuse(d.kind == "gemma3_text" and by > 9)
    return Plan(["q_post_rope"], inside=(engines.shifted_positions(by),))


def eps(d):
    key = next((k for k in ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon") if k in d.model.config), None)
    refuse(key is None)
    return setting(d, ["q_norm"] if d.kind == "olmo2" else ["attn_norm"], key, (100, 1000))


def activation(d):
    key = models.activation_key(d.model.config)
    refuse(d.kind == "gpt_oss" or key is None)
    new = d.pick(*[a for a in ("silu", "relu", "gelu", "gelu_pytorch_tanh") if a != d.model.config[key] and not ("gelu" in d.model.config[key] and "tanh" in a)])
    moe = d.model.config.get("num_experts_per_tok")
    return Plan(["ffn_silu", "moe_ffn_out"] if moe else ["ffn_silu"], change=lambda c: setattr(c, key, new))


def scale(d):
    refuse(d.kind in ("gpt_oss", *LATENT))
    by = float(d.pick(0.5, 0.9, 1.3, 4.0))
    return Plan(["attn_scores"], dtype=d.pick("f32", "bf16"),
                inside=(attention(lambda f: lambda m, q, k, v, mask, *a, **kw: f(m, q, k, v, mask, *a, **kw | {"scaling": kw["scaling"] * by})),))


def softcap(d):
    refuse(not d.model.config.get("attn_logit_softcapping"))
    return Plan(["attn_scores"], change=lambda c: setattr(c, "attn_logit_softcapping", d.pick(None, 5.0, 23.0)))


def window(d):
    types = d.model.config.get("layer_types") or []
    refuse(not d.model.config.get("sliding_window") or d.kind in ("qwen2_moe", "phi3", "qwen2") or (types and "sliding_attention" not in types))
    old = d.model.config["sliding_window"]
    new = d.pick(old - 1, old + 1, old + 3, None if d.kind in ("mistral", "starcoder2") else old - 2)
    return Plan(["attn_softmax"], (types.index("sliding_attention") if types else 0,), change=lambda c: setattr(c, "sliding_window", new), length=(new or old) + 12)


def top_k(d):
    refuse(not d.model.config.get("num_experts_per_tok") or d.kind in LATENT or d.kind == "qwen2_moe" and "small" in d.name)
    new = d.model.config["num_experts_per_tok"] + 1
    return Plan(["moe_router", "moe_router_indices"], (), change=lambda c: setattr(c, "num_experts_per_tok", new))


def routed(make, kinds):
    def plan(d):
        refuse(d.kind not in kinds)
        return Plan(["moe_router"], (), inside=(engines.router(make),), also_named=("moe_norm_topk",) if make is not engines.raw_logits else ())

    plan.__name__ = make.__name__
    return plan


def norm_topk(d):
    refuse("norm_topk_prob" not in d.model.config or d.kind in LATENT)
    new = not d.model.config["norm_topk_prob"]
    return Plan(["moe_router"], (), change=lambda c: setattr(c, "norm_topk_prob", new), also_named=("moe_router_order",))


def parallel(d):
    refuse(d.kind != "gpt_neox")
    return Plan(["ffn_norm", "post_attn_residual", "post_ffn_residual"], change=lambda c: setattr(c, "use_parallel_residual", not c.use_parallel_residual))


def bias(d):
    name = d.tensor(lambda m, n: re.search(r"\.[01]\..*(q_proj|v_proj|o_proj|c_fc|c_proj|down_proj|dense|dense_h_to_4h|fc1|fc2|c_attn)\.bias$", n))
    path = name.removesuffix(".bias")
    layer = int(re.search(r"\.(\d+)\.", name)[1])
    stage = ("qkv_bias" if re.search(r"q_proj|v_proj|k_proj|c_attn", name) else "attn_out" if re.search(r"o_proj|attn\.c_proj|dense$", path) and "mlp" not in name
             else "ffn_up" if re.search(r"c_fc|h_to_4h|fc1", name) else "ffn_out")
    return Plan([stage], (layer,), inside=(engines.without_bias(path),))


def norm_offset(d):
    refuse("norm" not in d.kind and d.kind in ("gpt2",))
    names = [n for n in d.model.tensors if re.search(r"(input_layernorm|post_attention_layernorm|model\.norm)\.weight$", n)]
    refuse(not names or d.kind in ("cohere", "cohere2"))
    name = d.pick(*names)
    match = re.search(r"layers\.(\d+)\.", name)
    sandwich = d.kind in ("gemma2", "gemma3_text", "olmo2")
    stage = "final_norm" if match is None else "attn_norm" if "input" in name else "post_attn_norm" if sandwich else "ffn_norm"
    return Plan([stage], (int(match[1]) if match else None,), inside=(engines.shifted_norms(name.removesuffix(".weight"), float(d.pick(1, -1))),))


def missing_norm(d):
    names = [n for n in d.model.tensors if re.search(r"(input_layernorm|post_attention_layernorm|model\.norm)\.weight$", n)]
    refuse(not names or d.kind in ("gemma2", "gemma3_text", "olmo2", "phi"))
    name = d.pick(*names)
    match = re.search(r"layers\.(\d+)\.", name)
    stage = "final_norm" if match is None else "attn_norm" if "input" in name else "ffn_norm"
    return Plan([stage], (int(match[1]) if match else None,), inside=(engines.without_norm([name.removesuffix(".weight")]),))


def kv_mapping(d):
    refuse(d.kind in ("gpt2", "gpt_neox", "gpt_oss", *LATENT) or d.model.kv_heads in (1, d.model.heads))
    return Plan(["attn_scores"], inside=(function("repeat_kv", engines.tiled_heads),))


def mask(d):
    refuse(d.kind in ("gpt_oss",))
    change = d.pick(engines.no_mask, engines.loose_mask, engines.strict_from(int(d.pick(1, 3))))
    refuse(change is engines.loose_mask and d.model.config.get("sliding_window"))
    return Plan(["attn_softmax"], inside=(engines.with_mask(change),), dtype=d.pick("f32", "f32", "bf16"))


def stale(d):
    refuse(d.kind in ("gpt_oss", *LATENT))
    rows = int(d.pick(2, 5))
    change = d.pick(faults_engine.old_prefix, faults_engine.shifted_cache, lambda k, v: (faults_engine.keep(k, rows), faults_engine.keep(v, rows)))
    return Plan(["k_post_rope", "attn_scores"], around=(engines.stale(change),))


def overflow(d):
    """q and k so large that their product passes the range of f16."""
    refuse(d.kind not in ("qwen2", "llama", "mistral", "granite", "starcoder2"))
    for name in d.model.tensors:
        if re.search(r"(q_proj|k_proj)\.(weight|bias)$", name):
            d.model.edit(name, lambda t: t * 120)
    return Plan(["attn_scores", "attn_softmax"], inside=(engines.scores_in(torch.float16),))


def narrow(d):
    choice = int(d.rng.integers(4))
    refuse(d.kind in ("gpt_oss", *LATENT))
    if choice == 0:
        refuse(d.kind in ("gpt2", "gemma3_text") or d.model.rope("rope_type") != "default")
        return Plan(["q_post_rope"], inside=(engines.narrow_angles(torch.bfloat16),), length=40)
    if choice == 1:
        refuse(d.kind in ("gpt2", "cohere2", "phi3") or d.model.config.get("num_experts_per_tok"))
        return Plan([], inside=(input_of(torch.nn.Linear, engines.int8_blocks),))
    if choice == 2:
        refuse(d.kind == "gpt2")
        return Plan([], inside=(input_of(torch.nn.Linear, engines.narrow_inputs(torch.bfloat16)),))
    return Plan([], dtype=d.pick("bf16", "f16"), precision={"weights": "f32", "activations": "f32", "accumulate": "f32"})


def one_layer(d):
    """A constant that one layer alone has otherwise."""
    refuse(d.kind in ("gpt_oss", "gpt2", *LATENT))
    layer = int(d.rng.integers(1, d.model.layers))
    by = float(d.pick(0.8, 1.2))

    def make(f):
        def forward(m, q, k, v, mask, *a, **kw):
            return f(m, q, k, v, mask, *a, **kw | ({"scaling": kw["scaling"] * by} if m.layer_idx == layer else {}))

        return forward

    return Plan(["attn_scores"], (layer,), inside=(attention(make),))


def narrow_softmax(d):
    """Probabilities rounded to 16 bits before they meet the values."""
    refuse(d.kind in ("gpt_oss", *LATENT))

    def make(f):
        def forward(m, q, k, v, mask, *a, **kw):
            groups, scaling = q.shape[1] // k.shape[1], kw.get("scaling", q.shape[-1] ** -0.5)
            keys, values = (x.repeat_interleave(groups, dim=1) for x in (k, v))
            scores = torch.matmul(q, keys.transpose(2, 3)) * scaling
            weights = torch.softmax(scores + mask if mask is not None else scores, dim=-1).to(torch.bfloat16).float()
            return torch.matmul(weights, values).transpose(1, 2).contiguous(), weights

        return forward

    refuse(d.model.config.get("attn_logit_softcapping") or d.kind == "gpt2")
    return Plan(["attn_softmax"], inside=(attention(make),))


def narrow_norms(d):
    """Norms computed in bf16 in a run that calls itself f32."""
    names = [n.removesuffix(".weight") for n in d.model.tensors if re.search(r"layers\.0\.(input_layernorm)\.weight$", n)]
    refuse(not names)
    return Plan(["attn_norm"], inside=(engines.output_of(names[0], lambda x: x.to(torch.bfloat16).to(x.dtype)),))


def cached_narrow(d):
    """Keys and values kept in 8 bits."""
    refuse(d.kind in ("gpt_oss", *LATENT))
    change = lambda x: x.to(torch.float8_e4m3fn).to(x.dtype)
    return Plan(["k_post_rope"], around=(engines.stale(lambda k, v: (change(k), change(v))),))


FAULTS = (
    ("attention_scale", one_layer), ("reduced_precision", narrow_softmax), ("reduced_precision", narrow_norms), ("reduced_precision", cached_narrow),
    ("rope_theta", theta), ("rope_scaling", scaling), ("rope_style", style), ("rope_dim", rotated_part), ("rope_layers", rotating_layers), ("position_offset", position),
    ("norm_eps", eps), ("activation", activation), ("attention_scale", scale), ("attention_softcap", softcap),
    ("logit_softcap", lambda d: setting(d, ["lm_head"], "final_logit_softcapping", (0.3, 2), None)), ("sliding_window", window),
    ("embedding_scale", lambda d: setting(d, ["embedding"], "embedding_multiplier", (0.5, 2))),
    ("residual_scale", lambda d: setting(d, ["post_attn_residual"], "residual_multiplier", (0.5, 2))),
    ("logit_scale", lambda d: setting(d, ["lm_head"], "logit_scale", (0.5, 3), None)), ("moe_top_k", top_k),
    ("moe_norm_topk", norm_topk), ("moe_router_order", routed(engines.softmax_before, ("gpt_oss",))),
    ("moe_router_order", routed(engines.softmax_after, ("olmoe", "qwen2_moe"))), ("moe_router_weights", routed(engines.raw_logits, ("mixtral", "olmoe", "qwen3_moe", "qwen2_moe"))),
    ("parallel_residual", parallel), ("missing_bias", bias), ("norm_offset", norm_offset), ("missing_norm", missing_norm), ("kv_head_mapping", kv_mapping),
    ("causal_mask", mask), ("stale_cache", stale), ("overflow", overflow), ("reduced_precision", narrow),
)  # fmt: skip


def tokens_of(d, length=None):
    most = d.model.config.get("max_position_embeddings") or d.model.config.get("n_positions") or 64
    count = min(length or int(d.rng.integers(14, 40)), most - 10)
    return [int(i) for i in d.rng.integers(0, d.model.vocabulary, count)]


def planned(rng, homes, recipe, make_draw):
    names = list(homes)
    for at in rng.permutation(len(names)):
        d = make_draw(rng, names[at], homes[names[at]])
        try:
            return d, recipe(d)
        except LookupError:
            continue
    raise ValueError(f"{recipe} fits no model")


def faulty(bench, rng, homes, make_draw):
    for number in range(ROUNDS * len(FAULTS)):
        cause, recipe = FAULTS[number % len(FAULTS)]
        d, plan = planned(rng, homes, recipe, make_draw)
        identifier = f"random-engine-{number:03d}-{cause}-{d.name}-{plan.dtype}"
        a, b = d.path, bench.place(identifier, "b")
        if recipe is overflow:
            a = d.model.save(bench.place(identifier, "a"))
        model = engines.load(a, plan.dtype, plan.change)
        ids = tokens_of(d, plan.length)
        positions = [plan.first + i for i in range(len(ids))] if plan.first else None
        found = engines.run(model, ids, plan.dtype, plan.inside, plan.around, positions)
        engines.write(b, found, d.path, d.kind, ids, plan.dtype, plan.precision)
        bench.add(identifier, "random", "vllm-project/vllm#19841", a, b,
                  Expect(phase=["ops", "logits"], causes=[cause, *plan.also_named], stage=plan.stage, layer=plan.layer))
        if number % 5 == 1 and plan.dtype == "f32" and not plan.precision and not plan.first and cause not in ("moe_top_k", "stale_cache"):
            # The same against a sound capture whose model nobody has: the place is asked, and the cause not.
            sound_of = bench.place(f"{identifier}-pair", "a")
            engines.write(sound_of, engines.run(engines.load(a, "f32"), ids), d.path, d.kind, ids, engine="transformers 5.23.0")
            bench.add(f"{identifier}-pair", "random", "vllm-project/vllm#19841", sound_of, b, Expect(phase=["ops", "logits"], stage=plan.stage, layer=plan.layer))


# --- Sound ones ---


def captures(bench, rng, homes, make_draw):
    for number, name in enumerate(homes):
        d = make_draw(rng, name, homes[name])
        dtype = d.pick("f32", "f32", "bf16", "f16", "f64")
        if d.kind == "gpt_oss":
            dtype = "f32"
        ids, identifier = tokens_of(d), f"random-healthy-torch-{number:03d}-{name}-{dtype}"
        b = bench.place(identifier, "b")
        engines.write(b, engines.run(engines.load(d.path, dtype), ids, dtype), d.path, d.kind, ids, dtype, engine="transformers 5.23.0")
        if number % 6 == 5:  # against another capture of the same engine
            a, other = bench.place(identifier, "a"), d.pick("f32", "f64")
            engines.write(a, engines.run(engines.load(d.path, other), ids, other), d.path, d.kind, ids, other, engine="transformers 5.23.0")
            bench.add(identifier, "healthy", "vllm-project/vllm#1334", a, b)
        else:
            bench.add(identifier, "healthy", "vllm-project/vllm#1334", d.path, b)


def containers(bench, rng, homes, make_draw):
    for number, name in enumerate(homes):
        d = make_draw(rng, name, homes[name])
        identifier = f"random-healthy-file-{number:03d}-{name}"
        if d.kind in gguf_side.ARCHITECTURES and not name.endswith("-small") and name != "llama-dynamic" and number % 3:
            kind = d.pick("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "f16", "bf16")
            b = gguf_side.convert(d.model, kind).save(bench.place(identifier, "b.gguf"))
        elif number % 3 == 1:
            b = bench.place(identifier, "b")
            d.model.config = models.restyle(d.model.config)
            d.model.save(b, int(rng.integers(1, 5)))
        elif number % 3 == 2:
            b = d.model.to(d.pick(torch.bfloat16, torch.float16)).save(bench.place(identifier, "b"))
        elif bench.program is not None and d.kind not in ("cohere2", "phi") and "lora" not in name:
            b = bench.place(identifier, "b.gguf")
            healthy.exported(bench, "gguf", d.pick("f32", "f16", "bf16"))(b, d.model)
        else:
            continue
        bench.add(identifier, "healthy", "ggml-org/llama.cpp#2783", d.path, b)


def sound(bench, rng, homes, make_draw):
    captures(bench, rng, homes, make_draw)
    containers(bench, rng, homes, make_draw)
