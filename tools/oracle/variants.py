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
    shard: str = "5GB"
    table_scale: float = 0.15  # of the embeddings: small, so that the norms' epsilon shows
    short: int = 8
    long: int = 36
    new: int = 12


SHAPE = dict(
    vocab_size=96, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)  # fmt: skip

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
}  # fmt: skip
