"""More faults of files drawn at random: whole models treated alike by a converter, keys that got lost, scalings, layer patterns, token settings.

As faults_random.py, whose Draw these recipes use; a row of reference/field-needs that it leaves out is here."""

import json
import math
import re

import torch
import transformers

import faults_tokens
import faults_weights
import gguf_side
import models

LATENT = ("deepseek_v2", "deepseek_v3")


def refuse(when):
    if when:
        raise LookupError


def layer_of(name):
    match = re.search(r"(?:layers|\.h)\.(\d+)\.", name)
    return int(match[1]) if match else None


def families(d, pattern):
    """Groups of tensors that are one tensor in every layer."""
    found = {}
    for name in d.model.tensors:
        if re.search(pattern, name) and layer_of(name) is not None and ".experts." not in name:
            found.setdefault(re.sub(r"(layers|\.h)\.\d+\.", r"\1.*.", name), []).append(name)
    groups = [sorted(names, key=layer_of) for names in found.values() if len(names) > 1]
    groups = [names for names in groups if len(names) == d.model.layers]
    refuse(not groups)
    return d.pick(*groups)


# --- Weights ---


def all_layers(pattern, change, **also):
    """One tensor changed alike in every layer: one finding, if it is found as what it is."""

    def recipe(d):
        names = families(d, pattern)
        for name in names:
            change(d, name)
        d.hit(names[0], most=1, **also)

    return recipe


def permute_as_query(d, name):
    refuse(d.kind in ("cohere", "cohere2", *LATENT) or (d.model.rope("partial_rotary_factor") or 1) != 1 or d.model.kv_heads == d.model.heads)
    refuse(d.model.head_dim % 4 or len(d.model.tensors[name]) % (2 * d.model.heads))
    faults_weights.permute(name, lambda m: m.heads)(d.model)


