"""Pairs drawn at random from a catalogue: any model, layer, tensor, size and container; from a fixed seed.

They are there so that no fault is recognised by the one example of it elsewhere in this bench."""

import re

import numpy
import torch

import engines
import faults_weights
import gguf_side
import models
from case import Expect

SEED = 20240
WEIGHTS, CONSTANTS, ENGINES, SOUND = 90, 40, 40, 40
NAMED_LIKE_LLAMA = ("llama-mha", "llama-linear", "llama-dynamic", "llama3-scaled-tied", "mistral-window", "qwen2", "qwen2-yarn", "qwen3", "gemma", "gemma2", "gemma3",
                    "olmo2", "stablelm", "cohere", "granite", "smollm3-nope", "mixtral", "olmoe", "qwen2-moe-shared", "qwen3-moe", "qwen3-moe-nonorm")  # fmt: skip
SANDWICH = ("gemma2", "gemma3", "olmo2")
STAGES = (
    (r"embed_tokens", "embedding"), (r"lm_head", "lm_head"), (r"model\.norm", "final_norm"), (r"\.(q|k|v)_proj\.weight", "qkv_matmul"),
    (r"\.(q|k|v)_proj\.bias", "qkv_bias"), (r"o_proj", "attn_out"), (r"self_attn\.q_norm", "q_norm"), (r"self_attn\.k_norm", "k_norm"),
    (r"\.experts\.", "moe_ffn_out"), (r"shared_expert", "moe_ffn_out"), (r"mlp\.gate\.|block_sparse_moe\.gate\.", "moe_router_logits"), (r"gate_proj", "ffn_gate"),
    (r"up_proj", "ffn_up"), (r"down_proj", "ffn_out"), (r"input_layernorm", "attn_norm"), (r"pre_feedforward_layernorm", "ffn_norm"),
    (r"post_feedforward_layernorm", "post_ffn_norm"), (r"post_attention_layernorm", "ffn_norm"),
)  # fmt: skip
SOURCE = {
    "scaled_tensor": "TransformerLensOrg/TransformerLens#27", "zeroed_tensor": "ggml-org/llama.cpp#12439", "nan_values": "ggml-org/llama.cpp#8661",
    "corrupt_values": "facebookresearch/metaseq#122", "transposed": "paiml/aprender#1466", "shifted_rows": "ggml-org/llama.cpp#3133",
    "rope_permutation": "ggml-org/llama.cpp#3364", "swapped_tensors": "huggingface/transformers#33473", "missing_tensor": "paiml/aprender#2535",
    "norm_offset": "ggml-org/llama.cpp#5631", "coarse_quantization": "unslothai/unsloth#6056", "missing_bias": "ggml-org/llama.cpp#4283",
}  # fmt: skip


def stage_of(base, name):
    if base in SANDWICH and "post_attention_layernorm" in name:
        return "post_attn_norm"
    return next(stage for pattern, stage in STAGES if re.search(pattern, name))


def layer_of(name):
    match = re.search(r"layers\.(\d+)\.", name)
    return int(match[1]) if match else 0 if "embed_tokens" in name else None


# --- Weights: name of the cause, whether it fits a tensor, what is done ---


def _matrix(model, name):
    return model.tensors[name].dim() == 2 and "shared_expert_gate" not in name


def _layer_matrix(model, name):
    return _matrix(model, name) and ".layers." in name and "norm" not in name and ".gate.weight" not in name


def _rope_rows(model, name):
    return re.search(r"\.(q|k)_proj\.weight", name) and model.config["model_type"] != "cohere" and (model.rope("partial_rotary_factor") or 1) == 1


def _norm(model, name):
    return "norm" in name and name.endswith(".weight") and model.tensors[name].dim() == 1


def _scale(rng, model, name):
    factor = float(rng.choice([0.25, 0.5, 0.9, 1.1, 2.0, model.hidden**0.5, 1 / model.head_dim**0.5]))
    model.edit(name, lambda t: t * factor)


