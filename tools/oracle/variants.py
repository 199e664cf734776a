"""The tiny model variants that make_model_oracle.py can build."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Variant:
    model_type: str
    seed: int
    config: dict[str, Any]
    # Constants whose effect `make` proves: {config key: another value}.
    constants: dict[str, Any]
    dtype: str = "float32"  # of the stored weights
    older_config: bool = False  # config.json as transformers 4 wrote it
    rope_key: str = "rope_type"  # in an older config
    shard: str = "5GB"
    table_scale: float = 0.15  # of the embeddings: small, so that the norms' epsilon shows
    short: int = 8
    long: int = 36
    new: int = 12


SHAPE = dict(
    vocab_size=96, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)  # fmt: skip

# Smaller still, for the variants that only some tests need.
SMALL = SHAPE | dict(vocab_size=64, hidden_size=24, intermediate_size=20)
SHORT = dict(short=7, long=30, new=10)

# Every context and window is shorter than the short sequence, so that it shows there already.
VARIANTS = {
    "llama": Variant(
        "llama",
        seed=101,
        config=SHAPE | dict(
            head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=96),
        ),
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 400000.0, "rope_parameters.factor": 7.0,
                   "rope_parameters.low_freq_factor": 1.5, "rope_parameters.high_freq_factor": 5.0,
                   "rope_parameters.original_max_position_embeddings": 80},
        dtype="bfloat16",
        older_config=True,
    ),
    "mistral": Variant(
        "mistral",
        seed=201,
        config=SHAPE | dict(
            head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=False, sliding_window=5,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "sliding_window": 6},
        dtype="float16",
        older_config=True,
    ),
    "qwen2": Variant(
        "qwen2",
        seed=301,
        config=SHAPE | dict(
            num_key_value_heads=1, rms_norm_eps=1e-6, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 900000.0},
        dtype="bfloat16",
        shard="20KB",
    ),
    "qwen3": Variant(
        "qwen3",
        seed=401,
        config=SHAPE | dict(
            head_dim=16, rms_norm_eps=1e-6, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 900000.0},
        dtype="bfloat16",
    ),
    "gemma3": Variant(
        "gemma3_text",
        seed=501,
        config=SHAPE | dict(
            num_hidden_layers=3, head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=True, query_pre_attn_scalar=20,
            sliding_window=5, layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
                sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            ),
        ),
        constants={"rms_norm_eps": 2e-6, "query_pre_attn_scalar": 21, "sliding_window": 6,
                   "rope_parameters.full_attention.factor": 7.0,
                   "rope_parameters.full_attention.rope_theta": 900000.0,
                   "rope_parameters.sliding_attention.rope_theta": 9000.0,
                   "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        dtype="bfloat16",
        older_config=True,
        table_scale=0.02,
    ),
    "llama-yarn-bias": Variant(
        "llama",
        seed=601,
        config=SMALL | dict(
            head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
            rope_parameters=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                 original_max_position_embeddings=64),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 900.0, "rope_parameters.factor": 3.5,
                   "rope_parameters.beta_fast": 2.0, "rope_parameters.beta_slow": 0.25,
                   "rope_parameters.original_max_position_embeddings": 32},
        older_config=True,
        rope_key="type",
    ),
    "qwen2-window": Variant(
        "qwen2",
        seed=701,
        config=SMALL | dict(
            rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=True, sliding_window=5, max_window_layers=1,
            rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0),
            max_position_embeddings=24,
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 9000.0, "rope_parameters.factor": 3.0,
                   "sliding_window": 6, "layer_types": ["sliding_attention", "sliding_attention"],
                   "max_position_embeddings": 20},
        dtype="float16",
    ),
    "qwen3-moe-mlp-only": Variant(
        "qwen3_moe",
        seed=801,
        config=SMALL | dict(
            head_dim=12, rms_norm_eps=1e-6, tie_word_embeddings=False, num_experts=5, num_experts_per_tok=2,
            moe_intermediate_size=12, mlp_only_layers=[0], decoder_sparse_step=1, norm_topk_prob=True,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 900000.0, "num_experts_per_tok": 3,
                   "norm_topk_prob": False},
        dtype="bfloat16",
    ),
    "qwen2-moe-sparse-step": Variant(
        "qwen2_moe",
        seed=901,
        config=SMALL | dict(
            rms_norm_eps=1e-6, tie_word_embeddings=False, num_experts=4, num_experts_per_tok=2,
            moe_intermediate_size=12, shared_expert_intermediate_size=20, mlp_only_layers=[], decoder_sparse_step=2,
            norm_topk_prob=False, rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 900000.0, "num_experts_per_tok": 3,
                   "norm_topk_prob": True},
        dtype="bfloat16",
    ),
    "deepseek-v2-q-lora": Variant(
        "deepseek_v2",
        seed=1001,
        config=SMALL | dict(
            num_key_value_heads=4, rms_norm_eps=1e-6, tie_word_embeddings=False, first_k_dense_replace=1,
            kv_lora_rank=12, q_lora_rank=16, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=7, n_routed_experts=6,
            n_shared_experts=1, moe_intermediate_size=10, num_experts_per_tok=3, topk_method="group_limited_greedy",
            n_group=3, topk_group=2, routed_scaling_factor=1.7, norm_topk_prob=False,
            rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                 mscale=0.8, mscale_all_dim=0.6, original_max_position_embeddings=32),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 9000.0, "rope_parameters.factor": 3.5,
                   "rope_parameters.mscale": 0.7, "rope_parameters.mscale_all_dim": 0.5, "topk_group": 1,
                   "topk_method": "greedy", "routed_scaling_factor": 1.5, "num_experts_per_tok": 2},
        dtype="bfloat16",
    ),
    "stablelm-parallel": Variant(
        "stablelm",
        seed=1101,
        config=SMALL | dict(
            layer_norm_eps=1e-5, tie_word_embeddings=False, use_parallel_residual=True, qk_layernorm=True,
            use_qkv_bias=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.67),
        ),
        **SHORT,
        constants={"layer_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0},
        dtype="bfloat16",
    ),
    "gpt-neox-serial": Variant(
        "gpt_neox",
        seed=1201,
        config={key: value for key, value in SMALL.items() if key != "num_key_value_heads"} | dict(
            layer_norm_eps=1e-5, tie_word_embeddings=False, use_parallel_residual=False,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.67),
        ),
        **SHORT,
        constants={"layer_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "use_parallel_residual": True,
                   "rope_parameters.partial_rotary_factor": 1.0, "hidden_act": "gelu_pytorch_tanh"},
        dtype="float16",
    ),
    "gpt2-inverse-layer": Variant(
        "gpt2",
        seed=1301,
        config=dict(
            vocab_size=64, n_embd=24, n_inner=20, n_layer=2, n_head=4, n_positions=48, bos_token_id=1, eos_token_id=2,
            layer_norm_epsilon=1e-5, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False,
        ),
        **SHORT,
        constants={"layer_norm_epsilon": 2e-5, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": False,
                   "activation_function": "gelu"},
        dtype="bfloat16",
    ),
    "cohere-qk-norm": Variant(
        "cohere",
        seed=1401,
        config=SMALL | dict(
            layer_norm_eps=1e-5, tie_word_embeddings=True, use_qk_norm=True, logit_scale=0.3, attention_bias=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        **SHORT,
        constants={"layer_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "logit_scale": 0.25},
        dtype="float16",
        older_config=True,
    ),
    "cohere2": Variant(
        "cohere2",
        seed=1501,
        config=SMALL | dict(
            layer_norm_eps=1e-5, tie_word_embeddings=True, logit_scale=0.3, sliding_window=5,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        **SHORT,
        constants={"layer_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "logit_scale": 0.25,
                   "sliding_window": 6, "layer_types": ["sliding_attention", "sliding_attention"]},
        dtype="bfloat16",
    ),
    "phi": Variant(
        "phi",
        seed=1701,
        config=SMALL | dict(
            layer_norm_eps=1e-5, tie_word_embeddings=False, qk_layernorm=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.67),
        ),
        **SHORT,
        constants={"layer_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0,
                   "rope_parameters.partial_rotary_factor": 1.0},
        dtype="float16",
    ),
    "phi3-partial-longrope": Variant(
        "phi3",
        seed=1801,
        config=SMALL | dict(
            rms_norm_eps=1e-5, tie_word_embeddings=True, original_max_position_embeddings=16, sliding_window=9,
            rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.67,
                                 short_factor=[1.0, 1.2], long_factor=[1.0, 4.0],
                                 original_max_position_embeddings=16),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "sliding_window": 10,
                   "rope_parameters.long_factor": [1.0, 3.0], "max_position_embeddings": 96},
        dtype="bfloat16",
    ),
    "gemma": Variant(
        "gemma",
        seed=1901,
        config=SMALL | dict(
            head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 9000.0, "hidden_act": "silu"},
        dtype="bfloat16",
        table_scale=0.02,
    ),
    "gemma2": Variant(
        "gemma2",
        seed=2002,
        config=SMALL | dict(
            head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=True, query_pre_attn_scalar=12, sliding_window=5,
            layer_types=["sliding_attention", "full_attention"], attn_logit_softcapping=3.0,
            final_logit_softcapping=2.0, rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 9000.0, "query_pre_attn_scalar": 13,
                   "sliding_window": 6, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 2.5},
        dtype="bfloat16",
        older_config=True,
        table_scale=0.06,
    ),
    "granite": Variant(
        "granite",
        seed=2101,
        config=SMALL | dict(
            rms_norm_eps=1e-5, tie_word_embeddings=True, embedding_multiplier=3.0, attention_multiplier=0.3,
            residual_multiplier=0.4, logits_scaling=2.0,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "embedding_multiplier": 3.1,
                   "attention_multiplier": 0.31, "residual_multiplier": 0.41, "logits_scaling": 2.1},
        dtype="float16",
    ),
    "olmo2": Variant(
        "olmo2",
        seed=2201,
        config=SMALL | dict(
            rms_norm_eps=1e-6, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="default", rope_theta=500000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 400000.0},
        dtype="bfloat16",
        older_config=True,
    ),
    "olmoe": Variant(
        "olmoe",
        seed=2301,
        config=SMALL | dict(
            intermediate_size=10, rms_norm_eps=1e-5, tie_word_embeddings=False, num_experts=5, num_experts_per_tok=2,
            norm_topk_prob=False, clip_qkv=1.2, rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "clip_qkv": 1.3,
                   "num_experts_per_tok": 3, "norm_topk_prob": True},
        dtype="float16",
    ),
    "mixtral": Variant(
        "mixtral",
        seed=2401,
        config=SMALL | dict(
            intermediate_size=12, rms_norm_eps=1e-5, tie_word_embeddings=False, num_local_experts=4,
            num_experts_per_tok=2, sliding_window=5,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 900000.0, "num_experts_per_tok": 3,
                   "sliding_window": 6},
        dtype="bfloat16",
        older_config=True,
    ),
    "gpt-oss": Variant(
        "gpt_oss",
        seed=2601,
        config=SMALL | dict(
            intermediate_size=10, head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=False, num_local_experts=4,
            num_experts_per_tok=2, sliding_window=5, layer_types=["sliding_attention", "full_attention"],
            swiglu_limit=1.0,
            rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                 truncate=False, original_max_position_embeddings=32),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-5, "rope_parameters.rope_theta": 9000.0, "rope_parameters.factor": 3.5,
                   "rope_parameters.truncate": True, "sliding_window": 6, "num_experts_per_tok": 3,
                   "swiglu_limit": 1.1, "swiglu_alpha": 1.6},
        dtype="bfloat16",
    ),
    "deepseek-v3": Variant(
        "deepseek_v3",
        seed=2701,
        config=SMALL | dict(
            num_key_value_heads=4, rms_norm_eps=1e-6, tie_word_embeddings=False, first_k_dense_replace=1,
            kv_lora_rank=12, q_lora_rank=16, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=7, n_routed_experts=6,
            n_shared_experts=1, moe_intermediate_size=10, num_experts_per_tok=3, n_group=3, topk_group=2,
            routed_scaling_factor=1.7, norm_topk_prob=True, rope_interleave=True,
            rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                 mscale=1.0, mscale_all_dim=0.7, original_max_position_embeddings=32),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 9000.0, "rope_parameters.factor": 3.5,
                   "rope_parameters.mscale": 0.9, "rope_parameters.mscale_all_dim": 0.6, "topk_group": 1,
                   "routed_scaling_factor": 1.5, "num_experts_per_tok": 2, "norm_topk_prob": False,
                   "rope_interleave": False},
        dtype="bfloat16",
    ),
    "starcoder2": Variant(
        "starcoder2",
        seed=2801,
        config=SMALL | dict(
            norm_epsilon=1e-5, tie_word_embeddings=True, sliding_window=5, use_bias=True,
            rope_parameters=dict(rope_type="default", rope_theta=100000.0),
        ),
        **SHORT,
        constants={"norm_epsilon": 2e-5, "rope_parameters.rope_theta": 90000.0, "sliding_window": 6,
                   "hidden_act": "gelu"},
        dtype="bfloat16",
    ),
    "smollm3": Variant(
        "smollm3",
        seed=2901,
        config=SMALL | dict(
            rms_norm_eps=1e-6, tie_word_embeddings=True, no_rope_layers=[1, 0],
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        **SHORT,
        constants={"rms_norm_eps": 2e-6, "rope_parameters.rope_theta": 9000.0, "no_rope_layers": [1, 1]},
        dtype="bfloat16",
        older_config=True,
    ),
}  # fmt: skip
