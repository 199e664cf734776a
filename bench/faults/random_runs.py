"""More faulty and sound runs drawn at random: broken kernels, wrong experts, lost caches, other ways to write the same file, other kinds of sides.

Faults are recipes as in random_engines.py; `pairs` are files and captures without a fault; `sides` are faults between other kinds of sides."""

import contextlib
import re
import subprocess

import torch

import engines
import gguf_side
import healthy
import models
import random_files
from case import Expect
from engines import attention, function, input_of, output_of
from random_engines import LATENT, Plan, refuse, tokens_of

# --- Faulty engines ---

PRODUCTS = ((r"(o_proj|attn\.c_proj|attention\.dense|self_attn\.dense)$", "attn_out"), (r"(mlp\.down_proj|mlp\.c_proj|dense_4h_to_h|mlp\.fc2)$", "ffn_out"),
            (r"(mlp\.up_proj|c_fc|dense_h_to_4h|mlp\.fc1)$", "ffn_up"), (r"(mlp\.gate_proj)$", "ffn_gate"), (r"(q_proj|k_proj|v_proj)$", "qkv_matmul"), (r"^(lm_head|embed_out)$", "lm_head"))  # fmt: skip

def product(d, allowed=None):
    """A product of the model and the stage that it writes; a latent attention and biased products are left out."""
    names = {n.removesuffix(".weight") for n in d.model.tensors if n.endswith(".weight") and d.model.tensors[n].dim() == 2 and "expert" not in n}
    found = [(n, stage) for n in sorted(names) for pattern, stage in PRODUCTS if re.search(pattern, n) and (allowed is None or stage in allowed)]
    if d.kind in LATENT or d.kind == "gpt_oss":
        found = [x for x in found if x[1] in ("attn_out", "lm_head")]
    if d.model.config.get("tie_word_embeddings"):
        found = [x for x in found if x[1] != "lm_head"]
    refuse(not found)
    name, stage = d.pick(*found)
    return name, ["qkv_matmul", "qkv_bias"] if stage == "qkv_matmul" else [stage], random_files.layer_of(name + ".")

def tile(d):
    """A kernel that leaves a block of columns of its last rows undone."""
    name, stage, layer = product(d)
    rows, part = int(d.pick(1, 3, 8)), float(d.rng.uniform(0.1, 0.6))

    def broken(x):
        x = x.clone()
        x[:, -rows:, : max(1, int(x.shape[-1] * part))] = 0
        return x

    return Plan(stage, (layer,), inside=(output_of(name, broken),), dtype="f32" if d.kind == "gpt_oss" else d.pick("f32", "bf16"))

def one_value(d):
    """One sporadic value at one position: a race."""
    name, stage, layer = product(d)
    at, by = float(d.rng.uniform()), float(d.pick(3.0, -20.0))

    def broken(x):
        x = x.clone()
        x[0, int(at * x.shape[1]), int(at * x.shape[2])] += by * x.abs().mean()
        return x

    return Plan(stage, (layer,), inside=(output_of(name, broken),))

def not_a_number(d):
    name, stage, layer = product(d)
    start = int(d.pick(0, 4, 11))

    def broken(x):
        x = x.clone()
        x[:, start:] = float("nan")
        return x

    return Plan(stage, (layer,), inside=(output_of(name, broken),))

def other_layer(d):
    """A product that multiplies with another layer's weights."""
    name, stage, layer = product(d, ("attn_out", "ffn_out", "ffn_up", "ffn_gate"))
    other = re.sub(rf"(layers|h)\.{layer}\.", rf"\g<1>.{(layer + 1) % d.model.layers}.", name)
    refuse(d.model.layers < 2 or other + ".weight" not in d.model.tensors or d.model.tensors[other + ".weight"].shape != d.model.tensors[name + ".weight"].shape)
    refuse(name + ".bias" in d.model.tensors)
    return Plan(stage, (layer,), inside=(lambda m: engines.replaced(m.get_submodule(name), "weight", m.get_submodule(other).weight),))

def scaled_product(d):
    name, stage, layer = product(d)
    refuse(name + ".bias" in d.model.tensors or "qkv" in stage[0] and name.replace("q_proj", "k_proj") in d.model.tensors)
    by = float(d.pick(0.5, 1.1, 2.0))
    # A scale of the head is the logits' scale.
    return Plan(stage, (layer,), inside=(output_of(name, lambda x: x * by),), also_named=("logit_scale",))

