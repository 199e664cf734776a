"""Pairs whose B is what a faulty engine computed from A's own file: stage directories."""

import dataclasses
import subprocess

import torch

import engines
import models
from case import Expect
from engines import attention, function, input_of, output_of

LLAMA = "ggml-org/llama.cpp"
HF = "huggingface/transformers"


@dataclasses.dataclass
class Fault:
    name: str
    base: str
    source: str
    causes: list
    stage: list
    layer: list = dataclasses.field(default_factory=lambda: [0])
    change: object = None  # of the configuration
    inside: tuple = ()
    around: tuple = ()
    ids: tuple = ("short", None)
    dtype: str = "f32"
    precision: dict | None = None
    phase: list = dataclasses.field(default_factory=lambda: ["ops"])
    first_position: int = 0
    after: object = None  # changes the stages that were recorded
    also: list = dataclasses.field(default_factory=list)


def constants(**values):
    return lambda config: [setattr(config, key, value) for key, value in values.items()]


def rope(**values):
    return lambda config: config.rope_parameters.update(values)


def chosen(other_rope):
    """rope of another kind altogether."""

    def change(config):
        config.rope_parameters = other_rope | {"rope_theta": config.rope_parameters["rope_theta"]}

    return change


def keep(tensor, rows):
    """The last `rows` positions of [1, H, T, D] as the cache held them before: zeros."""
    tensor[:, :, -rows:] = 0
    return tensor


def shifted_cache(key, value):
    """Every position holds its predecessor's entry."""
    return key.roll(1, dims=2), value.roll(1, dims=2)


def old_prefix(key, value):
    """The first four positions hold what another prompt left there."""
    other = torch.randn(key.shape, generator=torch.Generator().manual_seed(3))
    key[:, :, :4], value[:, :, :4] = other[:, :, :4], other[:, :, :4] * 0.5
    return key, value