def _corrupt(rng, model, name):
    spread = float(model.tensors[name].float().std())
    value = spread * float(rng.choice([30, 300, -3000]))
    model.edit(name, faults_weights.spoil(int(rng.integers(1, 12)), value, int(rng.integers(1 << 30))))


def _swap(rng, model, name):
    layer = layer_of(name)
    twin = name.replace(f"layers.{layer}.", f"layers.{(layer + 1) % model.layers}.")
    if twin not in model.tensors or model.tensors[twin].shape != model.tensors[name].shape:
        return False
    faults_weights.swap(name, twin)(model)
    return [min(name, twin, key=layer_of)]


def _permute(rng, model, name):
    faults_weights.permute(name, lambda m: m.heads if ".q_proj" in name else m.kv_heads)(model)


def _transpose(rng, model, name):
    shape = model.tensors[name].shape
    if shape[0] == shape[1]:
        model.tensors[name] = model.tensors[name].t().contiguous()
    elif rng.integers(2):
        model.tensors[name] = model.tensors[name].t().contiguous()
    else:  # the right shape over wrongly laid values
        model.tensors[name] = model.tensors[name].t().contiguous().view(shape)


def _coarse(rng, model, name):
    if model.tensors[name].numel() % 32:
        return False
    model.edit(name, faults_weights.coarse_tensor(str(rng.choice(["q4_0", "q5_1"]))))


CATALOGUE = (
    ("scaled_tensor", _matrix, _scale, True),
    ("zeroed_tensor", _matrix, lambda rng, m, n: m.edit(n, torch.zeros_like), True),
    ("nan_values", lambda m, n: True, lambda rng, m, n: m.edit(n, faults_weights.spoil(int(rng.integers(1, 4)), float("nan"))), False),
    ("corrupt_values", _layer_matrix, _corrupt, False),
    ("transposed", _layer_matrix, _transpose, False),
    ("shifted_rows", lambda m, n: _matrix(m, n) and ".layers." not in n, lambda rng, m, n: m.edit(n, lambda t: torch.roll(t, int(rng.choice([-2, -1, 1, 3])), 0)), True),
    ("rope_permutation", _rope_rows, _permute, True),
    ("swapped_tensors", _layer_matrix, _swap, True),
    ("missing_tensor", lambda m, n: _matrix(m, n) and n != "lm_head.weight", lambda rng, m, n: m.tensors.pop(n) is None, False),
    ("norm_offset", _norm, lambda rng, m, n: m.edit(n, (lambda t: t + 1) if rng.integers(2) else (lambda t: t - 1)), True),
    ("coarse_quantization", _layer_matrix, _coarse, False),
    ("missing_bias", lambda m, n: n.endswith("_proj.bias"), lambda rng, m, n: m.edit(n, torch.zeros_like), True),
)  # fmt: skip
OTHER_NAMES = {"missing_bias": ["zeroed_tensor"], "swapped_tensors": ["layer_order"], "scaled_tensor": [], "transposed": []}


def weights(bench, rng):
    for number in range(WEIGHTS):
        cause, fits, change, any_type = CATALOGUE[number % len(CATALOGUE)]
        base = str(rng.choice([n for n in NAMED_LIKE_LLAMA if models.folder(n)]))
        if cause == "missing_bias":
            base = str(rng.choice(["qwen2", "qwen2-yarn", "qwen2-moe-shared"]))
        identifier, path = f"sweep-weights-{number:03d}-{cause}-{base}", models.folder(base)
        model = models.Model.load(path)
        names = [n for n in model.tensors if fits(model, n)]
        if model.config.get("tie_word_embeddings"):
            names = [n for n in names if n != "lm_head.weight"]
        if not names:
            continue
        name = str(rng.choice(names))
        hit = change(rng, model, name)
        container = str(rng.choice(["folder", "f32", "q8_0", "bf16"])) if any_type else "folder"
        if hit is False or not bench.wants(identifier):
            continue
        b = write(bench, identifier, model, base, container)
        tensor = hit if isinstance(hit, list) else [name]
        bench.add(identifier, "sweep", SOURCE[cause], gguf_side.trusted(bench, identifier, base, path), b,
                  Expect(phase=["weights"], causes=[cause, *OTHER_NAMES.get(cause, [])], tensor=tensor, layer=[layer_of(tensor[0])], stage=[stage_of(base, tensor[0])]))