def narrow_product(d):
    """One product alone with inputs of another type."""
    name, stage, layer = product(d)
    change = d.pick(engines.int8_blocks, engines.narrow_inputs(torch.bfloat16), engines.narrow_inputs(torch.float16))
    refuse(name + ".bias" in d.model.tensors)

    def patch(model):
        handle = model.get_submodule(name).register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
        return engines._undo(handle.remove)

    # The input of the last product is itself a stage.
    return Plan([*stage, "ffn_swigl"] if stage == ["ffn_out"] else stage, (layer,), inside=(patch,))

def overflowing(d):
    """Values beyond f16 in a product whose results the engine keeps in f16."""
    name, stage, layer = product(d, ("ffn_out", "ffn_up", "attn_out"))
    refuse(name + ".bias" in d.model.tensors)
    refuse(d.model.tensors[name + ".weight"].dtype == torch.float16)
    d.model.edit(name + ".weight", lambda t: t * 4e5)
    d.trusted = True
    return Plan(stage, (layer,), inside=(output_of(name, lambda x: x.half().float()),))

def residual_lost(d):
    """What one device copied to the next: the rows of a layer's result from some position on are another layer's."""
    refuse(d.kind in ("gpt_oss",))
    layer = int(d.rng.integers(d.model.layers))
    start = int(d.pick(0, 5))

    def patch(model):
        import stages

        row = stages.TABLE[model.config.model_type]
        module = stages._child(model, row.layers)[layer]

        def hook(_, args, out):
            x = (out[0] if isinstance(out, tuple) else out).clone()
            x[:, start:] = x[:, start:].roll(1, -1)
            return (x, *out[1:]) if isinstance(out, tuple) else x

        return engines._undo(module.register_forward_hook(hook).remove)

    # What a layer hands on is the next one's input: where it is not recorded by itself, the next norm shows it.
    return Plan(["post_ffn_residual", "attn_norm", "final_norm", "qkv_matmul"], (layer, layer + 1, None), inside=(patch,))

def one_side_rotated(d):
    """Only the queries, or only the keys, are rotated."""
    refuse(d.kind in ("gpt2", "gpt_oss", "gemma3_text", "smollm3", *LATENT))
    query = bool(d.rng.integers(2))

    def make(original):
        def apply(q, k, *args, **kwargs):
            turned = original(q, k, *args, **kwargs)
            return (turned[0], k) if query else (q, turned[1])

        return apply

    return Plan(["k_post_rope" if query else "q_post_rope"], inside=(function("apply_rotary_pos_emb", make),), also_named=("rope_dim", "rope_theta", "position_offset"))

def head_norms_missing(d):
    kind = d.pick("q_norm", "k_norm")
    names = [n.removesuffix(".weight") for n in d.model.tensors if re.search(rf"self_attn\.{kind}\.weight$", n)]
    refuse(not names)
    return Plan([kind, "q_post_rope", "k_post_rope"], inside=(engines.without_norm(names),))

def sandwich_norm_missing(d):
    refuse(d.kind not in ("gemma2", "gemma3_text", "olmo2"))
    name = d.pick(*[n.removesuffix(".weight") for n in d.model.tensors if re.search(r"(post_attention|post_feedforward|pre_feedforward)_layernorm\.weight$", n)])
    stage = "post_attn_norm" if "post_attention" in name else "post_ffn_norm" if "post_feed" in name else "ffn_norm"
    return Plan([stage], (random_files.layer_of(name + "."),), inside=(engines.without_norm([name]),))

def head_norm_eps(d):
    names = [n.removesuffix(".weight") for n in d.model.tensors if re.search(r"self_attn\.q_norm\.weight$", n)]
    refuse(not names or d.kind in ("cohere",))

    def patch(model):
        for name in names:
            module = model.get_submodule(name)
            for key in ("variance_epsilon", "eps"):
                if hasattr(module, key):
                    setattr(module, key, 0.3)
        return engines._undo(lambda: None)

    return Plan(["q_norm"], inside=(patch,))

def softcap_gone(d):
    key, stage, layer = d.pick(("attn_logit_softcapping", "attn_scores", 0), ("final_logit_softcapping", "lm_head", None))
    refuse(not d.model.config.get(key))
    return Plan([stage], (layer,), change=lambda c: setattr(c, key, None))

def tied_head(d):
    refuse(d.model.config.get("tie_word_embeddings") or "lm_head.weight" not in d.model.tensors)
    return Plan(["lm_head"], (None,), inside=(lambda m: engines.replaced(m.lm_head, "weight", m.get_input_embeddings().weight),))

