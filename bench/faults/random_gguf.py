"""Faults of GGUF files drawn at random: values of the metadata, and tensors of quantised files."""

import re

import numpy

import gguf_side
import models
from case import Expect

ROUNDS = 2


def gguf_models(homes):
    return [n for n, p in homes.items() if not n.endswith("-small") and n != "llama-dynamic" and models.Model.load(p).config["model_type"] in gguf_side.ARCHITECTURES]


# cause, end of the key, what becomes of the value, stage, layer
METADATA = (
    ("rope_theta", "rope.freq_base", lambda x: x * 4, ["q_post_rope"], None), ("norm_eps", "layer_norm_rms_epsilon", lambda x: x * 300, ["attn_norm", "q_norm"], 0),
    ("norm_eps", "layer_norm_epsilon", lambda x: x * 300, ["attn_norm"], 0), ("rope_dim", "rope.dimension_count", lambda x: x // 4 * 2, ["q_post_rope"], 0),
    ("rope_scaling", "rope.scaling.factor", lambda x: x * 2, ["q_post_rope"], 0), ("sliding_window", "attention.sliding_window", lambda x: x + 3, ["attn_softmax"], 0),
    ("logit_softcap", "final_logit_softcapping", lambda x: x / 2, ["lm_head"], "none"), ("attention_softcap", "attn_logit_softcapping", lambda x: x / 2, ["attn_scores"], 0),
    ("attention_scale", "attention.scale", lambda x: x * 1.5, ["attn_scores"], 0), ("logit_scale", "logit_scale", lambda x: x * 2, ["lm_head"], "none"),
    ("embedding_scale", "embedding_scale", lambda x: x * 2, ["embedding"], 0), ("residual_scale", "residual_scale", lambda x: x * 2, ["post_attn_residual"], 0),
    ("moe_top_k", "expert_used_count", lambda x: x + 1, [], None), ("moe_norm_topk", "expert_weights_norm", lambda x: not x, ["moe_router"], None),
    ("kv_head_count", "head_count_kv", lambda x: x * 2, ["qkv_matmul"], 0),
)  # fmt: skip
# cause, pattern of the tensor, what becomes of the values
ROWS = (
    ("scaled_tensor", r"blk\.\d+\.(attn_q|attn_output|ffn_down|ffn_up)\.weight", lambda v: v * 1.7), ("zeroed_tensor", r"blk\.\d+\.(attn_v|ffn_up|ffn_down)\.weight", lambda v: v * 0),
    ("norm_offset", r"(blk\.\d+\.(attn|ffn)_norm|output_norm)\.weight", lambda v: v + 1), ("shifted_rows", r"token_embd\.weight", lambda v: numpy.roll(v, 2, 0)),
    ("missing_tensor", r"blk\.\d+\.(attn_output|ffn_down|ffn_up)\.weight", None), ("missing_bias", r"blk\.\d+\.attn_(q|k|v)\.bias", None),
)  # fmt: skip


def metadata(bench, rng, homes):
    fit = gguf_models(homes)
    for number in range(ROUNDS * len(METADATA)):
        cause, key, change, stage, layer = METADATA[number % len(METADATA)]
        for base in rng.permutation(fit):
            file = gguf_side.convert(models.Model.load(homes[base]), str(rng.choice(["f32", "f16", "q8_0"])))
            found = next((k for k in file.meta if k.startswith(file.name + ".") and k.endswith("." + key)), None)
            if found is None or change(file.meta[found]) == file.meta[found] or cause == "rope_dim" and base not in ("stablelm", "gpt-neox", "llama-mha", "qwen2-yarn"):
                continue
            file.meta[found] = change(file.meta[found])
            identifier = f"random-meta-{number:03d}-{cause}-{base}"
            bench.add(identifier, "random", "ggml-org/llama.cpp#2768", homes[base], file.save(bench.place(identifier, "b.gguf")),
                      Expect(phase=["config"], causes=[cause, "kv_head_count"] if "head" in cause else [cause], stage=stage,
                             layer=[None] if layer == "none" else [layer] if layer is not None else []))
            break


def rows(bench, rng, homes, source):
    fit = gguf_models(homes)
    for number in range(ROUNDS * len(ROWS)):
        cause, pattern, change = ROWS[number % len(ROWS)]
        for base in rng.permutation(fit):
            file = gguf_side.convert(models.Model.load(homes[base]), str(rng.choice(["q8_0", "q4_0", "q5_1", "f16"])))
            names = [n for n in file.tensors if re.fullmatch(pattern, n)]
            if not names:
                continue
            name = str(rng.choice(names))
            if change is None:
                del file.tensors[name]
            else:
                file.edit(name, change)
            identifier, layer = f"random-rows-{number:03d}-{cause}-{base}", re.match(r"blk\.(\d+)", name)
            bench.add(identifier, "random", source[cause], homes[base], file.save(bench.place(identifier, "b.gguf")),
                      Expect(phase=["weights"], causes=[cause], layer=[int(layer[1])] if layer else []))
            break
