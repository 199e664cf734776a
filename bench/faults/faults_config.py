"""Pairs whose B has another value of one parameter: in config.json, and in the metadata of a GGUF file."""

import dataclasses

import gguf_side
import models
from case import Expect


@dataclasses.dataclass
class Fault:
    name: str
    base: str
    source: str
    change: object  # of a Model, or of a GgufFile when `gguf`
    causes: list
    stage: list
    layer: list = dataclasses.field(default_factory=lambda: [0])
    key: list = dataclasses.field(default_factory=list)
    gguf: bool = False
    verdict: list = dataclasses.field(default_factory=lambda: ["different"])
    also: list = dataclasses.field(default_factory=list)
    phase: list = dataclasses.field(default_factory=lambda: ["config"])
    tensor: list = dataclasses.field(default_factory=list)


def set_key(**values):
    return lambda model: model.config.update(values)


def drop_key(*names):
    return lambda model: [model.config.pop(name, None) for name in names]


def rope(**values):
    return lambda model: model.set_rope(**values)


def rope_of(kind, **values):
    """Changes the rope of one layer type, in either style."""
    return lambda model: model.config["rope_parameters"][kind].update(values)


def meta(**values):
    """Changes GGUF keys behind the architecture's prefix, `__` for the dot; None removes one."""

    def change(file):
        for name, value in values.items():
            key = file.key(name.replace("__", "."))
            if value is None:
                file.meta.pop(key)
            else:
                file.meta[key] = value

    return change


def drop_tensor(name):
    return lambda file: file.tensors.pop(name)


def both(*changes):
    return lambda target: [change(target) for change in changes]


ROTATED = ["q_post_rope"]
LLAMA = "ggml-org/llama.cpp"
HF = "huggingface/transformers"