def head_narrow(d):
    """The head alone was quantised."""
    refuse("lm_head.weight" not in d.model.tensors)

    def patch(model):
        w = model.lm_head.weight
        return engines.replaced(model.lm_head, "weight", torch.nn.Parameter(engines.int8_blocks(w.data) if d_bits == 8 else (w.data * 8).round() / 8, requires_grad=False))

    d_bits = int(d.pick(8, 4))
    return Plan(["lm_head"], (None,), inside=(patch,))

def thetas_exchanged(d):
    refuse(d.kind != "gemma3_text")

    def change(c):
        r = c.rope_parameters
        r["sliding_attention"]["rope_theta"], r["full_attention"]["rope_theta"] = r["full_attention"]["rope_theta"], r["sliding_attention"]["rope_theta"]

    return Plan(["q_post_rope"], change=change)

def wrong_expert(d):
    """Experts numbered one off: choice and weights are right, the matrices are the neighbour's."""
    refuse(not d.model.config.get("num_experts_per_tok") or d.kind in LATENT or d.kind == "gpt_oss")

    def patch(model):
        for module in model.modules():
            if hasattr(module, "gate_up_proj") and hasattr(module, "down_proj") and isinstance(module.down_proj, torch.nn.Parameter):
                module.gate_up_proj.data = module.gate_up_proj.data.roll(1, 0)
                module.down_proj.data = module.down_proj.data.roll(1, 0)
        return engines._undo(lambda: None)

    return Plan(["moe_ffn_out"], (), inside=(patch,))

def shared_expert_lost(d):
    names = [n.removesuffix(".down_proj.weight") for n in d.model.tensors if re.search(r"shared_experts?\.down_proj\.weight$", n)]
    refuse(not names)
    return Plan([], (random_files.layer_of(names[0] + "."),), inside=tuple(output_of(name, torch.zeros_like) for name in names))

def gate_and_up(d):
    """Gate and up change places in a feed-forward of one layer."""
    names = [n.removesuffix(".gate_proj.weight") for n in d.model.tensors if re.search(r"layers\.\d+\.mlp\.gate_proj\.weight$", n)]
    refuse(not names)
    name = d.pick(*names)

    def patch(model):
        mlp = model.get_submodule(name)
        gate, up = mlp.gate_proj.weight, mlp.up_proj.weight
        stack = contextlib.ExitStack()
        stack.enter_context(engines.replaced(mlp.gate_proj, "weight", up))
        stack.enter_context(engines.replaced(mlp.up_proj, "weight", gate))
        return stack

    return Plan(["ffn_gate"], (random_files.layer_of(name + "."),), inside=(patch,))

def embedding_rows(d):
    """Token ids one off, as the engine looks them up."""
    refuse(d.kind in ("gpt2",))
    import stages  # noqa: F401

    def patch(model):
        module = model.get_input_embeddings()
        handle = module.register_forward_pre_hook(lambda m, args: ((args[0] + 1) % module.num_embeddings,))
        return engines._undo(handle.remove)

    return Plan(["embedding"], inside=(patch,))

def all_biases(d):
    """Every bias of one kind is never added: one finding."""
    kinds = {re.sub(r".*\.", "", n.removesuffix(".bias")) for n in d.model.tensors if re.search(r"(q_proj|v_proj|o_proj|c_fc|down_proj|dense_h_to_4h|fc1|c_attn)\.bias$", n)}
    refuse(not kinds or d.kind == "phi")
    kind = d.pick(*sorted(kinds))
    stage = "qkv_bias" if kind in ("q_proj", "v_proj", "c_attn") else "attn_out" if kind == "o_proj" else "ffn_out" if kind == "down_proj" else "ffn_up"
    plan = Plan([stage], inside=(engines.without_bias(kind),))
    plan.most = 1
    return plan

def two_at_once(d):
    """A scale in the scores and a norm left out behind."""
    refuse(d.kind in ("gpt_oss", "gpt2", "cohere", "gpt_neox", "stablelm", *LATENT) or "model.norm.weight" not in d.model.tensors)
    plan = Plan(["attn_scores"], inside=(attention(lambda f: lambda m, q, k, v, mask, *a, **kw: f(m, q, k, v, mask, *a, **kw | {"scaling": kw["scaling"] * 1.3})),
                                         engines.without_norm(["model.norm"])))  # fmt: skip
    plan.also = [{"causes": ["missing_norm"]}]
    return plan

