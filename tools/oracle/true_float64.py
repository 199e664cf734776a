"""Runs a transformers model in true float64.

`model.double()` is not enough. transformers casts to float32 inside a model that is float64 everywhere else: norms
(LlamaRMSNorm.forward in models/llama/modeling_llama.py), softmax (`dtype=torch.float32` in every
eager_attention_forward), the angles of rope (`position_ids.float()` and `inv_freq`, made in float32 when the model is
built), routers (`router_logits.float()` in models/mixtral/modeling_mixtral.py), and constants such as Gemma's
embedding scale. Each cast costs about 1e-7, which is what a reference must not have.

`NarrowToFloat64` therefore removes float32 from the language instead of patching one architecture after another: while
it is active, every cast or dtype argument that names a narrower float means float64. `Float64Guard` proves that it
worked: it sees every operator that PyTorch executes and raises when one of them returns a narrower float.
"""

import contextlib

import torch
import transformers
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NARROW = (torch.float32, torch.float16, torch.bfloat16)
CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)


def _widen(value):
    return torch.float64 if isinstance(value, torch.dtype) and value in NARROW else value


class NarrowToFloat64(TorchFunctionMode):
    """Every request for a float narrower than float64 becomes one for float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in CASTS:
            return args[0].double()
        return func(*map(_widen, args), **{key: _widen(value) for key, value in (kwargs or {}).items()})


class Float64Guard(TorchDispatchMode):
    """Raises when an executed operator returns a float tensor that is not float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.dtype != torch.float64:
                raise TypeError(f"{func} returned {leaf.dtype} in a float64 run")
        return out


@contextlib.contextmanager
def true_float64():
    """Inside, new tensors and casts are float64, and an operator that is not raises TypeError."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Float64Guard(), NarrowToFloat64():
            yield
    finally:
        torch.set_default_dtype(before)


def widen_model(model):
    """A float64 model with the weights of `model`.

    It is built anew under true_float64, not cast, so that buffers that no file stores (inverse frequencies, scales) are
    computed in float64 too. Run it under true_float64 as well."""
    config = type(model.config).from_dict(model.config.to_dict())
    with true_float64():
        wide = type(model)._from_config(config, dtype=torch.float64, **EAGER)
    # Copying widens each stored value exactly; it reads float32, so it happens outside the guard. strict: a weight that
    # only one of the two models has would otherwise keep its random initial value.
    wide.load_state_dict(model.state_dict(), strict=True)
    return wide.eval()


# The plain formulas of transformers: no fused attention, no grouped product over experts.
EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}


def load(path, dtype, attention="eager"):
    """The model at `path`; dtype is "f64" (true float64), "f32", "bf16" or "f16"; attention as transformers names it."""
    narrow = {"f64": torch.float32, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    kinds = EAGER | {"attn_implementation": attention}
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=narrow, **kinds).eval()
    return widen_model(model) if dtype == "f64" else model


def precision_context(dtype):
    """What a forward pass of load(path, dtype) must run under."""
    return true_float64() if dtype == "f64" else contextlib.nullcontext()
