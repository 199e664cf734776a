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


def planes(values, bits):
    """Non-negative integers [n, m] along the first axis, each 32 as planes of 4, 2 and 1 bits (GPTQModel's gptq_p)."""
    widths = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}[bits]
    words = []
    for run in range(0, values.shape[0], 32):
        offset = 0
        for width in widths:
            each = 32 // width
            for first in range(run, run + 32, each):
                word = numpy.zeros(values.shape[1], dtype=numpy.uint32)
                for k in range(each):
                    word |= (values[first + k] >> offset & (2**width - 1)).astype(numpy.uint32) << numpy.uint32(width * k)
                words.append(word)
            offset += width
    return torch.from_numpy(numpy.stack(words).view(numpy.int32).copy())


def gptq(rng, bits, form="gptq", borrow=False):
    """Codes lie around their zero points, as weights around 0 make them. `borrow`: format 1 as GPTQModel writes it, one taken
    from each field of a word at once; else from each field alone."""
    out, inputs, groups = (32, 32, 2) if borrow else (32, 64, 4)
    most = 2**bits - 1
    zero = rng.integers(1, most, (groups, out))
    zero[:, ::3] = 0 if bits < 8 or borrow else 1  # of 8 bits nothing tells the two ways apart
    group = rng.permutation(numpy.arange(inputs) // (inputs // groups)).astype(numpy.int32)
    q = numpy.clip(numpy.rint(zero[group] + rng.normal(0, most / 8, (inputs, out))), 0, most).astype(numpy.int64)
    scale = scales(rng, groups, out)
    expected = (q - zero[group]).T * scale.float().numpy()[group].T
    lay = planes if form == "gptq_p" or bits in (5, 6, 7) else pack
    stored = (zero - 1) % 2**bits if form == "gptq" and not borrow else zero
    qzeros = lay(stored.T, bits).T.contiguous()
    if borrow:
        words = qzeros.numpy().view(numpy.uint32)
        qzeros = torch.from_numpy((words - numpy.uint32(0xFFFFFFFF // most)).view(numpy.int32).copy())
    tensors = {"m.qweight": lay(q, bits), "m.qzeros": qzeros, "m.scales": scale, "m.g_idx": torch.from_numpy(group)}
    return tensors, expected, {"quant_method": "gptq", "bits": bits, "checkpoint_format": form}


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


E2M1 = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], numpy.float32)


def nvfp4(rng, modelopt):
    out, inputs = 6, 48
    q = rng.integers(0, 16, (out, inputs)).astype(numpy.uint8)
    scale = torch.from_numpy(rng.uniform(1, 400, (out, inputs // 16)).astype(numpy.float32)).to(torch.float8_e4m3fn)
    factor = numpy.float32(2.0**-9)  # a power of two: multiplying by it and dividing by its inverse are one
    expected = E2M1[q] * (scale.float().numpy() * factor).repeat(16, 1)
    codes = torch.from_numpy(q[:, 0::2] | q[:, 1::2] << 4)
    if modelopt:
        return {"m.weight": codes, "m.weight_scale": scale, "m.weight_scale_2": torch.tensor(factor)}, expected, {"quant_method": "modelopt"}
    return {"m.weight_packed": codes, "m.weight_scale": scale, "m.weight_global_scale": torch.tensor([1 / factor])}, expected, \
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}


def mxfp6(rng):
    out, inputs = 4, 64
    levels = numpy.array([m / 8 for m in range(8)] + [(1 + m / 8) * 2**e for e in range(3) for m in range(8)], numpy.float32)
    q = rng.integers(0, 64, (out, inputs))
    scale = rng.integers(110, 140, (out, inputs // 32)).astype(numpy.uint8)
    expected = numpy.concatenate([levels, -levels])[q] * numpy.exp2(scale.astype(numpy.float32) - 127).repeat(32, 1)
    codes = pack(q.T, 6).T.contiguous().view(torch.uint8)
    return {"m.weight_packed": codes, "m.weight_scale": torch.from_numpy(scale)}, expected, {"quant_method": "compressed-tensors", "format": "mxfp6-pack-quantized"}


def mlx(rng, bits):
    """Affine: code * scale + bias. Bits and group stand for the module alone; the others' would not fit."""
    out, inputs, group = 5, 96, 32
    q = rng.integers(0, 2**bits, (out, inputs))
    scale, bias = scales(rng, out, inputs // group), scales(rng, out, inputs // group) * -3
    expected = q * scale.float().numpy().repeat(group, 1) + bias.float().numpy().repeat(group, 1)
    codes = pack(q.T, bits).T.contiguous().view(torch.uint32)
    return {"m.weight": codes, "m.scales": scale, "m.biases": bias}, expected, {"group_size": 64, "bits": 4, "m": {"group_size": group, "bits": bits}}


def nf4(rng, nested):
    """Any 16 values; the first of two codes lies in the high half of a byte; scales are themselves bytes if nested."""
    out, inputs, block, outer = 12, 64, 128, 4
    q = rng.integers(0, 16, (out, inputs)).astype(numpy.uint8)
    table = numpy.sort(rng.uniform(-1, 1, 16)).astype(numpy.float32)
    scale = rng.uniform(0.1, 2, out * inputs // block).astype(numpy.float32)
    state = {"quant_type": "nf4", "blocksize": block, "dtype": "bfloat16", "shape": [out, inputs]}
    tensors = {}
    if nested:
        codes, meaning = rng.integers(0, 256, scale.size).astype(numpy.uint8), numpy.sort(rng.uniform(-1, 1, 256)).astype(numpy.float32)
        largest = rng.uniform(0.5, 1, -(-scale.size // outer)).astype(numpy.float32)
        state |= {"nested_blocksize": outer, "nested_dtype": "float32", "nested_offset": 0.25}
        scale = meaning[codes] * largest.repeat(outer)[:scale.size] + numpy.float32(0.25)
        tensors = {"m.weight.nested_absmax": torch.from_numpy(largest), "m.weight.nested_quant_map": torch.from_numpy(meaning)}
    text = numpy.frombuffer(json.dumps(state).encode(), dtype=numpy.uint8).copy()
    flat = q.reshape(-1)
    tensors |= {"m.weight": torch.from_numpy((flat[0::2] << 4 | flat[1::2]).reshape(-1, 1)), "m.weight.quant_map": torch.from_numpy(table),
                "m.weight.absmax": torch.from_numpy(codes if nested else scale), "m.weight.quant_state.bitsandbytes__nf4": torch.from_numpy(text)}
    return tensors, (table[flat] * scale.repeat(block)).reshape(out, inputs), {"quant_method": "bitsandbytes"}


def int8_largest(rng):
    """bitsandbytes: 127 stands for the largest of a row."""
    weight, largest = torch.from_numpy(rng.integers(-127, 128, (6, 10)).astype(numpy.int8)), rng.uniform(0.01, 0.5, 6).astype(numpy.float32)
    expected = weight.numpy() * (largest * numpy.float32(1 / 127))[:, None]
    return {"m.weight": weight, "m.SCB": torch.from_numpy(largest), "m.weight_format": torch.tensor(0, dtype=torch.uint8)}, expected, {"quant_method": "bitsandbytes"}


def int8_zero(rng):
    weight, zero = rng.integers(-128, 128, (6, 10)).astype(numpy.int8), rng.integers(-128, 128, (6, 1)).astype(numpy.int8)
    scale = rng.uniform(0.01, 0.5, (6, 1)).astype(numpy.float32)
    expected = (weight.astype(numpy.float32) - zero) * scale
    return {"m.weight": torch.from_numpy(weight), "m.weight_scale": torch.from_numpy(scale), "m.weight_zero_point": torch.from_numpy(zero)}, expected, \
        {"quant_method": "compressed-tensors", "format": "int-quantized"}


def mxfp8(rng):
    weight = torch.from_numpy(rng.normal(0, 50, (3, 64)).astype(numpy.float32)).to(torch.float8_e4m3fn)
    scale = rng.integers(110, 140, (3, 2)).astype(numpy.uint8)
    expected = weight.float().numpy() * numpy.exp2(scale.astype(numpy.float32) - 127).repeat(32, 1)
    return {"m.weight": weight, "m.weight_scale": torch.from_numpy(scale)}, expected, {"quant_method": "compressed-tensors", "format": "mxfp8-quantized"}


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "testdata/packed")
    rng = numpy.random.default_rng(7)
    cases = {f"gptq-{bits}bit": gptq(rng, bits) for bits in (2, 3, 4, 8)}
    cases |= {"gptq-v2": gptq(rng, 4, "gptq_v2"), "awq": awq(rng), "fp8-block": block_float8(rng),
              "int8-rows": int8_rows(rng), "compressed-int4": compressed(rng, 4, False),
              "compressed-int4-zero": compressed(rng, 4, True), "compressed-int8": compressed(rng, 8, False)}
    cases["mxfp4"] = mxfp4(rng)
    cases |= {f"gptq-{bits}bit-borrow": gptq(rng, bits, borrow=True) for bits in (2, 4, 8)}
    cases |= {"gptq-5bit": gptq(rng, 5), "gptq-6bit": gptq(rng, 6), "gptq-7bit": gptq(rng, 7), "gptq-planes": gptq(rng, 3, "gptq_p")}
    cases |= {f"compressed-int{bits}": compressed(rng, bits, bits == 5) for bits in (2, 3, 5, 6, 7)}
    cases |= {"nvfp4": nvfp4(rng, False), "nvfp4-modelopt": nvfp4(rng, True), "mxfp6": mxfp6(rng), "mxfp8": mxfp8(rng)}
    cases |= {f"mlx-{bits}bit": mlx(rng, bits) for bits in (2, 3, 4, 5, 6, 8)}
    cases |= {"nf4": nf4(rng, False), "nf4-nested": nf4(rng, True), "int8-largest": int8_largest(rng), "int8-zero": int8_zero(rng)}
    for name, (tensors, expected, config) in cases.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors["expected"] = torch.from_numpy(numpy.ascontiguousarray(expected, numpy.float32))
        save_file(tensors, folder / "model.safetensors")
        key = "quantization" if name.startswith("mlx") else "quantization_config"
        (folder / "config.json").write_text(json.dumps({key: config}) + "\n")


if __name__ == "__main__":
    main()