ROTATED, SCORES, MASKED = ["q_post_rope"], ["attn_scores"], ["attn_softmax"]
HEAD = dict(phase=["logits", "ops"], layer=[None], stage=["lm_head"])
LONG = ("long", 90)
FAULTS = [
    Fault("theta", "qwen2", f"{LLAMA}#2768", ["rope_theta"], ROTATED, change=rope(rope_theta=10000.0)),
    Fault("theta-bf16-engine", "llama-mha", "ml-explore/mlx-lm#1023", ["rope_theta"], ROTATED, change=rope(rope_theta=500000.0), dtype="bf16"),
    Fault("theta-unusual", "olmo2", f"{LLAMA}#2773", ["rope_theta"], ROTATED, change=rope(rope_theta=123456.0)),
    Fault("theta-local", "gemma3", f"{LLAMA}#2773", ["rope_theta"], ROTATED,
          change=lambda c: c.rope_parameters["sliding_attention"].update(rope_theta=1000000.0)),
    Fault("scaling-unused", "llama3-scaled-tied", "ikawrakow/ik_llama.cpp#2291", ["rope_scaling"], ROTATED, change=chosen({"rope_type": "default"})),
    Fault("scaling-factor", "llama-linear", f"{LLAMA}#8650", ["rope_scaling"], ROTATED, change=rope(factor=3.0)),
    Fault("scaling-yarn-magnitude", "qwen2-yarn", f"{LLAMA}#17945", ["rope_scaling"], ROTATED, inside=(function("apply_rotary_pos_emb",
          engines.scaled_rotation(1.1386294)),)),
    Fault("scaling-longrope-short-always", "phi3-longrope", f"{LLAMA}#24823", ["rope_scaling"], ROTATED, ids=LONG,
          change=lambda c: c.rope_parameters.update(long_factor=c.rope_parameters["short_factor"])),
    Fault("style-adjacent", "llama-mha", "nurl-lang/nurl#584", ["rope_style"], ROTATED, inside=(function("apply_rotary_pos_emb", engines.adjacent),)),
    Fault("style-adjacent-bf16", "qwen3", "nurl-lang/nurl#584", ["rope_style"], ROTATED, inside=(function("apply_rotary_pos_emb", engines.adjacent),),
          dtype="bf16"),
    Fault("dim", "stablelm", f"{LLAMA}#12957", ["rope_dim"], ROTATED, change=rope(partial_rotary_factor=0.5)),
    Fault("layers", "smollm3-nope", f"{HF}#35691", ["rope_layers"], ROTATED, layer=[3, 1], change=lambda c: setattr(c, "no_rope_layers", [1] * c.num_hidden_layers)),
    Fault("no-rotation", "mistral-window", "nurl-lang/nurl#584", ["rope_layers", "rope_dim", "rope_theta", "position_offset"], ROTATED,
          inside=(function("apply_rotary_pos_emb", engines.no_rotation),)),
    Fault("position-offset", "llama-mha", f"{HF}#18478", ["position_offset"], ROTATED, inside=(engines.shifted_positions(1),)),
    Fault("position-offset-large", "gemma2", "unslothai/unsloth#4078", ["position_offset"], ROTATED, inside=(engines.shifted_positions(17),)),
    Fault("position-offset-learned", "gpt2", f"{HF}#18478", ["position_offset"], ["embedding"], first_position=1),
    Fault("eps", "llama-mha", f"{LLAMA}#2373", ["norm_eps"], ["attn_norm"], change=lambda c: setattr(c, "rms_norm_eps", 1e-6 if c.rms_norm_eps > 5e-6 else 1e-5)),
    Fault("eps-large", "gpt-neox", f"{LLAMA}#2384", ["norm_eps"], ["attn_norm"], change=constants(layer_norm_eps=1e-3)),
    Fault("activation-exact", "gemma2", "google/gemma_pytorch#34", ["activation"], ["ffn_silu"], change=constants(hidden_activation="gelu")),
    Fault("activation-relu", "phi3", f"{LLAMA}#5631", ["activation"], ["ffn_silu"], change=constants(hidden_act="relu")),
    Fault("attention-scale", "gemma2", "TransformerLensOrg/TransformerLens#27", ["attention_scale"], SCORES, change=constants(query_pre_attn_scalar=32)),
    Fault("attention-scale-missing", "granite", "OpenNMT/CTranslate2#1882", ["attention_scale"], SCORES, change=constants(attention_multiplier=1.0)),
    Fault("attention-scale-bf16", "qwen3", "TransformerLensOrg/TransformerLens#27", ["attention_scale"], SCORES, dtype="bf16",
          inside=(attention(lambda f: lambda m, q, k, v, mask, *a, **kw: f(m, q, k, v, mask, *a, **kw | {"scaling": kw["scaling"] * 1.1})),)),
    Fault("softcap-missing", "gemma2", f"{LLAMA}#8183", ["attention_softcap"], SCORES, change=constants(attn_logit_softcapping=None)),
    Fault("softcap-value", "gemma2", "vllm-project/vllm#7419", ["attention_softcap"], SCORES, change=constants(attn_logit_softcapping=12.5)),
    Fault("logit-softcap", "gemma2", "vllm-project/vllm#5908", ["logit_softcap"], change=constants(final_logit_softcapping=None), **HEAD),
    Fault("logit-scale", "cohere", "OpenNMT/CTranslate2#1882", ["logit_scale"], change=constants(logit_scale=1.0), **HEAD),
    Fault("logit-scale-granite", "granite", "OpenNMT/CTranslate2#1882", ["logit_scale"], change=constants(logits_scaling=4.0), **HEAD),
    Fault("head-tied", "llama-mha", "ml-explore/mlx-examples#967", ["tie_word_embeddings"],
          inside=(lambda m: engines.replaced(m.lm_head, "weight", m.model.embed_tokens.weight),), **HEAD),
    Fault("window-missing", "mistral-window", "EricLBuehler/mistral.rs#2094", ["sliding_window"], MASKED, change=constants(sliding_window=None)),
    Fault("window-boundary", "starcoder2", f"{HF}#35691", ["sliding_window"], MASKED, ids=LONG, change=constants(sliding_window=25)),
    Fault("window-layers", "gemma3", "ml-explore/mlx-lm#58", ["sliding_window"], MASKED, layer=[5],
          inside=(engines.with_mask(lambda mask, q, m: mask if m.layer_idx != 5 else mask + torch.full_like(mask, -1e30).tril(-16)),)),
    Fault("embedding-scale", "gemma", f"{LLAMA}#5631", ["embedding_scale"], ["embedding"], inside=(output_of("model.embed_tokens", lambda x: x / 96**0.5),)),
    Fault("embedding-scale-granite", "granite", "OpenNMT/CTranslate2#1882", ["embedding_scale"], ["embedding"], change=constants(embedding_multiplier=1.0)),
    Fault("residual-scale", "granite", "OpenNMT/CTranslate2#1882", ["residual_scale"], ["post_attn_residual"], change=constants(residual_multiplier=1.0)),
    Fault("top-k", "mixtral", "mlxcel/mlxcel#391", ["moe_top_k"], ["moe_router", "moe_router_indices"], change=constants(num_experts_per_tok=1)),
    Fault("top-k-more", "qwen3-moe", "mlxcel/mlxcel#391", ["moe_top_k"], ["moe_router", "moe_router_indices"],
          change=lambda c: setattr(c, "num_experts_per_tok", c.num_experts_per_tok + 1)),
    Fault("norm-topk", "qwen3-moe", "sgl-project/sglang#35160", ["moe_norm_topk"], ["moe_router"], change=constants(norm_topk_prob=False)),
    Fault("norm-topk-on", "olmoe", "sgl-project/sglang#35160", ["moe_norm_topk", "moe_router_order"], ["moe_router"], change=constants(norm_topk_prob=True)),
    Fault("router-order", "gpt-oss", "mlxcel/mlxcel#391", ["moe_router_order"], ["moe_router"], inside=(engines.router(engines.softmax_before),)),
    Fault("router-order-after", "qwen2-moe-shared", "mlxcel/mlxcel#391", ["moe_router_order", "moe_norm_topk"], ["moe_router"],
          inside=(engines.router(engines.softmax_after),)),
    Fault("router-raw-logits", "mixtral", "pytorch/torchtitan#1448", ["moe_router_weights"], ["moe_router"], inside=(engines.router(engines.raw_logits),)),
    Fault("router-raw-logits-olmoe", "olmoe", "pytorch/torchtitan#1448", ["moe_router_weights"], ["moe_router"], inside=(engines.router(engines.raw_logits),)),
    Fault("parallel", "gpt-neox", "EleutherAI/gpt-neox#1073", ["parallel_residual"], ["ffn_norm", "post_attn_residual", "post_ffn_residual"],
          change=lambda c: setattr(c, "use_parallel_residual", not c.use_parallel_residual)),
    Fault("bias-q", "qwen2", f"{LLAMA}#4283", ["missing_bias"], ["qkv_bias"], inside=(engines.without_bias("q_proj"),)),
    Fault("bias-all", "qwen2-moe-shared", "mlc-ai/mlc-llm#3494", ["missing_bias"], ["qkv_bias"], inside=(engines.without_bias(("q_proj", "k_proj", "v_proj")),)),
    Fault("bias-o", "gpt-oss", "sbryngelson/ANEForge#253", ["missing_bias"], ["attn_out"], inside=(engines.without_bias("o_proj"),)),
    Fault("bias-ffn", "starcoder2", f"{LLAMA}#3133", ["missing_bias"], ["ffn_up"], inside=(engines.without_bias("c_fc"),)),
    Fault("bias-down-one-layer", "gpt2", f"{LLAMA}#3133", ["missing_bias"], ["ffn_out"], layer=[1], inside=(engines.without_bias("h.1.mlp.c_proj"),)),
    Fault("norm-offset", "gemma", f"{LLAMA}#5631", ["norm_offset"], ["attn_norm"], inside=(engines.shifted_norms(("layernorm", "model.norm"), -1),)),
    Fault("norm-offset-final", "gemma3", "kekzl/imp#1287", ["norm_offset"], ["final_norm"], layer=[None], inside=(engines.shifted_norms("model.norm", -1),)),
    Fault("norm-offset-llama", "mistral-window", "utensils/mold#1078", ["norm_offset"], ["ffn_norm"], inside=(engines.shifted_norms("post_attention_layernorm", 1),)),
    Fault("norm-missing-final", "llama-linear", "paiml/aprender#2535", ["missing_norm"], ["final_norm"], layer=[None], inside=(engines.without_norm(["model.norm"]),)),
    Fault("norm-missing-ffn", "qwen2", "paiml/aprender#2535", ["missing_norm"], ["ffn_norm"], layer=[2],
          inside=(engines.without_norm(["model.layers.2.post_attention_layernorm"]),)),
    Fault("qk-norm-missing", "qwen3", "paiml/aprender#2535", ["missing_norm"], ["q_norm", "q_post_rope"],
          inside=(engines.without_norm([f"model.layers.{i}.self_attn.{n}_norm" for i in range(3) for n in "qk"]),),
          after=lambda found: [found.pop(name) for name in list(found) if name.endswith(("q_norm", "k_norm"))]),
    Fault("kv-mapping", "llama3-scaled-tied", f"{LLAMA}#3364", ["kv_head_mapping"], SCORES, inside=(function("repeat_kv", engines.tiled_heads),)),
    Fault("kv-mapping-qwen", "qwen3", f"{LLAMA}#22611", ["kv_head_mapping"], SCORES, inside=(function("repeat_kv", engines.tiled_heads),)),
    Fault("no-causal-mask", "llama-mha", f"{HF}#18478", ["causal_mask"], MASKED, inside=(engines.with_mask(engines.no_mask),)),
    Fault("loose-causal-mask", "qwen2", f"{HF}#18478", ["causal_mask"], MASKED, inside=(engines.with_mask(engines.loose_mask),)),
    Fault("strict-causal-mask", "granite", "nnsight/nnsight#673", ["causal_mask"], MASKED, inside=(engines.with_mask(engines.strict_from(1)),)),
    Fault("stale-prefix", "llama-mha", f"{LLAMA}#14939", ["stale_cache"], ["k_post_rope", "attn_scores"], around=(engines.stale(old_prefix),)),
    Fault("stale-shifted", "qwen2", "ml-explore/mlx-lm#1189", ["stale_cache"], ["k_post_rope", "attn_scores"], around=(engines.stale(shifted_cache),)),
    Fault("stale-unwritten", "gemma2", "huggingface/text-generation-inference#2711", ["stale_cache"], ["k_post_rope", "attn_scores"],
          around=(engines.stale(lambda k, v: (keep(k, 3), keep(v, 3))),)),
    Fault("bf16-angles", "llama-mha", f"{HF}#29285", ["reduced_precision"], ROTATED, ids=LONG, inside=(engines.narrow_angles(torch.bfloat16),)),
    Fault("bf16-angles-short", "qwen3", "KellerJordan/modded-nanogpt#39", ["reduced_precision"], ROTATED, inside=(engines.narrow_angles(torch.bfloat16),)),
    Fault("f16-scores", "qwen2-yarn", f"{LLAMA}#13137", ["reduced_precision"], SCORES, inside=(engines.scores_in(torch.float16),)),
    Fault("int8-activations", "llama-mha", f"{LLAMA}#4755", ["reduced_precision"], ["qkv_matmul"], inside=(input_of(torch.nn.Linear, engines.int8_blocks),)),
    Fault("bf16-products", "olmo2", "paiml/aprender#2971", ["reduced_precision"], ["qkv_matmul"],
          inside=(input_of(torch.nn.Linear, engines.narrow_inputs(torch.bfloat16)),)),
    Fault("bf16-declared-f32", "mistral-window", "paiml/aprender#2971", ["reduced_precision"], [], layer=[0], dtype="bf16",
          precision={"weights": "f32", "activations": "f32", "accumulate": "f32"}),
    Fault("f16-declared-f32", "stablelm", "paiml/aprender#2971", ["reduced_precision"], [], layer=[0], dtype="f16",
          precision={"weights": "f32", "activations": "f32", "accumulate": "f32"}),
    Fault("two-theta-and-bias", "qwen2", f"{LLAMA}#2768, #4283", ["missing_bias"], ["qkv_bias"], change=rope(rope_theta=10000.0),
          inside=(engines.without_bias("v_proj"),), also=[{"causes": ["rope_theta"]}]),
    Fault("two-softcaps", "gemma2", f"{LLAMA}#8183", ["attention_softcap"], SCORES, change=constants(attn_logit_softcapping=None, final_logit_softcapping=None),
          also=[{"causes": ["logit_softcap"]}]),
    Fault("two-mask-and-offset", "gemma3", f"kekzl/imp#1287, {HF}#18478", ["causal_mask"], MASKED, inside=(engines.with_mask(engines.no_mask),
          engines.shifted_norms("model.norm", -1)), also=[{"causes": ["norm_offset"]}]),
]  # fmt: skip