ROPE = [
    Fault("theta-default-lost", "qwen2", f"{LLAMA}#2768", rope(rope_theta=10000.0), ["rope_theta"], ROTATED, key=["rope_theta"]),
    Fault("theta-off-by-little", "llama-mha", "ml-explore/mlx-lm#1023", rope(rope_theta=10500.0), ["rope_theta"], ROTATED, key=["rope_theta"]),
    Fault("theta-large", "olmo2", f"{LLAMA}#2768", rope(rope_theta=1e6), ["rope_theta"], ROTATED, key=["rope_theta"]),
    Fault("theta-local", "gemma3", f"{LLAMA}#2773", set_key(rope_local_base_freq=1000000.0), ["rope_theta"], ROTATED,
          key=["rope_local_base_freq", "rope_theta"]),
    Fault("theta-global-only", "gemma3", "ollama/ollama#2379", set_key(rope_theta=10000.0), ["rope_theta"], ROTATED, layer=[5], key=["rope_theta"]),
    Fault("theta-gguf-lost", "qwen2", f"{LLAMA}#2768", meta(rope__freq_base=None), ["rope_theta"], ROTATED, key=["rope_theta"], gguf=True),
    Fault("theta-gguf-wrong", "starcoder2", f"{LLAMA}#2768", meta(rope__freq_base=10000.0), ["rope_theta"], ROTATED, key=["rope_theta"], gguf=True),
    Fault("theta-neox", "gpt-neox", "ollama/ollama#2379", rope(rope_theta=25000.0), ["rope_theta"], ROTATED, key=["rope_theta"]),
    Fault("theta-deepseek", "deepseek-v2", "ollama/ollama#2379", rope(rope_theta=50000.0), ["rope_theta"], ROTATED, key=["rope_theta"]),
    Fault("scaling-lost", "llama3-scaled-tied", f"{LLAMA}#8650", rope(rope_type=None), ["rope_scaling"], ROTATED,
          key=["rope_scaling", "rope_parameters", "rope_type", "factor"]),
    Fault("scaling-factors-absent", "llama3-scaled-tied", f"{LLAMA}#8676", drop_tensor("rope_freqs.weight"), ["rope_scaling"], ROTATED,
          gguf=True, phase=["config", "weights"]),
    Fault("scaling-factor", "llama-linear", "ikawrakow/ik_llama.cpp#2291", rope(factor=2.0), ["rope_scaling"], ROTATED, key=["factor", "rope_scaling"]),
    Fault("scaling-gguf-lost", "llama-linear", f"{LLAMA}#8650", meta(rope__scaling__type=None, rope__scaling__factor=None),
          ["rope_scaling"], ROTATED, gguf=True),
    Fault("scaling-yarn-magnitude", "qwen2-yarn", f"{LLAMA}#17945", rope(attention_factor=1.0), ["rope_scaling"], ROTATED,
          key=["attention_factor", "rope_scaling"]),
    Fault("scaling-yarn-twice", "qwen2-yarn", f"{LLAMA}#18006", meta(rope__scaling__attn_factor=1.1386294361119891), ["rope_scaling"], ROTATED, gguf=True),
    Fault("scaling-yarn-beta", "qwen2-yarn", "vllm-project/vllm#48623", rope(beta_fast=2.0), ["rope_scaling"], ROTATED, key=["beta_fast", "rope_scaling"]),
    Fault("scaling-yarn-as-linear", "qwen2-yarn", f"{LLAMA}#17980", rope(rope_type="linear"), ["rope_scaling"], ROTATED),
    Fault("scaling-longrope-long-only", "phi3-longrope", f"{LLAMA}#24823",
          lambda m: m.config["rope_scaling"].update(long_factor=[2.0] * 12), ["rope_scaling"], ROTATED, key=["long_factor", "rope_scaling"]),
    Fault("scaling-longrope-swapped", "phi3-longrope", f"{LLAMA}#24875",
          lambda m: m.config["rope_scaling"].update(long_factor=m.config["rope_scaling"]["short_factor"], short_factor=m.config["rope_scaling"]["long_factor"]),
          ["rope_scaling"], ROTATED),
    Fault("scaling-dynamic-beyond-context", "llama-dynamic", f"{LLAMA}#24823", rope(factor=2.0), ["rope_scaling"], ROTATED, key=["factor", "rope_scaling"]),
    Fault("style-interleave", "deepseek-v3", "nurl-lang/nurl#584", set_key(rope_interleave=False), ["rope_style"], ROTATED),
    Fault("dim-all", "gpt-neox", f"{LLAMA}#12957", rope(partial_rotary_factor=1.0), ["rope_dim"], ROTATED),
    Fault("dim-half", "stablelm", f"{LLAMA}#12957",
          lambda m: m.config.update(partial_rotary_factor=0.5) if "rope_parameters" not in m.config else m.set_rope(partial_rotary_factor=0.5), ["rope_dim"], ROTATED),
    Fault("dim-gguf", "stablelm", f"{LLAMA}#12957", lambda f: f.meta.update({f.key("rope.dimension_count"): f.meta[f.key("rope.dimension_count")] * 2}),
          ["rope_dim"], ROTATED, gguf=True),
    Fault("layers-all-rotate", "smollm3-nope", f"{HF}#35691", lambda m: m.config.update(no_rope_layers=[1] * m.layers), ["rope_layers"], ROTATED,
          layer=[3, 1], key=["no_rope_layers"]),
    Fault("layers-one-more-without", "smollm3-nope", f"{HF}#35691",
          lambda m: m.config.update(no_rope_layers=[1, 0] + list(m.config.get("no_rope_layers", [1, 1, 1, 0]))[2:]), ["rope_layers"], ROTATED,
          layer=[1], key=["no_rope_layers"]),
]  # fmt: skip