def write(bench, identifier, model, base, container):
    if container == "folder" or model.config["model_type"] not in gguf_side.ARCHITECTURES or base == "llama-dynamic":
        return model.save(bench.place(identifier, "b"), 1 + len(identifier) % 3)
    return gguf_side.convert(model, container).save(bench.place(identifier, "b.gguf"))


# --- Constants: cause, key, factors to draw from, stage; for models that have the key ---

EPS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
FIRST_NORM = {"olmo2": "q_norm"}


def _theta(rng, config):
    value = float(rng.choice([500.0, 7777.0, 40000.0, 250000.0, 2e6]))
    if "rope_parameters" in config and "rope_theta" in config["rope_parameters"]:
        config["rope_parameters"]["rope_theta"] = value
    elif "rope_theta" in config and "rope_local_base_freq" not in config:
        config["rope_theta"] = value
    else:
        return None
    return "rope_theta"


def _eps(rng, config):
    key = next((k for k in EPS if k in config), None)
    if key:
        config[key] *= float(rng.choice([30, 100, 1000]))
    return key


def _activation(rng, config):
    key = models.activation_key(config)
    if key is None or config["model_type"] in ("gpt_oss",):
        return None
    config[key] = str(rng.choice([a for a in ("silu", "relu", "gelu", "gelu_pytorch_tanh") if a != config[key] and not (config[key] == "gelu_new" and "tanh" in a)]))
    return key


def scaled_key(name, factors):
    def change(rng, config):
        if not config.get(name):
            return None
        config[name] = type(config[name])(config[name] * float(rng.choice(factors)))
        return name

    return change


def _top_k(rng, config):
    if not config.get("num_experts_per_tok") or config["model_type"] in ("deepseek_v2", "deepseek_v3"):
        return None
    config["num_experts_per_tok"] += 1
    return "num_experts_per_tok"


def _window(rng, config):
    if not config.get("sliding_window") or config["model_type"] not in ("mistral", "gemma2", "gemma3_text", "starcoder2", "gpt_oss"):
        return None
    config["sliding_window"] += int(rng.choice([-5, -1, 1, 4]))
    return "sliding_window"


CHANGES = (
    ("rope_theta", _theta, "q_post_rope", 0),
    ("norm_eps", _eps, "attn_norm", 0),
    ("activation", _activation, "ffn_silu", 0),
    ("attention_scale", scaled_key("query_pre_attn_scalar", [0.5, 2, 3]), "attn_scores", 0),
    ("attention_scale", scaled_key("attention_multiplier", [0.5, 1.5, 4]), "attn_scores", 0),
    ("attention_softcap", scaled_key("attn_logit_softcapping", [0.2, 0.5, 2]), "attn_scores", 0),
    ("logit_softcap", scaled_key("final_logit_softcapping", [0.2, 0.5, 2]), "lm_head", None),
    ("embedding_scale", scaled_key("embedding_multiplier", [0.1, 1.05]), "embedding", 0),
    ("residual_scale", scaled_key("residual_multiplier", [0.5, 1.1]), "post_attn_residual", 0),
    ("logit_scale", scaled_key("logits_scaling", [0.5, 1.1]), "lm_head", None),
    ("logit_scale", scaled_key("logit_scale", [0.5, 1.1, 3]), "lm_head", None),
    ("moe_top_k", _top_k, "moe_router", 0),
    ("sliding_window", _window, "attn_softmax", 0),
)  # fmt: skip
ALL = NAMED_LIKE_LLAMA + ("phi3", "phi3-longrope", "gpt2", "gpt-neox", "starcoder2", "gpt-oss", "deepseek-v2", "deepseek-v3")