def capture(fault, path, out):
    ids = engines.sequence(path, *fault.ids)
    model = engines.load(path, fault.dtype, fault.change)
    positions = [fault.first_position + i for i in range(len(ids))] if fault.first_position else None
    found = engines.run(model, ids, fault.dtype, fault.inside, fault.around, positions)
    if fault.after:
        fault.after(found)
    engines.write(out, found, path, model.config.model_type, ids, fault.dtype, fault.precision)


def overflow_pairs(bench):
    """Large key biases, as Qwen2 has them: q·k passes 65,504 before the scale, and f16 scores are infinite."""
    identifier = "engine-overflow-f16-scores"
    path = models.folder("qwen2")
    if path is None or not bench.wants(identifier):
        return
    model = models.Model.load(path)
    for name in model.tensors:
        if name.endswith(("q_proj.bias", "k_proj.bias")):
            model.edit(name, lambda t: t * 300 + 40)
    a, b = bench.place(identifier, "a"), bench.place(identifier, "b")
    model.save(a)
    ids = engines.sequence(path)
    found = engines.run(engines.load(a), ids, inside=(engines.scores_in(torch.float16),))
    engines.write(b, found, path, "qwen2", ids)
    bench.add(identifier, "engine", f"{LLAMA}#9130", a, b,
              Expect(phase=["ops"], layer=[0], stage=["attn_scores", "attn_softmax"], causes=["overflow"]))