SCORES = ["attn_scores"]
MASKED = ["attn_softmax"]
ATTENTION = [
    Fault("scale-query-scalar", "gemma2", "TransformerLensOrg/TransformerLens#27", set_key(query_pre_attn_scalar=64), ["attention_scale"], SCORES,
          key=["query_pre_attn_scalar"]),
    Fault("scale-multiplier", "granite", "OpenNMT/CTranslate2#1882", set_key(attention_multiplier=0.2), ["attention_scale"], SCORES,
          key=["attention_multiplier"]),
    Fault("scale-by-layer", "gpt2", "TransformerLensOrg/TransformerLens#27",
          lambda m: m.config.update(scale_attn_by_inverse_layer_idx=not m.config["scale_attn_by_inverse_layer_idx"]), ["attention_scale"], SCORES, layer=[1]),
    Fault("scale-none", "gpt2", "OpenNMT/CTranslate2#1882", set_key(scale_attn_weights=False), ["attention_scale"], SCORES),
    Fault("scale-gguf-lost", "granite", "OpenNMT/CTranslate2#1882", meta(attention__scale=None), ["attention_scale"], SCORES, gguf=True,
          key=["attention_multiplier"]),
    Fault("softcap-lost", "gemma2", f"{LLAMA}#8183", set_key(attn_logit_softcapping=None), ["attention_softcap"], SCORES, key=["attn_logit_softcapping"]),
    Fault("softcap-changed", "gemma2", "vllm-project/vllm#5908", set_key(attn_logit_softcapping=30.0), ["attention_softcap"], SCORES,
          key=["attn_logit_softcapping"]),
    Fault("softcap-gguf-lost", "gemma2", f"{LLAMA}#8227", meta(attn_logit_softcapping=None), ["attention_softcap"], SCORES, gguf=True,
          key=["attn_logit_softcapping"]),
    Fault("window-off-by-one", "mistral-window", "sgl-project/sglang#4823", lambda m: m.config.update(sliding_window=m.config["sliding_window"] + 1),
          ["sliding_window"], MASKED, key=["sliding_window"]),
    Fault("window-lost", "mistral-window", "EricLBuehler/mistral.rs#2094", set_key(sliding_window=None), ["sliding_window"], MASKED, key=["sliding_window"]),
    Fault("window-gguf-lost", "starcoder2", f"{HF}#35691", meta(attention__sliding_window=None), ["sliding_window"], MASKED, gguf=True, key=["sliding_window"]),
    Fault("window-wrong-layers", "gemma2", "ml-explore/mlx-lm#58",
          lambda m: m.config.update(layer_types=["full_attention" if t[0] == "s" else "sliding_attention" for t in m.config["layer_types"]]),
          ["sliding_window"], MASKED, key=["layer_types", "sliding_window"]),
    Fault("window-one-layer", "gemma3", f"{HF}#35691", lambda m: m.config["layer_types"].__setitem__(3, "full_attention"),
          ["sliding_window", "rope_layers", "rope_theta"], ["attn_softmax", "q_post_rope"], layer=[3], key=["layer_types", "sliding_window"]),
    Fault("window-gptoss", "gpt-oss", "sgl-project/sglang#4823", lambda m: m.config.update(sliding_window=m.config["sliding_window"] * 2),
          ["sliding_window"], MASKED, key=["sliding_window"]),
    Fault("window-halved-gguf", "gemma3", "ml-explore/mlx-lm#58", meta(attention__sliding_window=8), ["sliding_window"], MASKED, gguf=True,
          key=["sliding_window"]),
]  # fmt: skip