FAULTS = (
    (None, tile), (None, one_value), (None, not_a_number), ("layer_order", other_layer), ("scaled_tensor", scaled_product), ("reduced_precision", narrow_product), ("overflow", overflowing),
    (None, residual_lost), ("rope_layers", one_side_rotated), ("missing_norm", head_norms_missing), ("missing_norm", sandwich_norm_missing), ("norm_eps", head_norm_eps), ("softcap", softcap_gone),
    ("tie_word_embeddings", tied_head), (None, head_narrow), ("rope_theta", thetas_exchanged), (None, wrong_expert), (None, shared_expert_lost), ("swapped_tensors", gate_and_up),
    ("shifted_rows", embedding_rows), ("missing_bias", all_biases), ("attention_scale", two_at_once),
)  # fmt: skip

def faulty(bench, rng, homes, make_draw, planned, rounds):
    for number in range(rounds * len(FAULTS)):
        cause, recipe = FAULTS[number % len(FAULTS)]
        d, plan = planned(rng, homes, recipe, make_draw)
        identifier = f"random-run-{number:03d}-{recipe.__name__}-{d.name}-{plan.dtype}"
        a, b = d.path, bench.place(identifier, "b")
        if getattr(d, "trusted", False):
            a = d.model.save(bench.place(identifier, "a"))
        ids = tokens_of(d, plan.length)
        found = engines.run(engines.load(a, plan.dtype, plan.change), ids, plan.dtype, plan.inside, plan.around)
        engines.write(b, found, d.path, d.kind, ids, plan.dtype, plan.precision)
        names = {"softcap": ["attention_softcap", "logit_softcap"], None: []}.get(cause, [cause])
        bench.add(identifier, "random", "vllm-project/vllm#19841", a, b, Expect(phase=["ops", "logits"], causes=[*names, *plan.also_named] if names else [], stage=plan.stage,
                  layer=plan.layer, also=getattr(plan, "also", []), most=getattr(plan, "most", 0)))  # fmt: skip

# --- Other kinds of sides ---

def capture(bench, identifier, name, d, path, dtype="f32", ids=None, **how):
    ids = ids or tokens_of(d)
    out = bench.place(identifier, name)
    engines.write(out, engines.run(engines.load(path, dtype), ids, dtype, **how), d.path, d.kind, ids, dtype, engine="transformers 5.23.0")
    return out

def exported(bench, folder, out, *flags):
    subprocess.run([bench.program, "export", folder, *flags, "-o", out], check=True, capture_output=True)
    return out

def sides(bench, rng, homes, make_draw, settings, weights, rounds):
    """Faults of faults_random.py between a capture and a model, GGUF and folder, .apr and folder, one GGUF and another."""
    usable = [s for s in settings if s[0] in ("rope_theta", "norm_eps", "attention_softcap", "logit_scale", "activation", "moe_top_k", "embedding_scale", "residual_scale")]
    planted = [w for w in weights if w[0] in ("scaled_tensor", "zeroed_tensor", "norm_offset", "shifted_rows", "corrupt_values")]
    for number in range(rounds * 8):
        kind = ("capture", "gguf-a", "apr-b", "gguf-both")[number % 4]
        table = usable if kind == "capture" or number % 8 < 4 else planted
        cause, recipe = table[int(rng.integers(len(table)))]
        for name in rng.permutation(list(homes)):
            d = make_draw(rng, name, homes[name])
            if d.kind not in gguf_side.ARCHITECTURES or name.endswith("-small") or name == "llama-dynamic" or cause == "activation" and "gguf" in kind:
                continue
            try:
                recipe(d)
            except LookupError:
                continue
            break
        else:
            continue
        identifier = f"random-side-{number:03d}-{kind}-{cause}-{name}"
        expect = {k: v for k, v in d.expect.items() if k not in ("alternatives", "unasked", "most", "phase")}
        phase = ["config"] if table is usable else ["weights"]
        original = models.Model.load(d.path)
        if kind == "capture":
            a, b = capture(bench, identifier, "a", d, d.path), d.model.save(bench.place(identifier, "b"))
            phase, expect["key"] = ["ops", "logits", "config"], []
        elif kind == "gguf-a":
            a, b = gguf_side.convert(original, d.pick("f32", "f16", "q8_0")).save(bench.place(identifier, "a.gguf")), d.model.save(bench.place(identifier, "b"))
        elif kind == "apr-b":
            folder = d.model.save(bench.place(identifier, "made"))
            a, b = d.path, exported(bench, folder, bench.place(identifier, "b.apr"), "--format", "apr")
        else:
            a = gguf_side.convert(original, d.pick("f32", "f16")).save(bench.place(identifier, "a.gguf"))
            b = gguf_side.convert(d.model, d.pick("q8_0", "q5_1", "bf16")).save(bench.place(identifier, "b.gguf"))
            if expect.get("key"):  # no config.json spells it
                expect["key"] = [*expect["key"], cause]
        bench.add(identifier, "random", "ggml-org/llama.cpp#12941", a, b, Expect(causes=[cause, *d.expect.get("alternatives", [])], **expect | {"phase": phase}))