def traced_pairs(bench):
    """The same config faults, computed by this project's own graph and given as stages."""
    import faults_config

    if bench.program is None:
        return
    for name in ("eps-llama2", "theta-off-by-little", "softcap-changed", "window-off-by-one", "residual-scale", "norm-topk-on", "logit-scale-cohere", "dim-half"):
        fault = next(f for group in (faults_config.ROPE, faults_config.ATTENTION, faults_config.OTHER) for f in group if f.name == name)
        identifier, path = f"engine-traced-{name}", models.folder(fault.base)
        if path is None or not bench.wants(identifier):
            continue
        model = models.Model.load(path)
        fault.change(model)
        changed, b = bench.place(identifier, "changed"), bench.place(identifier, "b")
        model.save(changed)
        ids = ",".join(map(str, engines.sequence(path)))
        subprocess.run([bench.program, "trace", changed, "--ids", ids, "--precision", "exact", "--save-tensor", "all", "--save-tensor-layers", f"0..{model.layers}",
                        "--save-tensor-dir", b], check=True, capture_output=True)
        bench.add(identifier, "engine", fault.source, path, b,
                  Expect(phase=["ops", "logits"], layer=fault.layer, stage=fault.stage, causes=fault.causes))


def between_stages(bench):
    """Stages of a sound engine against stages of a faulty one: no model at hand, so the place and not always the cause."""
    for name in ("theta", "activation-exact", "bias-q"):
        fault = next(f for f in FAULTS if f.name == name)
        identifier, path = f"engine-stages-only-{name}", models.folder(fault.base)
        if path is None or not bench.wants(identifier):
            continue
        a, b = bench.place(identifier, "a"), bench.place(identifier, "b")
        capture(dataclasses.replace(fault, change=None, inside=(), around=()), path, a)
        capture(fault, path, b)
        bench.add(identifier, "engine", fault.source, a, b, Expect(phase=["ops"], layer=fault.layer, stage=fault.stage))


def register(bench):
    for fault in FAULTS:
        identifier = f"engine-{fault.name}"
        path = models.folder(fault.base)
        if path is None or not bench.wants(identifier):
            continue
        b = bench.place(identifier, "b")
        capture(fault, path, b)
        bench.add(identifier, "engine", fault.source, path, b,
                  Expect(phase=fault.phase, layer=fault.layer, stage=fault.stage, causes=fault.causes, also=fault.also))
    overflow_pairs(bench)
    traced_pairs(bench)
    between_stages(bench)
