"""PyTorch with a planted mistake: a changed constant, or a changed function inside the model, captured as stages.

A patch is a context manager over the loaded model. Those in `inside` act below the taps (what is recorded is what the
faulty engine computed); those in `around` change what attention is given, so that q and k are recorded as changed."""

import contextlib
import sys

import torch
import transformers
from safetensors.torch import load_file

import models  # noqa: F401  (puts tools/oracle on the path)
import stages
import true_float64

TORCH_TYPES = {"f32": torch.float32, "f64": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)


def load(path, dtype="f32", change=None, attention=None):
    """The model at `path`, its configuration changed by change(config) before it is built."""
    if attention is not None:
        return true_float64.load(path, dtype, attention)
    if change is None:
        return true_float64.load(path, dtype)
    config = transformers.AutoConfig.from_pretrained(path)
    change(config)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, config=config, dtype=TORCH_TYPES[dtype], **true_float64.EAGER).eval()
    return true_float64.widen_model(model) if dtype == "f64" else model


def sequence(path, name="short", limit=None):
    return load_file(path / "expected.safetensors")[f"ids.{name}"].tolist()[:limit]


def run(model, ids, dtype="f32", inside=(), around=(), positions=None):
    extra = {} if positions is None else {"position_ids": torch.tensor([positions])}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for patch in inside:
            stack.enter_context(patch(model))
        stack.enter_context(true_float64.precision_context(dtype))
        taps = stack.enter_context(stages.Capture(model))
        for patch in around:
            stack.enter_context(patch(model))
        model(input_ids=torch.tensor([list(ids)]), use_cache=False, **extra)
    return taps.stages()


def write(out, found, path, kind, ids, dtype="f32", precision=None, engine="faulty engine 1.0"):
    accumulate = "f64" if dtype == "f64" else "f32"
    stages.write_directory(out, found, engine=engine, model=str(path.name), architecture=kind,
                           precision=precision or {"weights": dtype, "activations": dtype, "accumulate": accumulate}, ids=ids)
    return out


# --- Patches ---


def home(model):
    """The module that holds the model's attention function and rope."""
    row = stages.TABLE[model.config.model_type]
    layer = stages._child(model, row.layers)[0]
    return sys.modules[type(stages._child(layer, row.attn)).__module__]


@contextlib.contextmanager
def replaced(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def function(name, make):
    """Replaces a function of the model's module by make(original)."""
    return lambda model: replaced(home(model), name, make(getattr(home(model), name)))


def attention(make):
    """Replaces the attention function by make(original)."""
    return function("eager_attention_forward", make)


def output_of(path, change):
    """Changes what a submodule returns."""

    def patch(model):
        renamed = path == "embed_out" and not hasattr(model, path)  # GPT-NeoX: the files keep the name of older versions
        handle = model.get_submodule("lm_head" if renamed else path).register_forward_hook(lambda module, args, out: change(out))
        return _undo(handle.remove)

    return patch


def input_of(kind, change):
    """Changes what every submodule of a class receives."""

    def patch(model):
        found = [m for m in model.modules() if isinstance(m, kind)]
        handles = [m.register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:])) for m in found]
        return _undo(lambda: [handle.remove() for handle in handles])

    return patch


@contextlib.contextmanager
def _undo(function):
    try:
        yield
    finally:
        function()


def without_bias(pattern):
    """The engine does not add the biases whose module path ends in one of `pattern`."""

    def patch(model):
        hit = [m for name, m in model.named_modules() if name.endswith(pattern) and getattr(m, "bias", None) is not None]
        if not hit:
            raise ValueError(f"no bias at {pattern}")
        for module in hit:
            module.bias.data.zero_()
        return contextlib.nullcontext()

    return patch


def shifted_norms(pattern, by):
    def patch(model):
        hit = [m for name, m in model.named_modules() if name.endswith(pattern) and hasattr(m, "weight")]
        if not hit:
            raise ValueError(f"no norm at {pattern}")
        for module in hit:
            module.weight.data += by
        return contextlib.nullcontext()

    return patch


def without_norm(paths):
    """Norms that hand their input on."""

    def patch(model):
        stack = contextlib.ExitStack()
        for path in paths:
            parent, _, name = path.rpartition(".")
            stack.enter_context(replaced(model.get_submodule(parent), name, torch.nn.Identity()))
        return stack

    return patch


def adjacent(original):
    """Rotates elements 2i and 2i + 1 together instead of i and i + D/2."""

    def apply(q, k, cos, sin, *args, **kwargs):
        half = cos.shape[-1] // 2
        c, s = cos[..., :half].unsqueeze(1), sin[..., :half].unsqueeze(1)

        def turn(x):
            one, other = x[..., : 2 * half : 2], x[..., 1 : 2 * half : 2]
            turned = torch.stack((one * c - other * s, other * c + one * s), dim=-1).flatten(-2)
            return torch.cat((turned, x[..., 2 * half :]), dim=-1).to(x.dtype)

        return turn(q), turn(k)

    return apply