# --- Without a fault ---

def tied_head_stored(d):
    refuse(not d.model.config.get("tie_word_embeddings") or "model.embed_tokens.weight" not in d.model.tensors)
    d.model.tensors["lm_head.weight"] = d.model.tensors["model.embed_tokens.weight"].clone()

def buffers(d):
    """Tables that older checkpoints carry along."""
    refuse(d.kind not in ("llama", "mistral", "qwen2", "gpt_neox"))
    for layer in range(d.model.layers):
        prefix = f"gpt_neox.layers.{layer}.attention" if d.kind == "gpt_neox" else f"model.layers.{layer}.self_attn"
        d.model.tensors[f"{prefix}.rotary_emb.inv_freq"] = 1.0 / (10000.0 ** (torch.arange(0, d.model.head_dim, 2).float() / d.model.head_dim))

def explicit(d):
    """Defaults written out."""
    import transformers

    known = transformers.AutoConfig.from_pretrained(d.path).to_dict()
    d.model.config |= {k: v for k, v in known.items() if k not in d.model.config and k not in ("rope_parameters", "rope_scaling", "dtype", "torch_dtype")}

def without_defaults(d):
    import transformers

    plain = transformers.AutoConfig.for_model(d.kind).to_dict()
    refuse(d.kind in LATENT)
    for key in [k for k, v in d.model.config.items() if k in plain and plain[k] == v and k not in ("model_type", "architectures", "rope_parameters", "rope_scaling")]:
        del d.model.config[key]

def whole_numbers(d):
    """Numbers that lost their fraction on the way: 10000 for 10000.0."""

    def visit(x):
        if isinstance(x, dict):
            return {k: visit(v) for k, v in x.items()}
        return int(x) if isinstance(x, float) and x == int(x) else x

    d.model.config = visit(d.model.config)

def older_rope_words(d):
    refuse(not d.model.config.get("rope_scaling") and d.model.rope("rope_type") == "default")
    if "rope_parameters" in d.model.config:
        d.model.config = models.restyle(d.model.config)
    rope = d.model.config.get("rope_scaling")
    refuse(not rope)
    rope["type"] = rope.pop("rope_type", rope.get("type"))

def null_rope(d):
    refuse("rope_scaling" in d.model.config and d.model.config["rope_scaling"] or "rope_parameters" in d.model.config or d.kind == "gpt2")
    d.model.config["rope_scaling"] = {"rope_type": "default"}

def yarn_defaults(d):
    refuse(d.model.rope("rope_type") != "yarn" or d.kind in LATENT)
    d.model.set_rope(beta_fast=float(d.model.rope("beta_fast") or 32), beta_slow=float(d.model.rope("beta_slow") or 1))

def no_layer_types(d):
    """The pattern instead of the list, as older files have it."""
    refuse(d.kind not in ("gemma2", "gemma3_text", "qwen2", "qwen3", "llama") or "layer_types" not in d.model.config or d.model.config.get("use_sliding_window"))
    refuse(d.kind == "gemma3_text" and d.model.layers != 6)
    del d.model.config["layer_types"]
    if d.kind == "gemma3_text":
        d.model.config["sliding_window_pattern"] = 6

def unprefixed(d):
    """Tensors without `model.`, as a base model is saved."""
    prefix = {"gpt2": "transformer.", "gpt_neox": "gpt_neox."}.get(d.kind, "model.")
    d.model.tensors = {n.removeprefix(prefix): t for n, t in d.model.tensors.items()}

def mixed_types(d):
    """Norms in f32, products in 16 bits."""
    narrow = d.pick(torch.bfloat16, torch.float16)
    d.model.tensors = {n: t.to(narrow) if t.dim() > 1 else t.float() for n, t in d.model.tensors.items()}

