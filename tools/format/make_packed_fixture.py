#!/usr/bin/env python3
"""Writes testdata/packed/<scheme>/: packed weights as the published tools store them, and what they mean.

    tools/format/make_packed_fixture.py [FOLDER]

Each folder holds model.safetensors (the packed tensors, and `expected.<name>` in f32) and config.json.
Here the weights are packed from known integers, value by value, from the formats' descriptions; the
expectation never goes through an unpacker. Needs numpy, safetensors and torch.
"""
import json
import sys
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def pack(values, bits):
    """Non-negative integers [n, m] packed along the first axis: a stream of 32-bit words per column."""
    n, m = values.shape
    words = numpy.zeros(((n * bits + 31) // 32, m), dtype=numpy.uint64)
    for i in range(n):
        word, shift = divmod(i * bits, 32)
        wide = values[i].astype(numpy.uint64) << numpy.uint64(shift)
        words[word] |= wide & numpy.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[word + 1] |= wide >> numpy.uint64(32)
    return torch.from_numpy(words.astype(numpy.uint32).view(numpy.int32).copy())


def scales(rng, *shape):
    return torch.from_numpy((rng.uniform(0.01, 0.5, shape)).astype(numpy.float16))


def gptq(rng, bits, v2):
    out, inputs, groups = 32, 64, 4
    q = rng.integers(0, 2**bits, (inputs, out))
    zero = rng.integers(0, 2**bits, (groups, out))
    zero[0, :3] = 0  # format 1 stores it as -1
    scale = scales(rng, groups, out)
    group = rng.permutation(numpy.arange(inputs) // (inputs // groups)).astype(numpy.int32)
    stored = zero if v2 else (zero - 1) % 2**bits
    expected = (q - zero[group]).T * scale.float().numpy()[group].T
    tensors = {"m.qweight": pack(q, bits), "m.qzeros": pack(stored.T, bits).T.contiguous(),
               "m.scales": scale, "m.g_idx": torch.from_numpy(group)}
    config = {"quant_method": "gptq", "bits": bits, "checkpoint_format": "gptq_v2" if v2 else "gptq"}
    return tensors, expected, config


def awq(rng):
    out, inputs, groups = 24, 32, 2
    q, zero = rng.integers(0, 16, (inputs, out)), rng.integers(0, 16, (groups, out))
    scale = scales(rng, groups, out)

    def words(values):
        result = numpy.zeros((values.shape[0], out // 8), dtype=numpy.uint32)
        for nibble, column in enumerate(AWQ_ORDER):
            result |= values[:, column::8].astype(numpy.uint32) << numpy.uint32(4 * nibble)
        return torch.from_numpy(result.view(numpy.int32).copy())

    group = numpy.arange(inputs) // (inputs // groups)
    expected = (q - zero[group]).T * scale.float().numpy()[group].T
    tensors = {"m.qweight": words(q), "m.qzeros": words(zero), "m.scales": scale}
    return tensors, expected, {"quant_method": "awq", "bits": 4}


def compressed(rng, bits, asymmetric):
    out, inputs, groups = 20, 40, 5  # 40 values of 4 bits: no whole number of anything but words
    half = 2 ** (bits - 1)
    q, zero = rng.integers(-half, half, (out, inputs)), rng.integers(-half, half, (out, groups))
    scale = torch.from_numpy(rng.uniform(0.01, 0.5, (out, groups)).astype(numpy.float32)).bfloat16()
    group = numpy.arange(inputs) // (inputs // groups)
    zeros = zero if asymmetric else 0 * zero
    expected = (q - zeros[:, group]) * scale.float().numpy()[:, group]
    tensors = {"m.weight_packed": pack((q + half).T, bits).T.contiguous(), "m.weight_scale": scale,
               "m.weight_shape": torch.tensor([out, inputs])}
    if asymmetric:
        tensors["m.weight_zero_point"] = pack(zero + half, bits)
    return tensors, expected, {"quant_method": "compressed-tensors", "format": "pack-quantized"}


def block_float8(rng):
    out, inputs = 132, 136  # blocks of 128 with short last ones
    weight = torch.from_numpy(rng.normal(0, 50, (out, inputs)).astype(numpy.float32)).to(torch.float8_e4m3fn)
    scale = torch.from_numpy(rng.uniform(0.01, 0.5, (2, 2)).astype(numpy.float32))
    wide = scale.numpy()[numpy.arange(out)[:, None] // 128, numpy.arange(inputs)[None, :] // 128]
    return {"m.weight": weight, "m.weight_scale_inv": scale}, weight.float().numpy() * wide, \
        {"quant_method": "fp8", "weight_block_size": [128, 128]}


def int8_rows(rng):
    weight = torch.from_numpy(rng.integers(-128, 128, (6, 10)).astype(numpy.int8))
    scale = torch.from_numpy(rng.uniform(0.01, 0.5, (6, 1)).astype(numpy.float32))
    return {"m.weight": weight, "m.weight_scale": scale}, weight.numpy() * scale.numpy(), \
        {"quant_method": "compressed-tensors", "format": "int-quantized"}


def mxfp4(rng):
    levels = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], numpy.float32)
    q = rng.integers(0, 16, (2, 3, 2, 32)).astype(numpy.uint8)  # two matrices of three rows of two groups
    scale = rng.integers(110, 140, (2, 3, 2)).astype(numpy.uint8)
    expected = levels[q] * numpy.exp2(scale.astype(numpy.float32) - 127)[..., None]
    blocks = q[..., 0::2] | q[..., 1::2] << 4
    return {"m_blocks": torch.from_numpy(blocks), "m_scales": torch.from_numpy(scale)}, expected.reshape(2, 3, 64), {"quant_method": "mxfp4"}


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "testdata/packed")
    rng = numpy.random.default_rng(7)
    cases = {f"gptq-{bits}bit": gptq(rng, bits, False) for bits in (2, 3, 4, 8)}
    cases |= {"gptq-v2": gptq(rng, 4, True), "awq": awq(rng), "fp8-block": block_float8(rng),
              "int8-rows": int8_rows(rng), "compressed-int4": compressed(rng, 4, False),
              "compressed-int4-zero": compressed(rng, 4, True), "compressed-int8": compressed(rng, 8, False)}
    cases["mxfp4"] = mxfp4(rng)
    for name, (tensors, expected, config) in cases.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors["expected"] = torch.from_numpy(numpy.ascontiguousarray(expected, numpy.float32))
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"quantization_config": config}) + "\n")


if __name__ == "__main__":
    main()