def no_rotation(original):
    return lambda q, k, *args, **kwargs: (q, k)


def scaled_rotation(factor):
    def make(original):
        def apply(q, k, *args, **kwargs):
            q, k = original(q, k, *args, **kwargs)
            return q * factor, k * factor

        return apply

    return make


def narrow_angles(dtype):
    """Positions, frequencies and angles of the rope in a 16-bit type."""

    def patch(model):
        rotary = next(m for name, m in model.named_modules() if name.endswith("rotary_emb"))

        def forward(x, position_ids, *args):
            freqs = position_ids[..., None].to(dtype) * rotary.inv_freq.to(dtype)
            both = torch.cat((freqs, freqs), dim=-1)
            return both.cos().to(x.dtype), both.sin().to(x.dtype)

        return replaced(rotary, "forward", forward)

    return patch


def shifted_positions(by):
    """The rope of every layer starts `by` positions later."""

    def patch(model):
        rotary = next(m for name, m in model.named_modules() if name.endswith("rotary_emb"))
        original = rotary.forward
        return replaced(rotary, "forward", lambda x, position_ids, *args: original(x, position_ids + by, *args))

    return patch


def with_mask(change):
    """Attention sees change(mask): [1, 1, T, S], 0 or the lowest number."""

    def make(original):
        def forward(module, query, key, value, mask, *args, **kwargs):
            return original(module, query, key, value, change(mask, query, module), *args, **kwargs)

        return forward

    return attention(make)


def no_mask(mask, query, module):
    return torch.zeros_like(mask)


def loose_mask(mask, query, module):
    """Each token sees one token of its future."""
    t = query.shape[2]
    return torch.zeros_like(mask) + torch.full((t, t), torch.finfo(query.dtype).min, dtype=query.dtype).triu(2)


def strict_from(start):
    """Tokens from `start` on do not see themselves."""

    def change(mask, query, module):
        mask = mask.clone()
        rows = torch.arange(start, query.shape[2])
        mask[..., rows, rows] = torch.finfo(query.dtype).min
        return mask

    return change


def tiled_heads(original):
    """Query head h reads kv head h mod KV instead of h / (H / KV)."""
    return lambda states, n: states.repeat(1, n, 1, 1)


def stale(change):
    """Attention receives change(key, value): what an old cache holds."""

    def make(original):
        def forward(module, query, key, value, *args, **kwargs):
            key, value = change(key.clone(), value.clone())
            return original(module, query, key, value, *args, **kwargs)

        return forward

    return attention(make)


def scores_in(dtype):
    """q·k in a narrow type, without the scale: the overflow and rounding of half-precision kernels."""

    def make(original):
        def forward(module, query, key, value, mask, *args, **kwargs):
            scaling = kwargs.get("scaling", query.shape[-1] ** -0.5)
            groups = query.shape[1] // key.shape[1]
            keys, values = (x.repeat_interleave(groups, dim=1) for x in (key, value))
            product = torch.matmul(query.to(dtype).float(), keys.to(dtype).float().transpose(2, 3)).to(dtype)
            scores = product.float() * scaling
            shown = scores + mask if mask is not None else scores
            weights = torch.softmax(shown, dim=-1)
            return torch.matmul(weights, values).transpose(1, 2).contiguous(), weights

        return forward

    return attention(make)


def int8_blocks(x, block=32):
    """Activations as 8-bit blocks (ggml's q8_0): x rounded to 127 steps of the largest of 32 neighbours."""
    shape = x.shape
    pad = -shape[-1] % block
    wide = torch.nn.functional.pad(x, (0, pad)).unflatten(-1, (-1, block))
    scale = wide.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return ((wide / scale).round() * scale).flatten(-2)[..., : shape[-1]]


def narrow_inputs(dtype):
    return lambda x: x.to(dtype).to(x.dtype)


def router(make):
    """Replaces forward of every router by make(router, hidden) -> (logits, weights, indices)."""

    def patch(model):
        row = stages.TABLE[model.config.model_type]
        stack = contextlib.ExitStack()
        for layer in stages._child(model, row.layers):
            mlp = stages._child(layer, row.mlp)
            module = stages._child(mlp, row.router) if hasattr(mlp, "experts") else None
            if module is not None:
                stack.enter_context(replaced(module, "forward", lambda hidden, module=module: make(module, hidden)))
        return stack

    return patch


def _logits(module, hidden):
    return torch.nn.functional.linear(hidden.reshape(-1, module.weight.shape[1]), module.weight, getattr(module, "bias", None))


def softmax_after(module, hidden):
    logits = _logits(module, hidden)
    best, indices = torch.topk(logits, module.top_k, dim=-1)
    return logits, best.softmax(dim=-1), indices


def softmax_before(module, hidden):
    logits = _logits(module, hidden)
    best, indices = torch.topk(logits.softmax(dim=-1), module.top_k, dim=-1)
    return logits, best, indices


def raw_logits(module, hidden):
    logits = _logits(module, hidden)
    best, indices = torch.topk(logits, module.top_k, dim=-1)
    return logits, best, indices
