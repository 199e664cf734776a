"""Models whose matrices several tensors hold (GPTQ, compressed-tensors, scaled 8 bits, MXFP4): sound ones, and what goes wrong in them."""

import numpy
import torch

import models
from case import Expect

SOURCES = {"healthy": "vllm-project/vllm#1334", "zeros": "vllm-project/vllm#38966", "swapped": "ggml-org/llama.cpp#7107", "scale": "huggingface/transformers#47145"}
BASES = ("llama-mha", "qwen3", "gemma3", "phi3", "mixtral", "olmo2", "granite", "starcoder2", "deepseek-v3")
GROUP = 16
VICTIM, PARTNER = "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"


def words(codes, bits):
    """Codes packed along the first axis, the first in the low bits."""
    each = 32 // bits
    out = numpy.zeros((codes.shape[0] // each, codes.shape[1]), numpy.uint32)
    for i in range(each):
        out |= codes[i::each].astype(numpy.uint32) << numpy.uint32(bits * i)
    return torch.from_numpy(out.view(numpy.int32).copy())


def compressed(bits):
    def pack(module, weight):
        out, inside = weight.shape
        groups = weight.reshape(out, -1, GROUP)
        half = 2 ** (bits - 1)
        scale = numpy.maximum(abs(groups).max(-1), 1e-8) / (half - 1)
        q = numpy.clip(numpy.round(groups / scale[..., None]), -half, half - 1).reshape(out, inside) + half
        return {f"{module}.weight_packed": words(q.T, bits).T.contiguous(), f"{module}.weight_scale": torch.from_numpy(scale.astype(numpy.float32)),
                f"{module}.weight_shape": torch.tensor([out, inside])}  # fmt: skip

    return pack


def gptq(module, weight):
    out, inside = weight.shape
    groups = weight.reshape(out, -1, GROUP)
    low, high = numpy.minimum(groups.min(-1), 0), numpy.maximum(groups.max(-1), 0)
    scale = (numpy.maximum(high - low, 1e-6) / 15).astype(numpy.float16)
    wide = scale.astype(numpy.float64)
    zero = numpy.clip(numpy.round(-low / wide), 0, 15)
    q = numpy.clip(numpy.round(groups / wide[..., None]) + zero[..., None], 0, 15).reshape(out, inside)
    return {f"{module}.qweight": words(q.T, 4), f"{module}.qzeros": words((zero - 1) % 16, 4).T.contiguous(), f"{module}.scales": torch.from_numpy(scale.T.copy()),
            f"{module}.g_idx": torch.arange(inside, dtype=torch.int32) // GROUP}  # fmt: skip


def float8(block):
    def pack(module, weight):
        rows = numpy.arange(weight.shape[0]) // block if block else numpy.arange(weight.shape[0])
        cols = numpy.arange(weight.shape[1]) // (block or weight.shape[1])
        largest = numpy.zeros((rows[-1] + 1, cols[-1] + 1))
        numpy.maximum.at(largest, (rows[:, None], cols[None, :]), abs(weight))
        scale = numpy.maximum(largest, 1e-8) / 448
        codes = torch.from_numpy(weight / scale[rows][:, cols]).float().to(torch.float8_e4m3fn)
        return {f"{module}.weight": codes, f"{module}.weight_scale{'_inv' if block else ''}": torch.from_numpy(scale.astype(numpy.float32))}

    return pack


def int8_rows(module, weight):
    scale = numpy.maximum(abs(weight).max(1, keepdims=True), 1e-8) / 127
    return {f"{module}.weight": torch.from_numpy(numpy.round(weight / scale).astype(numpy.int8)), f"{module}.weight_scale": torch.from_numpy(scale.astype(numpy.float32))}


SCHEMES = {"int4": (compressed(4), "compressed-tensors"), "int8": (compressed(8), "compressed-tensors"), "gptq": (gptq, "gptq"), "f8-rows": (float8(0), "compressed-tensors"),
           "f8-blocks": (float8(32), "fp8"), "i8-rows": (int8_rows, "compressed-tensors")}  # fmt: skip


def packed(model, scheme):
    """The model with its projections packed, where their sizes allow it."""
    pack, method = SCHEMES[scheme]
    out = model.copy()
    for name in list(model.tensors):
        module, value = name.removesuffix(".weight"), model.tensors[name]
        if not name.endswith("_proj.weight") or value.ndim != 2 or value.shape[1] % GROUP or value.shape[0] % 8:
            continue
        del out.tensors[name]
        out.tensors |= pack(module, value.double().numpy())
    out.config["quantization_config"] = {"quant_method": method, "bits": 8 if "8" in scheme else 4, "group_size": GROUP}
    return out


def mxfp4(model):
    """gpt-oss as it is published: blocks [experts, out, groups, 16]. None where rows are no whole groups; the values come with it."""
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    out, plain = model.copy(), model.copy()
    done = 0
    for name in [n for n in model.tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        value = model.tensors[name].float().transpose(1, 2).contiguous()
        if value.shape[2] % 32:
            continue
        groups = value.reshape(*value.shape[:2], -1, 32)
        exponent = torch.floor(torch.log2(groups.abs().amax(-1).clamp_min(1e-20))) - 2
        unit = torch.exp2(exponent)[..., None]
        q = ((groups / unit)[..., None] - levels).abs().argmin(-1).to(torch.uint8)
        plain.tensors[name] = (levels[q.long()] * unit).reshape(value.shape).transpose(1, 2).contiguous()
        del out.tensors[name]
        out.tensors |= {f"{name}_blocks": q[..., 0::2] | q[..., 1::2] << 4, f"{name}_scales": (exponent + 127).to(torch.uint8)}
        done += 1
    out.config["quantization_config"] = {"quant_method": "mxfp4"}
    return (plain, out) if done else (None, None)


def zeros_off(model):
    model.tensors[f"{VICTIM}.qzeros"] = model.tensors[f"{VICTIM}.qzeros"] ^ 0x11111111


def scaled(model):
    for end in ("weight_scale", "scales"):
        if f"{VICTIM}.{end}" in model.tensors:
            model.tensors[f"{VICTIM}.{end}"] = model.tensors[f"{VICTIM}.{end}"] * 1.5


def swapped(model):
    for name in [n for n in model.tensors if n.startswith(VICTIM + ".")]:
        other = PARTNER + name.removeprefix(VICTIM)
        model.tensors[name], model.tensors[other] = model.tensors[other], model.tensors[name]


def register(bench):
    for number, base in enumerate(BASES):
        path = models.folder(base)
        for scheme in [s for i, s in enumerate(SCHEMES) if path is not None and (i + number) % 2 == 0]:
            identifier = f"packed-{scheme}-{base}"
            if bench.wants(identifier):
                b = packed(models.Model.load(path), scheme).save(bench.place(identifier, "b"))
                bench.add(identifier, "healthy", SOURCES["healthy"], path, b)
    identifier, path = "packed-mxfp4-gpt-oss", models.folder("gpt-oss")
    plain, blocks = mxfp4(models.Model.load(path)) if path is not None and bench.wants(identifier) else (None, None)
    if plain is not None:
        bench.add(identifier, "healthy", SOURCES["healthy"], plain.save(bench.place(identifier, "a")), blocks.save(bench.place(identifier, "b")))
    faults = [("swapped", swapped, s, ["swapped_tensors"]) for s in ("int4", "gptq", "f8-rows")] + [("scale", scaled, s, ["scaled_tensor"]) for s in ("int8", "gptq", "i8-rows")]
    for name, change, scheme, causes in faults + [("zeros", zeros_off, "gptq", [])]:
        identifier, path = f"packed-fault-{name}-{scheme}", models.folder("llama-mha")
        if path is None or not bench.wants(identifier):
            continue
        model = packed(models.Model.load(path), scheme)
        change(model)
        bench.add(identifier, "weights", SOURCES[name], path, model.save(bench.place(identifier, "b")),
                  Expect(phase=["weights"], layer=[1], stage=["ffn_gate"], tensor=[VICTIM], causes=causes))  # fmt: skip
