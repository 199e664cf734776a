"""Named stages of a transformers decoder: where each one is tapped, in which order, and how it is written to files.

The names, the causal order and the layout are those that `apr bisect` and `apr trace` use:
  - token-major: a stage of width W over T tokens is [T, W]; heads lie side by side inside W, head 0 first;
  - attn_scores and attn_softmax are [heads, T, T];
  - qkv_matmul is the product itself, without bias; fused projections are written as all q, all k, all v;
  - q_post_rope and k_post_rope are what attention receives; attn_scores are after scale and soft cap, before the mask.

A tap copies a value and changes nothing. Modules are tapped with hooks; the inside of attention is tapped by watching
the operators that the model's own eager_attention_forward executes, so what is recorded is what was used.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable

import torch
import transformers
from torch.overrides import TorchFunctionMode

import aprt
from aprt import LAYER_STAGES, MODEL_STAGES

# --- Where the stages of an architecture are ---


@dataclasses.dataclass(frozen=True)
class Row:
    """Module paths of one architecture; `layers` and `final_norm` from the model, the others from a layer. None: the
    architecture has no such module. A module that exists only under some configs (a norm, a q/k norm) is tapped where
    it exists."""

    layers: str = "model.layers"
    final_norm: str = "model.norm"
    attn: str = "self_attn"
    # q, k, v or one fused projection; empty: latent attention, which has no such product.
    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    # A fused projection whose rows are [head][q, k, v] instead of [q, k, v][head].
    qkv_by_head: bool = False
    q_norm: str | None = None
    k_norm: str | None = None
    # Axis of the heads in what q_norm returns: 1 in [1, H, T, D], 2 in [1, T, H, D], None in [1, T, H * D].
    qk_norm_heads: int | None = None
    attn_norm: str | None = "input_layernorm"
    post_attn_norm: str | None = None
    ffn_norm: str | None = "post_attention_layernorm"
    post_ffn_norm: str | None = None
    # Both sub-layers read the layer's input, so that no residual stands between them.
    parallel: Callable = lambda config: False
    mlp: str = "mlp"
    gate: str | None = "gate_proj"
    up: str | None = "up_proj"
    gate_up: str | None = None  # fused, gate first
    act: str = "act_fn"
    down: str = "down_proj"
    router: str = "gate"  # in a layer with experts; returns (logits, weights, indices)


LLAMA = Row()
QWEN3 = Row(q_norm="q_norm", k_norm="k_norm", qk_norm_heads=2)
SANDWICH = Row(
    post_attn_norm="post_attention_layernorm",
    ffn_norm="pre_feedforward_layernorm",
    post_ffn_norm="post_feedforward_layernorm",
)
POST_NORM = Row(
    attn_norm=None,
    post_attn_norm="post_attention_layernorm",
    ffn_norm=None,
    post_ffn_norm="post_feedforward_layernorm",
    q_norm="q_norm",
    k_norm="k_norm",
)
PHI3 = Row(qkv=("qkv_proj",), gate=None, up=None, gate_up="gate_up_proj", act="activation_fn")
COHERE = Row(ffn_norm=None, parallel=lambda config: True, q_norm="q_norm", k_norm="k_norm", qk_norm_heads=2)
LATENT = Row(qkv=())

# Keyed by config.model_type; the module names are those of transformers, models/<type>/modeling_<type>.py.
TABLE = {
    "arcee": dataclasses.replace(LLAMA, gate=None),
    "cohere": COHERE,
    "cohere2": dataclasses.replace(COHERE, q_norm=None, k_norm=None),
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "gemma": LLAMA,
    "gemma2": SANDWICH,
    "gemma3_text": dataclasses.replace(SANDWICH, q_norm="q_norm", k_norm="k_norm", qk_norm_heads=1),
    "glm": dataclasses.replace(PHI3, qkv=("q_proj", "k_proj", "v_proj")),
    "gpt2": Row(
        layers="transformer.h", final_norm="transformer.ln_f", attn="attn", qkv=("c_attn",), attn_norm="ln_1",
        ffn_norm="ln_2", gate=None, up="c_fc", act="act", down="c_proj",
    ),
    "gpt_neox": Row(
        layers="gpt_neox.layers", final_norm="gpt_neox.final_layer_norm", attn="attention", qkv=("query_key_value",),
        qkv_by_head=True, parallel=lambda config: config.use_parallel_residual, gate=None, up="dense_h_to_4h",
        act="act", down="dense_4h_to_h",
    ),
    "gpt_oss": dataclasses.replace(LLAMA, router="router"),
    "granite": LLAMA,
    "helium": LLAMA,
    "llama": LLAMA,
    "ministral": LLAMA,
    "mistral": LLAMA,
    "mixtral": LLAMA,
    "nemotron": dataclasses.replace(LLAMA, gate=None),
    "olmo": LLAMA,
    "olmo2": POST_NORM,
    "olmo3": POST_NORM,
    "olmoe": Row(q_norm="q_norm", k_norm="k_norm"),
    "phi": Row(
        final_norm="model.final_layernorm", ffn_norm=None, parallel=lambda config: True, q_norm="q_layernorm",
        k_norm="k_layernorm", qk_norm_heads=1, gate=None, up="fc1", act="activation_fn", down="fc2",
    ),
    "phi3": PHI3,
    "qwen2": LLAMA,
    "qwen2_moe": LLAMA,
    "qwen3": QWEN3,
    "qwen3_moe": QWEN3,
    "seed_oss": LLAMA,
    "smollm3": LLAMA,
    "stablelm": Row(
        parallel=lambda config: config.use_parallel_residual, q_norm="q_layernorm", k_norm="k_layernorm",
        qk_norm_heads=1,
    ),
    "starcoder2": Row(gate=None, up="c_fc", act="act", down="c_proj"),
}  # fmt: skip


def _child(module, path):
    """The submodule at `path`, or None where path is None or this config has no such module."""
    for name in (path or "").split("."):
        module = getattr(module, name, None) if name else None
    return module


# --- Inside attention ---


class _ScoreWatch(TorchFunctionMode):
    """Finds the scores inside an eager attention function: the last [1, H, T, S] value before the mask is applied to it
    or, without a mask, before softmax (or the concatenation of attention sinks) reads it. That holds for any order of
    scale and soft cap, and for functions that slice the mask first."""

    def __init__(self, shape, mask):
        super().__init__()
        self.shape, self.last, self.scores = shape, None, None
        self.masks = [mask] if mask is not None else []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        operands = [*args, *kwargs.values()]
        if args and isinstance(args[0], (list, tuple)):
            operands += args[0]
        reads_scores = any(value is self.last for value in operands) if self.last is not None else False
        reads_mask = any(value is mask for value in operands for mask in self.masks)
        ends = reads_mask or getattr(func, "__name__", "") in ("softmax", "cat")
        if self.scores is None and reads_scores and ends:
            self.scores = self.last.detach().clone()
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor):
            if reads_mask and not reads_scores:
                self.masks.append(out)
            elif self.scores is None and out.is_floating_point() and tuple(out.shape) == self.shape:
                self.last = out
        return out


# --- Tapping ---


def _rows(value):
    """[1, T, ...] or [T, ...] to [T, W]."""
    value = value[0] if value.dim() > 2 and value.shape[0] == 1 else value
    return value.reshape(value.shape[0], -1)


def _heads_side_by_side(value):
    """[1, H, T, D] to [T, H * D]."""
    return _rows(value.transpose(1, 2))


class Capture:
    """The stages of one forward pass over one sequence: `with Capture(model) as taps: model(...)`, then taps.stages()."""

    def __init__(self, model):
        kind = model.config.model_type
        if kind not in TABLE:
            raise ValueError(f"no table row for model_type {kind!r}; rows exist for: {', '.join(sorted(TABLE))}")
        self.model, self.row = model, TABLE[kind]
        self.values = {}
        self.layers = list(_child(model, self.row.layers))
        self.attentions = {id(_child(layer, self.row.attn)): n for n, layer in enumerate(self.layers)}
        self._undo = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            for index, layer in enumerate(self.layers):
                for handle in self._tap_layer(index, layer):
                    undo.callback(handle.remove)
            undo.callback(_child(self.model, self.row.final_norm).register_forward_hook(
                lambda module, args, out: self._store(None, "final_norm", _rows(out))).remove)
            undo.callback(self.model.register_forward_hook(
                lambda module, args, out: self._store(None, "lm_head", _rows(out.logits))).remove)
            self._tap_attention(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error):
        return self._undo.__exit__(*error)

    def _store(self, layer, stage, value):
        key = (layer, stage)
        if key in self.values:
            raise RuntimeError(f"stage {stage} of layer {layer} was computed twice: one forward pass per Capture")
        self.values[key] = value.detach().clone()

    def _tap_attention(self, undo):
        if self.model.config._attn_implementation != "eager":
            self._tap_fused_attention(undo, self.model.config._attn_implementation)
            return
        # Every attention class looks eager_attention_forward up in its own module at the time of the call.
        homes = {type(_child(layer, self.row.attn)).__module__ for layer in self.layers}
        for home in map(sys.modules.get, homes):
            original = getattr(home, "eager_attention_forward", None)
            if original is None:
                raise ValueError(f"{home.__name__} has no eager_attention_forward to tap")

            def watched(module, query, key, value, attention_mask, *args, original=original, **kwargs):
                layer = self.attentions.get(id(module))
                if layer is None:  # another model of the same architecture
                    return original(module, query, key, value, attention_mask, *args, **kwargs)
                with _ScoreWatch((1, query.shape[1], query.shape[2], key.shape[2]), attention_mask) as watch:
                    out, weights = original(module, query, key, value, attention_mask, *args, **kwargs)
                if watch.scores is None:
                    raise RuntimeError(f"no attention scores seen in {home.__name__}.eager_attention_forward")
                self._store(layer, "q_post_rope", _heads_side_by_side(query))
                self._store(layer, "k_post_rope", _heads_side_by_side(key))
                self._store(layer, "attn_scores", watch.scores[0])
                self._store(layer, "attn_softmax", weights[0])
                self._store(layer, "attention", _rows(out))
                return out, weights

            home.eager_attention_forward = watched
            undo.callback(setattr, home, "eager_attention_forward", original)

    def _tap_fused_attention(self, undo, kind):
        """A fused attention function has no scores to show: what goes in and comes out is tapped."""
        functions = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS
        original = functions[kind]

        def watched(module, query, key, value, *args, **kwargs):
            out, weights = original(module, query, key, value, *args, **kwargs)
            layer = self.attentions.get(id(module))
            if layer is not None:
                self._store(layer, "q_post_rope", _heads_side_by_side(query))
                self._store(layer, "k_post_rope", _heads_side_by_side(key))
                self._store(layer, "attention", _rows(out))
            return out, weights

        functions[kind] = watched
        undo.callback(functions.__delitem__, kind)

    def _tap_layer(self, index, layer):
        row, parallel = self.row, self.row.parallel(self.model.config)
        attn, mlp = _child(layer, row.attn), _child(layer, row.mlp)
        router = _child(mlp, row.router) if hasattr(mlp, "experts") else None

        def output(module, stage, shape=_rows):
            """Taps what the module returns (its first value, where it returns several)."""
            if module is None:
                return
            yield module.register_forward_hook(lambda module, args, out: self._store(
                index, stage, shape(out[0] if isinstance(out, tuple) else out)))

        def entry(module, stage):
            """Taps what the module receives."""
            yield module.register_forward_pre_hook(
                lambda module, args, kwargs: self._store(
                    index, stage, _rows(args[0] if args else kwargs["hidden_states"])),
                with_kwargs=True)

        if index == 0:
            yield from entry(layer, "embedding")
        yield from output(_child(layer, row.attn_norm), "attn_norm")
        yield from self._tap_qkv(index, attn)
        norm_shape = _heads_side_by_side if row.qk_norm_heads == 1 else _rows
        yield from output(_child(attn, row.q_norm), "q_norm", norm_shape)
        yield from output(_child(attn, row.k_norm), "k_norm", norm_shape)
        yield from output(attn, "attn_out")
        yield from output(_child(layer, row.post_attn_norm), "post_attn_norm")
        ffn_norm = _child(layer, row.ffn_norm)
        if not parallel:
            yield from entry(ffn_norm if ffn_norm is not None else mlp, "post_attn_residual")
        yield from output(ffn_norm, "ffn_norm")
        yield from output(mlp, "ffn_out" if router is None else "moe_ffn_out")
        yield from output(_child(layer, row.post_ffn_norm), "post_ffn_norm")
        yield from output(layer, "post_ffn_residual")
        if router is None:
            yield from output(_child(mlp, row.gate), "ffn_gate")
            yield from output(_child(mlp, row.up), "ffn_up")
            if row.gate_up:
                gate_up = _child(mlp, row.gate_up)
                yield from output(gate_up, "ffn_gate", lambda value: _rows(value).chunk(2, dim=-1)[0])
                yield from output(gate_up, "ffn_up", lambda value: _rows(value).chunk(2, dim=-1)[1])
            yield from output(_child(mlp, row.act), "ffn_silu")
            if row.gate or row.gate_up:
                yield from entry(_child(mlp, row.down), "ffn_swigl")
        else:
            for place, stage in enumerate(("moe_router_logits", "moe_router", "moe_router_indices")):
                yield router.register_forward_hook(
                    lambda module, args, out, place=place, stage=stage: self._store(index, stage, _rows(out[place])))

    def _tap_qkv(self, index, attn):
        parts = {}

        def tap(module, args, out, name):
            # A fused addmm gives no product to copy, so it is computed once more without the bias. transformers'
            # Conv1D (pytorch_utils.py) stores [in, out], torch's Linear [out, in].
            product = out
            if module.bias is not None:
                is_conv = type(module).__name__ == "Conv1D"
                product = args[0] @ module.weight if is_conv else torch.nn.functional.linear(args[0], module.weight)
            # Cloned: OLMo's clip_qkv clamps in place what the projections return.
            parts[name] = (_rows(product).clone(), _rows(out).clone())
            if len(parts) == len(self.row.qkv):
                for place, stage in enumerate(("qkv_matmul", "qkv_bias")):
                    joined = torch.cat([parts[part][place] for part in self.row.qkv], dim=-1)
                    if self.row.qkv_by_head:
                        heads = self.model.config.num_attention_heads
                        joined = joined.view(joined.shape[0], heads, 3, -1).transpose(1, 2).reshape(joined.shape)
                    self._store(index, stage, joined)

        for name in self.row.qkv:
            yield _child(attn, name).register_forward_hook(
                lambda module, args, out, name=name: tap(module, args, out, name))

    def stages(self):
        """{name: tensor} in causal order; names as "layer-3/attn_norm", "final_norm"."""
        found = {}
        for layer in range(len(self.layers)):
            for stage in LAYER_STAGES:
                if (layer, stage) in self.values:
                    found[f"layer-{layer}/{stage}"] = self.values[layer, stage]
        for stage in MODEL_STAGES:
            found[stage] = self.values[None, stage]
        if len(found) != len(self.values):
            raise RuntimeError("a tap stored a stage that has no place in the causal order")
        return found


def run(model, ids, context=None):
    """(logits [T, V], stages) of one forward pass without a cache; `context` as precision_context gives it."""
    device = next(model.parameters()).device
    with torch.no_grad(), context or contextlib.nullcontext(), Capture(model) as taps:
        model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
    stages = taps.stages()
    return stages["lm_head"], stages


# --- Stage directories ---


def to_f32(value):
    """As a stage file stores it: float32, indices too."""
    return value.detach().to("cpu", torch.float32).contiguous()


def write_aprt(path, layer, value):
    aprt.write_aprt(path, layer, to_f32(value).numpy())


def write_directory(out, stages, **description):
    """As aprt.write_directory, of tensors."""
    aprt.write_directory(out, {name: to_f32(value).numpy() for name, value in stages.items()}, **description)