def permute_own(d, name):
    refuse(d.kind in ("cohere", "cohere2", *LATENT) or (d.model.rope("partial_rotary_factor") or 1) != 1)
    own = d.model.heads if ".q_proj" in name else d.model.kv_heads
    refuse(len(d.model.tensors[name]) // own < 4)  # two rows a head have one order
    faults_weights.permute(name, lambda m: own)(d.model)


def edited(function):
    return lambda d, name: d.model.edit(name, function)


def rotated(d):
    by = int(d.pick(1, d.model.layers - 1))
    shapes = {}
    for name, t in d.model.tensors.items():
        shapes.setdefault(re.sub(r"(layers|\.h)\.\d+\.", "*", name), set()).add(tuple(t.shape))
    names = [n for n in d.model.tensors if layer_of(n) is not None]
    moved = {n: re.sub(r"(layers|\.h)\.(\d+)\.", lambda m: f"{m[1]}.{(int(m[2]) + by) % d.model.layers}.", n) for n in names}
    refuse(d.model.layers < 2 or any(len(s) > 1 for s in shapes.values()) or any(n not in d.model.tensors for n in moved.values()))
    old = dict(d.model.tensors)
    for name, target in moved.items():
        d.model.tensors[target] = old[name]
    d.expect = {"layer": [0], "alternatives": ["swapped_tensors"]}


def last_layer_gone(d):
    last = d.model.layers - 1
    names = [n for n in d.model.tensors if layer_of(n) == last]
    for name in names:
        del d.model.tensors[name]
    d.expect = {"layer": [last]}


def layer_too_many(d):
    for name in [n for n in d.model.tensors if layer_of(n) == 0]:
        d.model.tensors[re.sub(r"(layers|\.h)\.0\.", rf"\1.{d.model.layers}.", name)] = d.model.tensors[name].clone()
    d.expect = {"verdict": ["different", "same", "rounding"], "phase": [], "also": [{"causes": ["extra_tensor"], "anywhere": True}], "unasked": True}


def experts(d):
    """Names of one matrix of all experts of a layer."""
    found = {}
    for name in d.model.tensors:
        match = re.match(r"(.*\.experts\.)(\d+)(\..*)", name)
        if match:
            found.setdefault((match[1], match[3]), []).append(name)
    refuse(not found)
    return sorted(d.pick(*found.values()), key=lambda n: int(re.search(r"experts\.(\d+)", n)[1]))


def experts_turned(d):
    """Every expert holds its neighbour's matrix."""
    names = experts(d)
    old = [d.model.tensors[n] for n in names]
    for i, name in enumerate(names):
        d.model.tensors[name] = old[(i + 1) % len(old)]
    d.hit(names[0], tensor=[re.sub(r"experts\.\d+.*", "experts", names[0])], alternatives=["layer_order", "shifted_rows", "fused_layout"])


def whole_experts_swapped(d):
    refuse(not any(".experts.1." in n for n in d.model.tensors))
    layer = layer_of(next(n for n in d.model.tensors if ".experts.1." in n))
    for name in [n for n in d.model.tensors if ".experts.0." in n and layer_of(n) == layer]:
        faults_weights.swap(name, name.replace(".experts.0.", ".experts.2."))(d.model)
    d.expect = {"layer": [layer], "stage": ["moe_ffn_out"]}


def head_for_embedding(d):
    """Embedding and head exchanged."""
    pair = next(((a, b) for a, b in (("model.embed_tokens.weight", "lm_head.weight"), ("gpt_neox.embed_in.weight", "embed_out.weight")) if b in d.model.tensors), None)
    refuse(pair is None or d.model.config.get("tie_word_embeddings"))
    faults_weights.swap(*pair)(d.model)
    d.hit(*pair)


def tied_flag_false(d):
    """The flag says tied, the file holds a head of its own that differs."""
    refuse(not d.model.config.get("tie_word_embeddings") or "model.embed_tokens.weight" not in d.model.tensors)
    d.model.tensors["lm_head.weight"] = torch.roll(d.model.tensors["model.embed_tokens.weight"], 1, 1) * 1.1
    d.expect = {"phase": ["config", "weights"], "layer": [None], "stage": ["lm_head"], "alternatives": ["extra_tensor"]}


def rows_zero(d):
    """The rest of a tensor was never written."""
    name = d.tensor(lambda m, n: m.tensors[n].dim() == 2 and layer_of(n) is not None and ".gate." not in n and len(m.tensors[n]) > 8)
    at = int(len(d.model.tensors[name]) * float(d.rng.uniform(0.3, 0.8)))

    def cut(t):
        t[at:] = 0
        return t

    d.model.edit(name, cut)
    d.hit(name, alternatives=["zeroed_tensor"])


def all_coarse(d):
    """A file of f32 whose values went through 16 bits."""
    through = d.pick(torch.bfloat16, torch.float16)
    refuse(any(t.dtype != torch.float32 for t in d.model.tensors.values()))
    held = sum(int(not torch.equal(t.to(through).float(), t.float())) for t in d.model.tensors.values())
    refuse(held < 3)
    for name in d.model.tensors:
        d.model.edit(name, lambda t: t.to(through).float())
    d.expect = {"layer": [0], "stage": ["embedding"], "most": 3}


def infinite_norm(d):
    name = d.tensor(lambda m, n: "norm" in n and n.endswith(".weight") and m.tensors[n].dim() == 1)
    d.model.edit(name, faults_weights.spoil(int(d.rng.integers(1, 4)), float("inf"), int(d.rng.integers(1 << 30))))
    d.hit(name)


WEIGHTS = (
    ("missing_bias", all_layers(r"\.(q|k|v|o)_proj\.bias|c_attn\.bias|c_fc\.bias|c_proj\.bias|query_key_value\.bias", lambda d, n: d.model.tensors.pop(n), alternatives=["missing_tensor"])),
    ("norm_offset", all_layers(r"(input_layernorm|post_attention_layernorm|q_norm|k_norm)\.weight", edited(lambda t: t + 1))),
    ("norm_offset", all_layers(r"(input_layernorm|pre_feedforward_layernorm|post_attention_layernorm)\.weight", edited(lambda t: t - 1))),
    ("rope_permutation", all_layers(r"\.k_proj\.weight", permute_as_query)), ("rope_permutation", all_layers(r"\.(q|k)_proj\.weight", permute_own)),
    ("transposed", all_layers(r"(up_proj|down_proj|c_fc|dense_h_to_4h)\.weight", lambda d, n: d.model.tensors.update({n: d.model.tensors[n].t().contiguous()}))),
    ("scaled_tensor", all_layers(r"\.(v|o|down)_proj\.weight|attention\.dense\.weight", edited(lambda t: t * 1.7))),
    ("zeroed_tensor", all_layers(r"\.(k|v|up)_proj\.weight|c_fc\.weight", edited(torch.zeros_like))),
    ("coarse_quantization", all_layers(r"\.(down|o|up)_proj\.weight", edited(faults_weights.coarse_tensor("q5_0")))), ("coarse_quantization", all_coarse),
    ("layer_order", rotated), ("missing_tensor", last_layer_gone), ("extra_tensor", layer_too_many), ("swapped_tensors", experts_turned),
    ("swapped_tensors", whole_experts_swapped), ("swapped_tensors", head_for_embedding), ("tie_word_embeddings", tied_flag_false),
    ("corrupt_values", rows_zero), ("overflow", infinite_norm),
)  # fmt: skip

# --- Settings ---

LOST = (
    ("norm_eps", ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"), ["attn_norm", "q_norm"], 0),
    ("attention_scale", ("query_pre_attn_scalar", "attention_multiplier"), ["attn_scores"], 0), ("attention_softcap", ("attn_logit_softcapping",), ["attn_scores"], 0),
    ("logit_softcap", ("final_logit_softcapping",), ["lm_head"], None), ("embedding_scale", ("embedding_multiplier",), ["embedding"], 0),
    ("residual_scale", ("residual_multiplier",), ["post_attn_residual"], 0), ("logit_scale", ("logits_scaling", "logit_scale"), ["lm_head"], None),
    ("moe_top_k", ("num_experts_per_tok",), ["moe_router", "moe_router_indices"], "any"), ("moe_norm_topk", ("norm_topk_prob",), ["moe_router"], "any"),
    ("sliding_window", ("sliding_window",), ["attn_softmax"], "any"), ("kv_head_count", ("num_key_value_heads",), ["qkv_matmul"], 0), ("head_dim", ("head_dim",), ["qkv_matmul"], 0),
)  # fmt: skip


def class_default(kind, key):
    return getattr(transformers.AutoConfig.for_model(kind), key, None)


def lost(cause, keys, stage, layer):
    """A key that is not written, so that the architecture's default counts."""

    def recipe(d):
        refuse(d.kind in LATENT or d.kind == "gpt_oss")
        key = next((k for k in keys if d.model.config.get(k) is not None), None)
        refuse(key is None or class_default(d.kind, key) == d.model.config[key] or (cause == "sliding_window" and class_default(d.kind, key) and class_default(d.kind, key) > 600))
        refuse(cause == "sliding_window" and (d.kind in ("qwen2", "qwen2_moe", "phi3") or "sliding_attention" not in (d.model.config.get("layer_types") or ["sliding_attention"])))
        refuse(cause == "head_dim" and (d.model.hidden // d.model.heads == d.model.head_dim or d.kind == "gpt_neox"))
        refuse(cause in ("kv_head_count",) and d.model.kv_heads == d.model.heads or cause == "moe_top_k" and class_default(d.kind, key) > 6)
        del d.model.config[key]
        d.expect = {"key": [key], "stage": stage, "layer": [] if layer == "any" else [layer]}
        if cause in ("kv_head_count", "head_dim"):
            d.expect["alternatives"] = ["head_count", "kv_head_count", "head_dim"]

    return recipe


def yarn_start(d, beta):
    """The pair from which on YaRN interpolates (equation 14 of its paper): short heads have the same for many betas."""
    dim, rope = d.model.head_dim, d.model.rope()
    base, length = rope["rope_theta"], rope.get("original_max_position_embeddings") or d.model.config["max_position_embeddings"]
    return max(math.floor(dim * math.log(length / (beta * 2 * math.pi)) / (2 * math.log(base))), 0)


def scaling(field, kinds, change, **more):
    def recipe(d):
        rope = d.model.rope()
        refuse(rope.get("rope_type") not in kinds or "sliding_attention" in rope or d.kind in LATENT and field != "factor")
        value = change(d, rope)
        refuse(field == "beta_fast" and yarn_start(d, value) == yarn_start(d, rope.get("beta_fast") or 32))
        d.model.set_rope(**{field: value})
        d.expect = {"stage": ["q_post_rope"], "layer": [0]} | more

    return recipe


def local_theta(d):
    refuse(d.kind != "gemma3_text")
    local = bool(d.rng.integers(2))
    types = d.model.config["layer_types"]
    value = float(d.pick(3000.0, 50000.0, 2e5))
    if "rope_parameters" in d.model.config:
        d.model.config["rope_parameters"]["sliding_attention" if local else "full_attention"]["rope_theta"] = value
    else:
        d.model.config["rope_local_base_freq" if local else "rope_theta"] = value
    d.expect = {"stage": ["q_post_rope"], "layer": [types.index("sliding_attention" if local else "full_attention")]}


def layer_types(d):
    types = list(d.model.config.get("layer_types") or [])
    refuse(d.kind not in ("gemma2", "gpt_oss", "gemma3_text") or "sliding_attention" not in types)
    at = int(d.rng.integers(len(types)))
    types[at] = "full_attention" if types[at] == "sliding_attention" else "sliding_attention"
    d.model.config["layer_types"] = types
    d.expect = {"stage": ["q_post_rope" if d.kind == "gemma3_text" else "attn_softmax"], "layer": [at]}


def window_gone(d):
    types = d.model.config.get("layer_types") or []
    refuse(d.kind not in ("mistral", "starcoder2") or not d.model.config.get("sliding_window"))
    d.model.config["sliding_window"] = None
    d.expect = {"stage": ["attn_softmax"], "layer": [types.index("sliding_attention") if types else 0]}


def window_switched_off(d):
    refuse(d.kind != "qwen2" or not d.model.config.get("use_sliding_window"))
    types = d.model.config.get("layer_types")
    refuse(types and "sliding_attention" not in types)
    d.model.config["use_sliding_window"] = False
    if types:
        d.model.config["layer_types"] = ["full_attention"] * len(types)
    d.expect = {"stage": ["attn_softmax"]}


def score_flags(d):
    refuse(d.kind != "gpt2")
    key = d.pick("scale_attn_by_inverse_layer_idx", "scale_attn_weights")
    d.model.config[key] = not d.model.config.get(key, key == "scale_attn_weights")
    d.expect = {"stage": ["attn_scores"], "layer": [1 if "layer" in key else 0]}


def parallel_stablelm(d):
    refuse(d.kind != "stablelm" or d.model.config.get("use_parallel_residual") is None)
    refuse(not d.model.config["use_parallel_residual"] and not any("post_attention_layernorm" in n for n in d.model.tensors))
    d.model.config["use_parallel_residual"] = not d.model.config["use_parallel_residual"]
    d.expect = {"layer": [0], "phase": ["config", "weights"], "alternatives": ["missing_tensor", "extra_tensor"]}


def latent(key, change):
    """Constants of DeepSeek's attention and router: the place is asked, the name has no row of its own."""

    def recipe(d):
        refuse(d.kind not in (LATENT if key in ("routed_scaling_factor", "num_experts_per_tok") else ("deepseek_v3",)) or d.model.config.get(key) is None or change(d.model.config[key]) == d.model.config[key])
        d.model.config[key] = change(d.model.config[key])
        d.expect = {"key": [key], "unasked": True}

    return recipe


def fewer_layers(d):
    """The configuration knows one layer less than the file holds."""
    refuse(d.kind in LATENT or d.model.layers < 2)
    key = "num_hidden_layers" if "num_hidden_layers" in d.model.config else "n_layer"
    d.model.config[key] -= 1
    for name in ("layer_types", "no_rope_layers"):
        if d.model.config.get(name):
            d.model.config[name] = d.model.config[name][:-1]
    d.expect = {"phase": [], "unasked": True}


SETTINGS = (
    *((cause, lost(cause, keys, stage, layer)) for cause, keys, stage, layer in LOST),
    ("rope_scaling", scaling("attention_factor", ("yarn",), lambda d, r: float(d.pick(1.0, 1.5, 2.0)))), ("rope_scaling", scaling("beta_fast", ("yarn",), lambda d, r: float(d.pick(1.5, 2.0)))),
    ("rope_scaling", scaling("original_max_position_embeddings", ("yarn", "llama3"), lambda d, r: r.get("original_max_position_embeddings", 64) * 4)),
    ("rope_scaling", scaling("low_freq_factor", ("llama3",), lambda d, r: r["low_freq_factor"] * 2)), ("rope_scaling", scaling("high_freq_factor", ("llama3",), lambda d, r: r["high_freq_factor"] * 3)),
    ("rope_scaling", scaling("rope_type", ("yarn", "llama3"), lambda d, r: "linear")), ("rope_scaling", scaling("factor", ("yarn", "dynamic", "linear", "llama3"), lambda d, r: r["factor"] * 1.5)),
    ("rope_scaling", scaling("long_factor", ("longrope",), lambda d, r: [x * 1.3 for x in r["long_factor"]])), ("rope_scaling", scaling("short_factor", ("longrope",), lambda d, r: [x * 1.1 for x in r["short_factor"]])),
    ("rope_theta", local_theta), ("sliding_window", layer_types), ("sliding_window", window_gone), ("sliding_window", window_switched_off), ("attention_scale", score_flags),
    ("parallel_residual", parallel_stablelm), ("residual_scale", latent("routed_scaling_factor", lambda x: x * 1.5)), ("moe_top_k", latent("num_experts_per_tok", lambda x: x - 1)),
    ("moe_norm_topk", latent("norm_topk_prob", lambda x: not x)), ("moe_top_k", latent("topk_group", lambda x: x + 1)), ("extra_tensor", fewer_layers),
)  # fmt: skip


# --- Metadata of GGUF that got lost, and its tensors of frequencies ---

GONE = (
    ("rope_theta", "rope.freq_base", ["q_post_rope"]), ("logit_softcap", "final_logit_softcapping", ["lm_head"]), ("attention_softcap", "attn_logit_softcapping", ["attn_scores"]),
    ("attention_scale", "attention.scale", ["attn_scores"]), ("logit_scale", "logit_scale", ["lm_head"]), ("embedding_scale", "embedding_scale", ["embedding"]),
    ("residual_scale", "residual_scale", ["post_attn_residual"]), ("sliding_window", "attention.sliding_window", ["attn_softmax", "q_post_rope"]), ("rope_scaling", "rope.scaling.type", ["q_post_rope"]),
    ("rope_dim", "rope.dimension_count", ["q_post_rope"]), ("moe_norm_topk", "expert_weights_norm", ["moe_router"]), ("rope_scaling", "rope_freqs.weight", ["q_post_rope"]),
    ("rope_scaling", "rope_factors_long.weight", ["q_post_rope"]),
)  # fmt: skip
DEFAULTS = {"rope.freq_base": (10000.0,), "attention.scale": (), "logit_scale": (1.0,), "embedding_scale": (1.0,), "residual_scale": (1.0,)}


def metadata(bench, rng, homes, expect, rounds):
    import random_gguf

    fit = random_gguf.gguf_models(homes)
    for number in range(rounds * len(GONE)):
        cause, key, stage = GONE[number % len(GONE)]
        for base in rng.permutation(fit):
            model = models.Model.load(homes[base])
            file = gguf_side.convert(model, str(rng.choice(["f32", "f16", "q8_0"])))
            if key in file.tensors:
                del file.tensors[key]
            else:
                found = file.key(key)
                kind = model.config["model_type"]
                if found not in file.meta or file.meta[found] in DEFAULTS.get(key, ()) or key == "rope.dimension_count" and file.meta[found] == model.head_dim:
                    continue
                if key == "attention.scale" and kind in ("gemma2", "gemma3_text") or key == "expert_weights_norm" or key == "attention.sliding_window" and kind == "gemma2":
                    continue  # the architecture's own value
                if key in ("final_logit_softcapping", "attn_logit_softcapping") and kind == "gemma2" and file.meta[found] in (30.0, 50.0):
                    continue
                if key == "rope.dimension_count" and kind not in ("stablelm", "gpt_neox"):
                    continue
                del file.meta[found]
            identifier = f"random-gone-{number:03d}-{cause}-{base}"
            bench.add(identifier, "random", "ggml-org/llama.cpp#2768", homes[base], file.save(bench.place(identifier, "b.gguf")),
                      expect(phase=["config", "weights", "file"], causes=[cause], stage=stage))
            break


# --- Tokens ---


def normalizer(kind):
    def change(t):
        now = t.get("normalizer")
        parts = now["normalizers"] if now and now["type"] == "Sequence" else [now] if now else []
        t["normalizer"] = {"type": "Sequence", "normalizers": [kind, *parts]}

    return change


def swapped_merges(t):
    """The first merge last: what it made is now made by others."""
    t["model"]["merges"] = t["model"]["merges"][1:] + t["model"]["merges"][:1]


def eos_behind(t):
    last = t["added_tokens"][-1]
    t["post_processor"] = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": last["content"], "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {last["content"]: {"id": last["content"], "ids": [last["id"]], "tokens": [last["content"]]}}}


def prefix_space(t):
    def visit(x):
        if isinstance(x, dict):
            if x.get("type") == "ByteLevel":
                x["add_prefix_space"] = not x.get("add_prefix_space", False)
            for value in x.values():
                visit(value)
        elif isinstance(x, list):
            for value in x:
                visit(value)

    visit(t["pre_tokenizer"])


def template(change):
    return lambda m: faults_tokens.settings(chat_template=change(json.loads(m.extras["tokenizer_config.json"])["chat_template"]))(m)


def all_normal(file):
    file.meta["tokenizer.ggml.token_type"] = [1 if kind in (3, 4) else kind for kind in file.meta["tokenizer.ggml.token_type"]]


def reversed_scores(file):
    file.meta["tokenizer.ggml.scores"] = file.meta["tokenizer.ggml.scores"][::-1]


def shifted_tokens(file):
    tokens = file.meta["tokenizer.ggml.tokens"]
    file.meta["tokenizer.ggml.tokens"] = tokens[:10] + tokens[11:200] + [tokens[10]] + tokens[200:]


T, CHAT, SPM = faults_tokens.Fault, "tiny-chat", "spm"
TOKENS = [
    T("lowercase", CHAT, "ggml-org/llama.cpp#6944", faults_tokens.tokenizer(normalizer({"type": "Lowercase"})), [], []),
    T("merge-moved", CHAT, "ggml-org/llama.cpp#6944", faults_tokens.tokenizer(swapped_merges), ["merges"], []),
    T("eos-behind", CHAT, "EleutherAI/lm-evaluation-harness#2676", faults_tokens.tokenizer(eos_behind), ["special_tokens", "eos_id"], []),
    T("prefix-space", CHAT, "vllm-project/vllm.cpp#2077", faults_tokens.tokenizer(prefix_space), ["space_prefix", "pretokenizer"], []),
    T("template-system", CHAT, "utilityai/llama-cpp-rs#1096", template(lambda x: "{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}" + x), ["chat_template"], ["chat_template"], args="--messages"),
    T("template-trailing-space", CHAT, "hiyouga/LlamaFactory#6020", template(lambda x: x.replace("<|im_end|>", "<|im_end|> ")), ["chat_template"], ["chat_template"], args=""),
    T("normal-tokens-gguf", CHAT, "ggml-org/llama.cpp#7062", all_normal, ["special_tokens"], [], gguf=True, args="--messages"),
    T("scores-gguf", SPM, "ggml-org/llama.cpp#6944", reversed_scores, ["merges", "vocabulary"], [], gguf=True),
    T("tokens-shifted-gguf", SPM, "ggml-org/llama.cpp#3133", shifted_tokens, ["vocabulary"], [], gguf=True),
    T("eos-list", CHAT, "ggml-org/llama.cpp#9583", lambda m: m.extras.update({"generation_config.json": json.dumps({"eos_token_id": [1, 0]})}) or m.config.update(eos_token_id=[1, 0]), ["eos_id"], [], args=""),
]  # fmt: skip
