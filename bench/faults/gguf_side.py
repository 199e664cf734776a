"""Writes the GGUF side of a pair from a Hugging Face folder, with gguf-py; independent of `apr export`, which it tests.

Rules: ggml-org/llama.cpp convert_hf_to_gguf.py (which tensors are permuted, transposed, stacked, given +1) and
gguf-py/gguf/{constants,tensor_mapping}.py (names, keys)."""

import hashlib
import json
import math
import re

import gguf
import numpy
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES
from gguf.tensor_mapping import get_tensor_name_map

import models
from models import swap_pairs_to_halves

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "granite": "granite", "smollm3": "smollm3",
    "qwen2": "qwen2", "qwen3": "qwen3", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gemma": "gemma",
    "gemma2": "gemma2", "gemma3_text": "gemma3", "olmo2": "olmo2", "olmoe": "olmoe", "phi3": "phi3", "gpt2": "gpt2",
    "gpt_neox": "gptneox", "starcoder2": "starcoder2", "stablelm": "stablelm", "cohere": "command-r",
}  # fmt: skip
PERMUTED = ("llama", "mistral", "mixtral", "granite", "smollm3")
PLUS_ONE = ("gemma", "gemma2", "gemma3_text")
LAYER_NORM = ("gpt2", "gpt_neox", "starcoder2", "stablelm", "cohere")
TYPES = {
    "f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0, "q4_0": gguf.GGMLQuantizationType.Q4_0,
    "q4_1": gguf.GGMLQuantizationType.Q4_1, "q5_0": gguf.GGMLQuantizationType.Q5_0,
    "q5_1": gguf.GGMLQuantizationType.Q5_1,
}  # fmt: skip