def draw(rng, number):
    """(base, model with the change, cause, key, stage, layer)."""
    while True:
        cause, change, stage, layer = CHANGES[number % len(CHANGES)]
        base = str(rng.choice([n for n in ALL if models.folder(n)]))
        model = models.Model.load(models.folder(base))
        key = change(rng, model.config)
        if key is not None:
            if cause == "norm_eps":
                stage = FIRST_NORM.get(base, stage)
            if cause == "activation" and hasattr(model, "config") and (model.config.get("num_experts_per_tok")):
                stage, layer = ("ffn_silu", 0) if "deepseek" in base else ("moe_ffn_out", 0)
            return base, model, cause, key, stage, layer


def constants(bench, rng):
    for number in range(CONSTANTS):
        base, model, cause, key, stage, layer = draw(rng, number)
        identifier, path = f"sweep-config-{number:03d}-{cause}-{base}", models.folder(base)
        container = str(rng.choice(["folder", "f32"]))
        if cause in ("activation", "attention_scale") and container != "folder":
            container = "folder"  # GGUF has no key for the one; the other may be the architecture's own
        if not bench.wants(identifier):
            continue
        b = write(bench, identifier, model, base, container)
        stages = [stage, "moe_router_indices"] if cause == "moe_top_k" else [stage]
        bench.add(identifier, "sweep", "ggml-org/llama.cpp#2373", gguf_side.trusted(bench, identifier, base, path), b,
                  Expect(phase=["config"], causes=[cause], key=[key], stage=stages, layer=[layer]))


def faulty_engines(bench, rng):
    for number in range(ENGINES):
        base, model, cause, key, stage, layer = draw(rng, number + 3)
        dtype = str(rng.choice(["f32", "f32", "bf16", "f16"]))
        if cause in ("norm_eps", "activation", "logit_softcap") or base == "gpt-oss":
            dtype = "f32"  # 16 bits hide a small change
        identifier, path = f"sweep-engine-{number:03d}-{cause}-{base}-{dtype}", models.folder(base)
        if not bench.wants(identifier):
            continue
        changed, b = bench.place(identifier, "changed"), bench.place(identifier, "b")
        model.save(changed)
        long = cause == "sliding_window"
        ids = engines.sequence(path, "long" if long else "short", 60 if long else None)
        engines.write(b, engines.run(engines.load(changed, dtype), ids, dtype), path, model.config["model_type"], ids, dtype)
        stages = [stage, "moe_router_indices"] if cause == "moe_top_k" else [stage]
        bench.add(identifier, "sweep", "vllm-project/vllm#19841", path, b, Expect(phase=["ops", "logits"], causes=[cause], stage=stages, layer=[layer]))


def sound_engines(bench, rng):
    """PyTorch as it is, on tokens drawn at random."""
    for number in range(SOUND):
        base, dtype = str(rng.choice([n for n in ALL if models.folder(n)])), str(rng.choice(["f32", "f32", "bf16", "f16"]))
        if base == "gpt-oss":
            dtype = "f32"
        path = models.folder(base)
        config = models.Model.load(path).config
        ids = [int(i) for i in rng.integers(0, config["vocab_size"], int(rng.integers(2, 48)))]
        identifier = f"sweep-healthy-{number:03d}-{base}-{dtype}"
        if not bench.wants(identifier):
            continue
        b = bench.place(identifier, "b")
        engines.write(b, engines.run(engines.load(path, dtype), ids, dtype), path, config["model_type"], ids, dtype)
        bench.add(identifier, "healthy", "vllm-project/vllm#19841", path, b)


def register(bench):
    for make, offset in ((weights, 0), (constants, 1), (faulty_engines, 2), (sound_engines, 3)):
        make(bench, numpy.random.Generator(numpy.random.PCG64(SEED + offset)))