OTHER = [
    Fault("eps-llama2", "llama-mha", f"{LLAMA}#2373", lambda m: m.config.update(rms_norm_eps=1e-6 if m.config["rms_norm_eps"] > 5e-6 else 1e-5),
          ["norm_eps"], ["attn_norm"], key=["rms_norm_eps"]),
    Fault("eps-gguf", "qwen3", f"{LLAMA}#2374", meta(attention__layer_norm_rms_epsilon=1e-5), ["norm_eps"], ["attn_norm"], gguf=True, key=["rms_norm_eps"]),
    Fault("eps-layer-norm", "gpt-neox", f"{LLAMA}#2384", set_key(layer_norm_eps=1e-3), ["norm_eps"], ["attn_norm"], key=["layer_norm_eps"]),
    Fault("eps-post-norm", "olmo2", f"{LLAMA}#2373", set_key(rms_norm_eps=1e-3), ["norm_eps"], ["q_norm"], key=["rms_norm_eps"]),
    Fault("activation-exact-gelu", "starcoder2", "google/gemma_pytorch#34", set_key(hidden_act="gelu"), ["activation"], ["ffn_silu"], key=["hidden_act"]),
    Fault("activation-gemma", "gemma", "google/gemma_pytorch#34", both(set_key(hidden_activation="silu", hidden_act="silu")), ["activation"], ["ffn_silu"],
          key=["hidden_activation", "hidden_act"]),
    Fault("activation-gpt2", "gpt2", f"{LLAMA}#5631", set_key(activation_function="relu"), ["activation"], ["ffn_silu"], key=["activation_function"]),
    Fault("logit-softcap-lost", "gemma2", "vllm-project/vllm#7419", set_key(final_logit_softcapping=None), ["logit_softcap"], ["lm_head"], layer=[None],
          key=["final_logit_softcapping"]),
    Fault("logit-softcap-gguf", "gemma2", f"{LLAMA}#8227", meta(final_logit_softcapping=50.0), ["logit_softcap"], ["lm_head"], layer=[None], gguf=True,
          key=["final_logit_softcapping"]),
    Fault("embedding-scale", "granite", "OpenNMT/CTranslate2#1882", set_key(embedding_multiplier=1.0), ["embedding_scale"], ["embedding"],
          key=["embedding_multiplier"]),
    Fault("embedding-scale-gguf", "granite", "OpenNMT/CTranslate2#1882", meta(embedding_scale=11.0), ["embedding_scale"], ["embedding"], gguf=True,
          key=["embedding_multiplier"]),
    Fault("residual-scale", "granite", "OpenNMT/CTranslate2#1882", set_key(residual_multiplier=1.0), ["residual_scale"], ["post_attn_residual"],
          key=["residual_multiplier"]),
    Fault("logit-scale", "granite", "OpenNMT/CTranslate2#1882", set_key(logits_scaling=1.0), ["logit_scale"], ["lm_head"], layer=[None], key=["logits_scaling"]),
    Fault("logit-scale-cohere", "cohere", "OpenNMT/CTranslate2#1882", set_key(logit_scale=1.0), ["logit_scale"], ["lm_head"], layer=[None], key=["logit_scale"]),
    Fault("logit-scale-gguf", "cohere", "OpenNMT/CTranslate2#1882", meta(logit_scale=None), ["logit_scale"], ["lm_head"], layer=[None], gguf=True,
          key=["logit_scale"]),
    Fault("top-k", "mixtral", "mlxcel/mlxcel#391", lambda m: m.config.update(num_experts_per_tok=m.config["num_experts_per_tok"] - 1), ["moe_top_k"],
          ["moe_router", "moe_router_indices"], key=["num_experts_per_tok"]),
    Fault("top-k-gguf", "olmoe", "mlxcel/mlxcel#391", meta(expert_used_count=2), ["moe_top_k"], ["moe_router", "moe_router_indices"], gguf=True,
          key=["num_experts_per_tok"]),
    Fault("norm-topk-off", "qwen3-moe", "sgl-project/sglang#35160", set_key(norm_topk_prob=False), ["moe_norm_topk"], ["moe_router"], key=["norm_topk_prob"]),
    Fault("norm-topk-on", "olmoe", "sgl-project/sglang#35160", set_key(norm_topk_prob=True), ["moe_norm_topk"], ["moe_router"], key=["norm_topk_prob"]),
    Fault("norm-topk-gguf-assumed", "qwen3-moe-nonorm", "pytorch/torchtitan#1448", meta(expert_weights_norm=True), ["moe_norm_topk"], ["moe_router"],
          gguf=True, key=["norm_topk_prob"]),
    Fault("tie-against-tensors", "llama-mha", f"{HF}#45156", set_key(tie_word_embeddings=True), ["tie_word_embeddings"], ["lm_head"], layer=[None],
          key=["tie_word_embeddings"]),
    Fault("tie-flag-phi3", "phi3", f"{HF}#45156", set_key(tie_word_embeddings=True), ["tie_word_embeddings"], ["lm_head"], layer=[None],
          key=["tie_word_embeddings"]),
    Fault("head-count", "qwen3", f"{LLAMA}#3364", set_key(num_attention_heads=2), ["head_count"], ["qkv_matmul"], key=["num_attention_heads"]),
    Fault("head-count-fitting", "llama-mha", f"{LLAMA}#3364",
          lambda m: m.config.update(num_attention_heads=m.heads * 2, num_key_value_heads=m.kv_heads * 2, head_dim=m.head_dim // 2),
          ["head_count", "head_dim", "kv_head_count"], ["q_post_rope", "q_norm"], key=["num_attention_heads", "head_dim", "num_key_value_heads"]),
    Fault("kv-head-count", "qwen3-moe", f"{LLAMA}#3364", set_key(num_key_value_heads=1), ["kv_head_count"], ["qkv_matmul"], key=["num_key_value_heads"]),
    Fault("kv-head-count-gguf", "mistral-window", f"{LLAMA}#3364", meta(attention__head_count_kv=4), ["kv_head_count"], ["qkv_matmul"], gguf=True,
          key=["num_key_value_heads"]),
    Fault("head-dim", "gemma2", f"{LLAMA}#3364", set_key(head_dim=16), ["head_dim"], ["qkv_matmul"], key=["head_dim"]),
    Fault("parallel-as-serial", "gpt-neox", "EleutherAI/gpt-neox#1073", lambda m: m.config.update(use_parallel_residual=not m.config["use_parallel_residual"]),
          ["parallel_residual"], ["ffn_norm", "post_attn_residual", "post_ffn_residual"], key=["use_parallel_residual"]),
    Fault("parallel-gguf", "gpt-neox", "EleutherAI/gpt-neox#1073", lambda f: f.meta.update({f.key("use_parallel_residual"): not f.meta[f.key("use_parallel_residual")]}),
          ["parallel_residual"], ["ffn_norm", "post_attn_residual", "post_ffn_residual"], gguf=True, key=["use_parallel_residual"]),
]  # fmt: skip

NOTHING = ["same", "rounding"]
# Two faults at once, and settings that change nothing.
SPECIAL = [
    Fault("two-theta-and-eps", "qwen2", f"{LLAMA}#2768, #2373", both(rope(rope_theta=10000.0), set_key(rms_norm_eps=1e-4)), ["norm_eps"], ["attn_norm"],
          key=["rms_norm_eps"], also=[{"causes": ["rope_theta"]}]),
    Fault("two-window-and-softcap", "gemma2", f"{LLAMA}#8183, sgl-project/sglang#4823", set_key(attn_logit_softcapping=7.0, final_logit_softcapping=None),
          ["attention_softcap"], SCORES, key=["attn_logit_softcapping"], also=[{"causes": ["logit_softcap"]}]),
    Fault("two-scales", "granite", "OpenNMT/CTranslate2#1882", set_key(embedding_multiplier=1.0, residual_multiplier=1.0), ["embedding_scale"], ["embedding"],
          key=["embedding_multiplier"], also=[{"causes": ["residual_scale"]}]),
    Fault("none-window-of-nobody", "qwen2", "ml-explore/mlx-lm#58", set_key(sliding_window=8, max_window_layers=3), [], [], layer=[], verdict=NOTHING,
          phase=[], also=[]),
    Fault("none-theta-is-default", "mixtral", f"{LLAMA}#2773", drop_key("rope_theta"), [], [], layer=[], verdict=NOTHING, phase=[]),
    Fault("none-positions", "llama-mha", f"{LLAMA}#24823", set_key(max_position_embeddings=2048), [], [], layer=[], verdict=NOTHING, phase=[],
          also=[{"causes": [], "effect": "none"}]),
    Fault("none-kv-heads-unused", "gpt-neox", f"{LLAMA}#3364", set_key(num_key_value_heads=1), [], [], layer=[], verdict=NOTHING, phase=[]),
    Fault("none-huge-window", "mistral-window", "sgl-project/sglang#4823", set_key(sliding_window=100000000), ["sliding_window"], MASKED,
          key=["sliding_window"]),
]  # fmt: skip


def register(bench):
    for group, faults in (("rope", ROPE), ("attention", ATTENTION), ("other", OTHER), ("special", SPECIAL)):
        for fault in faults:
            identifier = f"config-{group}-{fault.name}"
            path = models.folder(fault.base)
            if path is None or not bench.wants(identifier):
                continue
            b = bench.place(identifier, "b.gguf" if fault.gguf else "b")
            model = models.Model.load(path)
            if fault.gguf:
                file = gguf_side.convert(model)
                fault.change(file)
                file.save(b)
            else:
                fault.change(model)
                model.save(b)
            expect = Expect(phase=fault.phase, layer=fault.layer, stage=fault.stage, tensor=fault.tensor, key=fault.key, causes=fault.causes,
                            verdict=fault.verdict, also=fault.also)
            bench.add(identifier, "config", fault.source, gguf_side.trusted(bench, identifier, fault.base, path), b, expect)