class GgufFile:
    """Metadata, tensors (f32 arrays, as the file shapes them) and types, to be changed before they are written."""

    def __init__(self, name, meta, tensors, dtype):
        self.name, self.meta, self.tensors = name, meta, tensors
        self.types = {key: self.type_of(key, value, dtype) for key, value in tensors.items()}
        self.patches = {}  # tensor: function on its encoded bytes

    @staticmethod
    def type_of(name, value, dtype):
        if value.ndim < 2 or "_norm" in name or "ffn_gate_inp" in name or "position_embd" in name:
            return TYPES["f32"]
        block = gguf.GGML_QUANT_SIZES[TYPES[dtype]][0]
        return TYPES[dtype] if value.shape[-1] % block == 0 else TYPES["f16"]

    def key(self, name):
        """`name` behind the architecture's prefix."""
        return f"{self.name}.{name}"

    def edit(self, tensor, function):
        self.tensors[tensor] = function(self.tensors[tensor].copy())

    def save(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = gguf.GGUFWriter(path, self.name)
        for name, value in self.meta.items():
            _add(writer, name, value)
        for name, value in self.tensors.items():
            kind = self.types[name]
            data = gguf.quants.quantize(numpy.ascontiguousarray(value, dtype=numpy.float32), kind)
            if name in self.patches:
                data = self.patches[name](data.copy())
            writer.add_tensor(name, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def _add(writer, name, value):
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    else:
        writer.add_array(name, value)


def convert(model, dtype="f32", tokenizer=True):
    kind = model.config["model_type"]
    arch = ARCHITECTURES[kind]
    number = next(k for k, v in MODEL_ARCH_NAMES.items() if v == arch)
    names = get_tensor_name_map(MODEL_ARCH(number), model.layers)
    meta = _metadata(model, kind, arch)
    if tokenizer and "tokenizer.json" in model.extras:
        meta |= tokenizer_metadata(model)
    tensors = {}
    for name, value in _stacked_experts(model):
        for target, data in _place(model, kind, names, name, value):
            tensors[target] = data
    tensors |= _rope_tensors(model, kind)
    return GgufFile(arch, meta, tensors, dtype)


def trusted(bench, identifier, base, path):
    """The trusted side of a pair: the folder, and for a third of the pairs an f32 GGUF file of it."""
    model = models.Model.load(path)
    if model.config["model_type"] not in ARCHITECTURES or base == "llama-dynamic" or hashlib.sha256(identifier.encode()).digest()[1] % 3:
        return path
    return bench.shared(f"{base}-f32.gguf", lambda out: convert(model).save(out))


# --- Tensors ---


def _stacked_experts(model):
    """(name, values): the experts of a layer as one tensor, every other tensor as it is."""
    pattern = re.compile(r"(.*\.experts)\.(\d+)\.(.*)")
    experts = {}
    for name in model.tensors:
        match = pattern.fullmatch(name)
        if match is None:
            yield name, model.f32(name)
        else:
            experts.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = model.f32(name)
    for name, parts in experts.items():
        yield name, numpy.stack([parts[n] for n in range(len(parts))])


def _place(model, kind, names, name, value):
    if name == "lm_head.weight" and model.config.get("tie_word_embeddings"):
        return
    if kind == "gpt2" and name.endswith((".attn.bias", ".attn.masked_bias")):
        return
    target = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if target is None:
        raise KeyError(f"{kind} {name}: no GGUF name")
    if kind == "gpt2" and value.ndim == 2 and ".h." in name:
        value = value.T
    if kind == "gpt_neox" and "query_key_value" in name:
        value = value.reshape(model.heads, 3, -1, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
    if kind in PERMUTED and re.search(r"\.(q|k)_proj\.", name):
        value = value[swap_pairs_to_halves(model.heads if ".q_proj." in name else model.kv_heads, len(value))]
    if kind in PLUS_ONE and name.endswith("norm.weight"):
        value = value + 1
    if name.endswith("shared_expert_gate.weight"):
        value = value.reshape(-1)
    yield target, value


def _rope_tensors(model, kind):
    rope = model.rope()
    pairs = int(model.head_dim * (model.rope("partial_rotary_factor") or 1)) // 2
    if rope["rope_type"] == "llama3":
        return {"rope_freqs.weight": llama3_factors(rope, pairs)}
    if rope["rope_type"] == "longrope":
        return {f"rope_factors_{size}.weight": numpy.array(rope[f"{size}_factor"], numpy.float32) for size in ("long", "short")}
    return {}


def llama3_factors(rope, pairs):
    """Divisors of the frequencies: transformers modeling_rope_utils.py, _compute_llama3_parameters."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    out = []
    for pair in range(pairs):
        wave = 2 * math.pi * rope["rope_theta"] ** (pair / pairs)
        if wave < context / high:
            out.append(1.0)
        elif wave > context / low:
            out.append(float(rope["factor"]))
        else:
            smooth = (context / wave - low) / (high - low)
            out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return numpy.array(out, numpy.float32)


# --- Metadata ---


def _metadata(model, kind, arch):
    c, p = model.config, f"{arch}."
    first = lambda *keys: next((c[key] for key in keys if c.get(key) is not None), None)
    eps = float(first("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"))
    meta = {
        "general.name": kind, "general.type": "model",
        p + "context_length": first("max_position_embeddings", "n_positions"),
        p + "embedding_length": model.hidden,
        p + "block_count": model.layers,
        p + "feed_forward_length": first("intermediate_size", "n_inner") or 4 * model.hidden,
        p + "attention.head_count": model.heads,
        p + ("attention.layer_norm_epsilon" if kind in LAYER_NORM else "attention.layer_norm_rms_epsilon"): eps,
        p + "vocab_size": model.vocabulary,
    }  # fmt: skip
    if kind not in ("gpt2", "gpt_neox"):
        meta[p + "attention.head_count_kv"] = model.kv_heads
    if c.get("head_dim"):
        meta |= {p + "attention.key_length": model.head_dim, p + "attention.value_length": model.head_dim}
    meta |= {p + key: value for key, value in _positions(model, kind).items()}
    meta |= {p + key: value for key, value in _constants(c, kind).items()}
    return meta


def _positions(model, kind):
    c = model.config
    out = {}
    if kind == "gpt2":
        return out
    rope = model.rope()
    if "full_attention" in rope:
        out["rope.freq_base_swa"] = float(rope["sliding_attention"]["rope_theta"])
        rope = rope["full_attention"]
    elif "rope_local_base_freq" in c:
        out["rope.freq_base_swa"] = float(c["rope_local_base_freq"])
    out["rope.freq_base"] = float(rope["rope_theta"])
    part = model.rope("partial_rotary_factor") or c.get("rotary_pct") or 1
    out["rope.dimension_count"] = int(model.head_dim * part)
    scaling = rope.get("rope_type", "default")
    if scaling in ("linear", "yarn"):
        out |= {"rope.scaling.type": scaling, "rope.scaling.factor": float(rope["factor"])}
    if scaling == "yarn":
        out["rope.scaling.original_context_length"] = int(rope["original_max_position_embeddings"])
    if scaling == "longrope":
        original = rope.get("original_max_position_embeddings") or c["original_max_position_embeddings"]
        growth = c["max_position_embeddings"] / original
        magnitude = math.sqrt(1 + math.log(growth) / math.log(original)) if growth > 1 else 1.0
        out |= {"rope.scaling.type": "longrope", "rope.scaling.attn_factor": magnitude,
                "rope.scaling.original_context_length": int(original)}
    if kind == "gpt_neox":
        out["use_parallel_residual"] = bool(c.get("use_parallel_residual", True))
    return out


def _constants(c, kind):
    out = {}
    windowed = c.get("sliding_window") and c.get("use_sliding_window", True)
    if windowed and kind in ("mistral", "mixtral", "gemma2", "gemma3_text", "phi3", "starcoder2"):
        out["attention.sliding_window"] = c["sliding_window"]
    if kind in ("gemma2", "gemma3_text"):
        types = c["layer_types"]
        out["attention.sliding_window_pattern"] = types.index("full_attention") + 1
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if c.get(key):
                out[key] = float(c[key])
        out["attention.scale"] = float(c["query_pre_attn_scalar"]) ** -0.5
    for key, name in (("embedding_multiplier", "embedding_scale"), ("residual_multiplier", "residual_scale"),
                      ("attention_multiplier", "attention.scale"), ("logits_scaling", "logit_scale"),
                      ("logit_scale", "logit_scale")):
        if c.get(key) is not None:
            out[name] = float(c[key])
    experts = c.get("num_experts") or c.get("num_local_experts")
    if experts:
        out |= {"expert_count": experts, "expert_used_count": c["num_experts_per_tok"]}
        if c.get("moe_intermediate_size"):
            out["expert_feed_forward_length"] = c["moe_intermediate_size"]
        if c.get("shared_expert_intermediate_size"):
            out["expert_shared_feed_forward_length"] = c["shared_expert_intermediate_size"]
        if "norm_topk_prob" in c:
            out["expert_weights_norm"] = bool(c["norm_topk_prob"])
    return out


# --- Tokenizer ---


def tokenizer_metadata(model):
    tokenizer = json.loads(model.extras["tokenizer.json"])
    settings = json.loads(model.extras["tokenizer_config.json"])
    vocab = tokenizer["model"]["vocab"]
    added = {token["content"]: token for token in tokenizer["added_tokens"]}
    size = max(len(vocab), 1 + max([*vocab.values(), *(token["id"] for token in tokenizer["added_tokens"])]))
    by_id = {number: text for text, number in vocab.items()} | {t["id"]: t["content"] for t in added.values()}
    byte_fallback = tokenizer["model"].get("byte_fallback", False)
    tokens, kinds = [], []
    for number in range(size):
        text = by_id[number]
        tokens.append(text)
        if text in added:
            kinds.append(2 if text == settings.get("unk_token") else 3 if added[text]["special"] else 4)
        else:
            kinds.append(6 if byte_fallback and re.fullmatch(r"<0x[0-9A-F]{2}>", text) else 1)
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    out = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
    if byte_fallback:
        # sentencepiece: a piece merges before another when its score is higher; here in the order of the merges.
        rank = {pair.replace(" ", ""): place for place, pair in enumerate(pairs)}
        out |= {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default",
                "tokenizer.ggml.scores": [-float(rank.get(text, len(pairs) + n)) for n, text in enumerate(tokens)],
                "tokenizer.ggml.add_space_prefix": True}
    else:
        out |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.merges": pairs}
    for role, key in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token"), ("unknown", "unk_token")):
        text = settings.get(key)
        if text is not None:
            out[f"tokenizer.ggml.{role}_token_id"] = tokens.index(text)
    out["tokenizer.ggml.add_bos_token"] = bool(settings.get("add_bos_token", False))
    if settings.get("chat_template"):
        out["tokenizer.chat_template"] = settings["chat_template"]
    return out
