"""Random configurations of every architecture, for twins.py.

Each function returns keyword arguments of the architecture's transformers configuration class: odd sizes, shared
key/value heads, every rope scaling, windows shorter than the sequences, switches both ways. Sequences pass every
context and window that is drawn here.
"""

LONGEST = 44  # tokens of the longest sequence that twins.py runs


def sizes(rng, odd_heads=True, shared_kv=True, head_dim=True):
    """Sizes of the trunk. hidden_size is a multiple of the heads, as most classes demand."""
    heads = rng.choice([1, 2, 3, 4, 6] if odd_heads else [2, 4])
    kv = rng.choice([n for n in range(1, heads + 1) if heads % n == 0]) if shared_kv else heads
    config = dict(
        vocab_size=rng.randint(40, 97), hidden_size=heads * rng.choice([4, 6, 8, 10]), intermediate_size=rng.randint(9, 35),
        num_hidden_layers=rng.randint(1, 4), num_attention_heads=heads, num_key_value_heads=kv,
        max_position_embeddings=rng.choice([18, 24, 32, 64, 128]), bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    if head_dim and rng.random() < 0.6:
        config["head_dim"] = rng.choice([4, 6, 10, 12, 16])
    return config


def rms(rng):
    return dict(rms_norm_eps=rng.choice([1e-6, 1e-5, 1e-4]))


def tie(rng):
    return dict(tie_word_embeddings=rng.random() < 0.5)


def flag(rng, name):
    return {name: rng.random() < 0.5}


def activation(rng, key="hidden_act", names=("silu", "gelu", "gelu_pytorch_tanh", "gelu_new", "relu", "quick_gelu")):
    return {key: rng.choice(names)} if rng.random() < 0.4 else {}


def width(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def yarn(rng, parameters, config):
    parameters |= dict(factor=rng.choice([2.0, 3.5, 8.0]),
                       original_max_position_embeddings=rng.choice([8, 16, 24, config["max_position_embeddings"]]))
    if rng.random() < 0.5:
        parameters |= dict(beta_fast=rng.choice([4.0, 16.0, 32.0]), beta_slow=rng.choice([0.25, 1.0, 2.0]))
    if rng.random() < 0.3:
        parameters["attention_factor"] = rng.choice([0.8, 1.3])
    if rng.random() < 0.4:
        parameters |= dict(mscale=rng.choice([0.7, 1.0, 1.2]), mscale_all_dim=rng.choice([0.0, 0.5, 1.0]))
    elif rng.random() < 0.2:
        parameters["mscale"] = 0.9
    if rng.random() < 0.5:
        parameters["truncate"] = rng.random() < 0.3


def longrope(rng, parameters, config, pairs):
    parameters |= dict(short_factor=[round(rng.uniform(0.9, 1.5), 3) for _ in range(pairs)],
                       long_factor=[round(rng.uniform(1.0, 6.0), 3) for _ in range(pairs)],
                       original_max_position_embeddings=rng.choice([8, 16, 30]))
    if rng.random() < 0.4:
        parameters["attention_factor"] = rng.choice([0.9, 1.4])
    if rng.random() < 0.3:
        parameters["factor"] = rng.choice([2.0, 4.0])


def rope(rng, config, kinds=("default", "linear", "dynamic", "yarn", "llama3", "longrope"), partial=False, dim=None):
    """rope_parameters for `config`."""
    kind = rng.choice(kinds)
    parameters = dict(rope_type=kind, rope_theta=rng.choice([500.0, 10000.0, 123456.0, 1000000.0]))
    dim = dim or width(config)
    if partial and rng.random() < 0.7:
        even = [n for n in range(4, dim + 1, 2)]
        if even:
            parameters["partial_rotary_factor"] = (rng.choice(even) + 0.01) / dim
    rotary = int(dim * parameters.get("partial_rotary_factor", 1.0))
    if kind in ("linear", "dynamic"):
        parameters["factor"] = rng.choice([1.5, 2.0, 4.0])
    elif kind == "llama3":
        low = rng.choice([0.5, 1.0, 2.0])
        parameters |= dict(factor=rng.choice([2.0, 8.0]), low_freq_factor=low, high_freq_factor=low + rng.choice([1.0, 3.0]),
                           original_max_position_embeddings=rng.choice([16, 64, 256]))
    elif kind == "yarn":
        yarn(rng, parameters, config)
    elif kind == "longrope":
        longrope(rng, parameters, config, rotary // 2)
    return dict(rope_parameters=parameters)


def dynamic_needs_four(config, kinds):
    """Dynamic scaling divides by (dimension - 2)."""
    return [kind for kind in kinds if kind != "dynamic" or width(config) > 2]


def window(rng, allow_none=True):
    return dict(sliding_window=None if allow_none and rng.random() < 0.3 else rng.randint(2, 12))


def layer_types(rng, config):
    if rng.random() < 0.5:
        return {}
    return dict(layer_types=[rng.choice(["sliding_attention", "full_attention"]) for _ in range(config["num_hidden_layers"])])


def llama(rng):
    c = sizes(rng)
    return c | rms(rng) | tie(rng) | flag(rng, "attention_bias") | flag(rng, "mlp_bias") | activation(rng) | rope(rng, c)


def mistral(rng):
    c = sizes(rng)
    return c | rms(rng) | tie(rng) | window(rng) | activation(rng) | rope(rng, c)


def mixtral(rng):
    c = sizes(rng)
    c.setdefault("head_dim", width(c))  # transformers scales its rope by it
    experts = rng.randint(2, 6)
    return (c | rms(rng) | tie(rng) | window(rng) | rope(rng, c)
            | dict(num_local_experts=experts, num_experts_per_tok=rng.randint(1, experts)))  # fmt: skip


def granite(rng):
    c = sizes(rng, head_dim=False)
    scales = dict(embedding_multiplier=rng.choice([1.0, 3.0, 12.0]), attention_multiplier=rng.choice([0.1, 0.5, 1.0]),
                  residual_multiplier=rng.choice([0.22, 1.0]), logits_scaling=rng.choice([1.0, 4.0, 8.0]))
    return c | rms(rng) | tie(rng) | scales | flag(rng, "attention_bias") | flag(rng, "mlp_bias") | rope(rng, c)


def smollm3(rng):
    c = sizes(rng, head_dim=False)
    c |= rms(rng) | tie(rng) | flag(rng, "attention_bias") | flag(rng, "mlp_bias") | rope(rng, c)
    if rng.random() < 0.5:
        c["no_rope_layers"] = [rng.randint(0, 1) for _ in range(c["num_hidden_layers"])]
    else:
        c["no_rope_layer_interval"] = rng.choice([1, 2, 3, 4])
    if rng.random() < 0.5:
        c |= dict(use_sliding_window=True, sliding_window=rng.randint(2, 12)) | layer_types(rng, c)
    return c


def qwen_window(rng, c):
    out = flag(rng, "use_sliding_window") | dict(sliding_window=rng.randint(2, 12), max_window_layers=rng.randint(0, 4))
    return out | (layer_types(rng, c) if out["use_sliding_window"] else {})


def qwen2(rng):
    c = sizes(rng, head_dim=False)
    return c | rms(rng) | tie(rng) | qwen_window(rng, c) | activation(rng) | rope(rng, c)


def qwen3(rng):
    c = sizes(rng)
    return c | rms(rng) | tie(rng) | flag(rng, "attention_bias") | qwen_window(rng, c) | rope(rng, c)


def sparse(rng, c):
    experts = rng.randint(2, 6)
    return dict(num_experts=experts, num_experts_per_tok=rng.randint(1, experts), moe_intermediate_size=rng.randint(5, 15),
                decoder_sparse_step=rng.choice([1, 1, 2]),
                mlp_only_layers=[n for n in range(c["num_hidden_layers"]) if rng.random() < 0.25],
                norm_topk_prob=rng.random() < 0.5)  # fmt: skip


def qwen2_moe(rng):
    c = sizes(rng, head_dim=False)
    return (c | rms(rng) | tie(rng) | flag(rng, "qkv_bias") | qwen_window(rng, c) | sparse(rng, c)
            | dict(shared_expert_intermediate_size=rng.randint(6, 24)) | rope(rng, c))  # fmt: skip


def qwen3_moe(rng):
    c = sizes(rng)
    c |= rms(rng) | tie(rng) | flag(rng, "attention_bias") | sparse(rng, c) | rope(rng, c)
    if rng.random() < 0.5:
        c |= dict(use_sliding_window=True, sliding_window=rng.randint(2, 12))
    return c


def gemma(rng):
    c = sizes(rng)
    c.setdefault("head_dim", 8)
    return c | rms(rng) | tie(rng) | flag(rng, "attention_bias") | activation(rng) | rope(rng, c)


def gemma2(rng):
    c = sizes(rng)
    c.setdefault("head_dim", 8)
    caps = dict(attn_logit_softcapping=rng.choice([None, 1.5, 4.0]), final_logit_softcapping=rng.choice([None, 1.0, 3.0]),
                query_pre_attn_scalar=rng.choice([5, 12, 33]))
    return (c | rms(rng) | tie(rng) | flag(rng, "attention_bias") | window(rng, False) | layer_types(rng, c) | caps
            | activation(rng, "hidden_activation") | rope(rng, c))  # fmt: skip


def gemma3_text(rng):
    c = sizes(rng)
    c.setdefault("head_dim", 8)
    c["num_hidden_layers"] = rng.randint(1, 7)
    c |= rms(rng) | tie(rng) | flag(rng, "attention_bias") | window(rng, False) | layer_types(rng, c)
    full = rope(rng, c, dynamic_needs_four(c, ("default", "linear", "yarn", "llama3", "dynamic")))["rope_parameters"]
    local = rope(rng, c, ("default", "default", "linear", "yarn"))["rope_parameters"]
    return c | dict(query_pre_attn_scalar=rng.choice([5, 12, 33]), final_logit_softcapping=rng.choice([None, 2.0]),
                    rope_parameters=dict(full_attention=full, sliding_attention=local))  # fmt: skip


def olmo2(rng):
    c = sizes(rng, head_dim=False)
    return c | rms(rng) | tie(rng) | flag(rng, "attention_bias") | activation(rng) | rope(rng, c)


def olmoe(rng):
    c = sizes(rng, head_dim=False)
    experts = rng.randint(2, 6)
    return (c | rms(rng) | tie(rng) | flag(rng, "attention_bias") | flag(rng, "norm_topk_prob") | rope(rng, c)
            | dict(num_experts=experts, num_experts_per_tok=rng.randint(1, experts), clip_qkv=rng.choice([None, 0.8])))  # fmt: skip


def phi3(rng):
    c = sizes(rng, head_dim=False)
    c |= rms(rng) | tie(rng) | window(rng) | activation(rng) | rope(rng, c, ("default", "longrope"), partial=True)
    original = c["rope_parameters"].get("original_max_position_embeddings")
    return c | (dict(original_max_position_embeddings=original) if original else {})


def gpt2(rng):
    c = sizes(rng, shared_kv=False, head_dim=False)
    out = dict(vocab_size=c["vocab_size"], n_embd=c["hidden_size"], n_layer=c["num_hidden_layers"], n_head=c["num_attention_heads"],
               n_inner=rng.choice([None, c["intermediate_size"]]), n_positions=rng.choice([48, 64]), bos_token_id=1, eos_token_id=2,
               layer_norm_epsilon=rng.choice([1e-5, 1e-4]))  # fmt: skip
    return (out | tie(rng) | flag(rng, "scale_attn_weights") | flag(rng, "scale_attn_by_inverse_layer_idx")
            | activation(rng, "activation_function"))  # fmt: skip


def layer_eps(rng, key="layer_norm_eps"):
    return {key: rng.choice([1e-5, 1e-4])}


def gpt_neox(rng):
    c = sizes(rng, shared_kv=False, head_dim=False)
    del c["num_key_value_heads"]
    c["hidden_size"] = c["num_attention_heads"] * rng.choice([8, 12, 16])
    return (c | layer_eps(rng) | tie(rng) | flag(rng, "use_parallel_residual") | flag(rng, "attention_bias")
            | activation(rng) | rope(rng, c, partial=True))  # fmt: skip


def starcoder2(rng):
    c = sizes(rng, head_dim=False)
    return c | layer_eps(rng, "norm_epsilon") | tie(rng) | flag(rng, "use_bias") | window(rng) | activation(rng) | rope(rng, c)


def stablelm(rng):
    c = sizes(rng, head_dim=False)
    c["hidden_size"] = c["num_attention_heads"] * rng.choice([8, 12, 16])
    return (c | layer_eps(rng) | tie(rng) | flag(rng, "use_qkv_bias") | flag(rng, "use_parallel_residual")
            | flag(rng, "qk_layernorm") | activation(rng) | rope(rng, c, partial=True))  # fmt: skip


def cohere(rng):
    c = sizes(rng, head_dim=False)
    return (c | layer_eps(rng) | tie(rng) | flag(rng, "attention_bias") | flag(rng, "use_qk_norm")
            | dict(logit_scale=rng.choice([0.0625, 0.5, 1.0])) | rope(rng, c))  # fmt: skip


def gpt_oss(rng):
    c = sizes(rng)
    c.setdefault("head_dim", 8)
    experts = rng.randint(2, 6)
    c |= dict(num_local_experts=experts, num_experts_per_tok=rng.randint(1, experts), swiglu_limit=rng.choice([0.8, 7.0]))
    return c | rms(rng) | tie(rng) | window(rng, False) | layer_types(rng, c) | rope(rng, c)


def latent(rng):
    c = sizes(rng, shared_kv=False, head_dim=False)
    groups = rng.choice([1, 2, 3])
    experts = groups * rng.randint(2, 3)
    c |= dict(kv_lora_rank=rng.choice([6, 8, 14]), q_lora_rank=rng.choice([None, 7, 12]), qk_nope_head_dim=rng.choice([2, 6, 8]),
              qk_rope_head_dim=rng.choice([4, 6, 8]), v_head_dim=rng.choice([5, 7, 8]), n_routed_experts=experts,
              n_shared_experts=rng.randint(1, 2), moe_intermediate_size=rng.randint(5, 11),
              first_k_dense_replace=rng.randint(0, 2), routed_scaling_factor=rng.choice([1.0, 1.7]),
              norm_topk_prob=rng.random() < 0.5, n_group=groups, topk_group=rng.randint(1, groups))  # fmt: skip
    c["num_experts_per_tok"] = rng.randint(1, c["topk_group"] * (experts // groups))
    return c | rms(rng) | tie(rng) | rope(rng, c, dim=c["qk_rope_head_dim"]) | flag(rng, "attention_bias")


def deepseek_v2(rng):
    c = latent(rng) | flag(rng, "mlp_bias")
    return c | dict(topk_method=rng.choice(["greedy", "group_limited_greedy"]))


def deepseek_v3(rng):
    return latent(rng) | flag(rng, "rope_interleave")


CONFIGS = {
    f.__name__: f
    for f in (llama, mistral, mixtral, granite, smollm3, qwen2, qwen3, qwen2_moe, qwen3_moe, gemma, gemma2, gemma3_text,
              olmo2, olmoe, phi3, gpt2, gpt_neox, starcoder2, stablelm, cohere, gpt_oss, deepseek_v2, deepseek_v3)
}  # fmt: skip