FILES = (tied_head_stored, buffers, explicit, without_defaults, whole_numbers, older_rope_words, null_rope, yarn_defaults, no_layer_types, unprefixed, mixed_types)

def pairs(bench, rng, homes, make_draw, rounds):
    for number in range(rounds * 2 * len(FILES)):
        recipe = FILES[number % len(FILES)]
        for name in rng.permutation(list(homes)):
            d = make_draw(rng, name, homes[name])
            try:
                recipe(d)
            except LookupError:
                continue
            identifier = f"random-healthy-{recipe.__name__}-{number:03d}-{name}"
            bench.add(identifier, "healthy", healthy.SOURCES["style"], d.path, d.model.save(bench.place(identifier, "b"), int(rng.integers(1, 4))))
            break
    fit = [n for n in homes if not n.endswith("-small") and n != "llama-dynamic" and models.Model.load(homes[n]).config["model_type"] in gguf_side.ARCHITECTURES]
    for number in range(rounds * 6):
        d = make_draw(rng, (name := str(rng.choice(fit))), homes[name])
        one, other = [("q4_0", "f32"), ("q8_0", "q4_0"), ("q4_0", "q8_0"), ("f16", "bf16"), ("bf16", "f16"), ("q5_1", "q5_0")][number % 6]
        identifier = f"random-healthy-gguf-{one}-{other}-{number:03d}-{name}"
        a = gguf_side.convert(d.model, one).save(bench.place(identifier, "a.gguf"))
        b = d.path if other == "f32" else gguf_side.convert(d.model, other).save(bench.place(identifier, "b.gguf"))
        bench.add(identifier, "healthy", healthy.SOURCES["quant"], a, b)
    for number, name in enumerate(rng.permutation(list(homes))[: rounds * 8]):
        d = make_draw(rng, name, homes[name])
        what = ("executor", "apr", "model-behind-capture", "chunks", "shards-gguf", "sdpa", "quantized", "weights-16")[number % 8]
        identifier = f"random-healthy-{what}-{number:03d}-{name}"
        try:
            a, b = sound_pair(bench, identifier, what, d)
        except LookupError:
            continue
        bench.add(identifier, "healthy", healthy.SOURCES["executor" if what == "executor" else "engine"], a, b)

def sound_pair(bench, identifier, what, d):
    if what == "executor":
        return f"{d.path}@reference", f"{d.path}@cpu"
    if what == "apr":
        return exported(bench, d.path, bench.place(identifier, "a.apr"), "--format", "apr"), d.path
    if what == "model-behind-capture":
        return capture(bench, identifier, "a", d, d.path), d.path
    if what == "sdpa":
        refuse(d.kind in ("gpt_oss", "gemma2"))
        ids, b = tokens_of(d), bench.place(identifier, "b")
        engines.write(b, engines.run(engines.load(d.path, "f32", attention="sdpa"), ids), d.path, d.kind, ids, engine="transformers 5.23.0")
        return d.path, b
    if what == "weights-16":  # 16-bit weights, computed in f32
        ids, b = tokens_of(d), bench.place(identifier, "b")
        narrow = d.model.to(torch.bfloat16).save(bench.place(identifier, "narrow"))
        engines.write(b, engines.run(engines.load(narrow, "f32"), ids), d.path, d.kind, ids, precision={"weights": "bf16", "activations": "f32", "accumulate": "f32"}, engine="transformers 5.23.0")
        return d.path, b
    if what in ("shards-gguf", "quantized"):
        refuse(d.kind not in gguf_side.ARCHITECTURES or d.name.endswith("-small") or d.name == "llama-dynamic")
        source = exported(bench, d.path, bench.place(identifier, "f32.gguf"), "--format", "gguf", "--dtype", "f32")
        out = bench.place(identifier, "b.gguf")
        if what == "quantized":
            subprocess.run([bench.program, "quantize", source, "-s", d.pick("Q4_K_M", "Q5_K_M", "Q6_K", "Q3_K_M", "IQ4_NL"), "-o", out], check=True, capture_output=True)
            return d.path, out
        return source, d.path
    if what == "chunks":  # a pattern of tokens twice: positions apart, values alike
        ids = tokens_of(d)
        return d.path, capture(bench, identifier, "b", d, d.path, ids=(ids + ids)[:40], dtype=d.pick("f32", "f64"))
    raise LookupError
