#!/usr/bin/env python3
"""Packed weights as the published tools make them, against what the same tools decode them to.

    tools/format/packed_against_tools.py APR [--plant] [CASE...]

A tiny llama goes through compressed-tensors, MLX, bitsandbytes and AutoAWQ's and GPTQModel's ways to pack; `APR export` writes
what it reads as f32, and each weight must be the tool's own dequantised one. Needs torch and transformers, and of
compressed-tensors, mlx-cpu, bitsandbytes, autoawq and gptqmodel (the last two with `pip install --no-deps`, or their sources on
PYTHONPATH) those that are to be tried: an absent one is said to be skipped. --plant changes one stored byte of each case, which
must be noticed. Exit: 0 all as told, 1 a difference, 77 nothing to compare.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import LlamaConfig, LlamaForCausalLM
except ImportError as absent:
    print(f"{absent}: nothing can be compared")
    sys.exit(77)

TOLERANCE = 3e-7  # relative to the largest: one rounding more or less in f32


def tiny():
    torch.manual_seed(5)
    config = LlamaConfig(vocab_size=96, hidden_size=256, intermediate_size=384, num_hidden_layers=1, num_attention_heads=4,
                         num_key_value_heads=2, tie_word_embeddings=False, max_position_embeddings=64)
    return LlamaForCausalLM(config).float()


def linear_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name != "lm_head"]


class Folder:
    """What a case writes: stored tensors, config.json's addition, and what the weights mean."""

    def __init__(self):
        self.model = tiny()
        self.tensors = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.config = self.model.config.to_dict()
        self.expected = {}

    def weight(self, module):
        return self.tensors.pop(module + ".weight")


# compressed-tensors: the library packs a model and unpacks it again.

def extremes(weight, args):
    strategy = str(getattr(args.strategy, "value", args.strategy))
    if strategy == "tensor":
        return weight.amin().reshape(1), weight.amax().reshape(1)
    if strategy == "channel":
        return weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    if strategy == "block":
        height, width = args.block_structure
        rows, cols = -(-weight.shape[0] // height), -(-weight.shape[1] // width)
        padded = torch.zeros(rows * height, cols * width)
        padded[:weight.shape[0], :weight.shape[1]] = weight
        blocks = padded.reshape(rows, height, cols, width).permute(0, 2, 1, 3).reshape(rows, cols, -1)
        return blocks.amin(-1), blocks.amax(-1)
    groups = weight.reshape(weight.shape[0], -1, args.group_size)
    return groups.amin(-1), groups.amax(-1)


def calibrate(module, calculate_qparams, generate_gparam):
    weight, args = module.weight.data, module.quantization_scheme.weights
    least, most = extremes(weight, args)
    factor = None
    if hasattr(module, "weight_global_scale"):
        factor = generate_gparam(weight.amin(), weight.amax())
        module.weight_global_scale.data = factor.reshape(module.weight_global_scale.shape)
    scale, zero = calculate_qparams(least, most, args, global_scale=factor)
    module.weight_scale.data = scale.to(module.weight_scale.dtype).reshape(module.weight_scale.shape)
    if hasattr(module, "weight_zero_point"):
        module.weight_zero_point.data = zero.to(module.weight_zero_point.dtype).reshape(module.weight_zero_point.shape)


def compressed(scheme_of):
    def make():
        from compressed_tensors.compressors import ModelCompressor
        from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
        from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
        folder = Folder()
        config = QuantizationConfig(config_groups={"group_0": scheme_of()}, ignore=["lm_head"])
        apply_quantization_config(folder.model, config)
        for module in folder.model.modules():
            if getattr(module, "quantization_scheme", None) is not None:
                calibrate(module, calculate_qparams, generate_gparam)
        compressor = ModelCompressor.from_pretrained_model(folder.model)
        compressor.compress_model(folder.model)
        folder.tensors = {name: value.clone() for name, value in folder.model.state_dict().items()}
        settings = compressor.quantization_config.model_dump(mode="json")
        folder.config["quantization_config"] = settings | {"quant_method": "compressed-tensors"}
        compressor.decompress_model(folder.model)
        state = folder.model.state_dict()
        folder.expected = {name + ".weight": wide_nvfp4(folder.model.get_submodule(name), folder.tensors, name) if name + ".weight_global_scale" in folder.tensors
                           else state[name + ".weight"].float() for name in linear_names(folder.model)}
        return folder
    return make


def wide_nvfp4(module, tensors, name):
    """As the library, but for its rounding to bfloat16."""
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    packed = tensors[name + ".weight_packed"]
    codes = unpack_fp4_from_uint8(packed, packed.shape[0], 2 * packed.shape[1], dtype=torch.float32)
    return dequantize(x_q=codes, scale=tensors[name + ".weight_scale"].float(), args=module.quantization_scheme.weights,
                      global_scale=tensors[name + ".weight_global_scale"], dtype=torch.float32)


def preset(name):
    def scheme():
        from compressed_tensors.quantization import preset_name_to_scheme
        return preset_name_to_scheme(name, ["Linear"])
    return compressed(scheme)


def weights(**args):
    def scheme():
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
        return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args))
    return compressed(scheme)


# MLX: every matrix, the embedding too.

def mlx(bits, group, mode):
    def make():
        import mlx.core as mx
        folder = Folder()
        folder.config["quantization"] = {"group_size": group, "bits": bits, "mode": mode}
        for module in linear_names(folder.model) + ["model.embed_tokens"]:
            parts = mx.quantize(mx.array(folder.weight(module).numpy()), group_size=group, bits=bits, mode=mode)
            for part, value in zip(("weight", "scales", "biases"), parts):
                folder.tensors[f"{module}.{part}"] = torch.from_numpy(numpy.array(value))
            wide = mx.dequantize(*parts, group_size=group, bits=bits, mode=mode, dtype=mx.float32)
            folder.expected[module + ".weight"] = torch.from_numpy(numpy.array(wide))
        return folder
    return make


def mlx_mixed():
    """One module with bits of its own."""
    import mlx.core as mx
    folder = mlx(4, 64, "affine")()
    module = "model.layers.0.mlp.down_proj"
    plain = tiny().state_dict()[module + ".weight"]
    parts = mx.quantize(mx.array(plain.numpy()), group_size=32, bits=6)
    for part, value in zip(("weight", "scales", "biases"), parts):
        folder.tensors[f"{module}.{part}"] = torch.from_numpy(numpy.array(value))
    folder.config["quantization"][module] = {"group_size": 32, "bits": 6}
    folder.expected[module + ".weight"] = torch.from_numpy(numpy.array(mx.dequantize(*parts, group_size=32, bits=6)))
    return folder


# bitsandbytes.

def four_bit(kind, nested, blocksize=64):
    def make():
        import bitsandbytes.functional as bnb
        folder = Folder()
        folder.config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
        for module in linear_names(folder.model):
            packed, state = bnb.quantize_4bit(folder.weight(module), quant_type=kind, compress_statistics=nested, blocksize=blocksize)
            folder.tensors[module + ".weight"] = packed
            for name, part in state.as_dict(packed=True).items():
                folder.tensors[f"{module}.weight.{name}"] = part
            folder.expected[module + ".weight"] = bnb.dequantize_4bit(packed, state)
        return folder
    return make


def eight_bit():
    import bitsandbytes.functional as bnb
    folder = Folder()
    folder.config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    for module in linear_names(folder.model):
        codes, largest, _ = bnb.int8_vectorwise_quant(folder.weight(module).half())
        folder.tensors[module + ".weight"] = codes
        folder.tensors[module + ".SCB"] = largest.float()
        folder.tensors[module + ".weight_format"] = torch.tensor(0, dtype=torch.uint8)
        folder.expected[module + ".weight"] = bnb.int8_vectorwise_dequant(codes, largest.float()).float()
    return folder


# ModelOpt needs a GPU to run; its layout is compressed-tensors' with the global scale turned round.

def modelopt():
    folder = preset("NVFP4A16")()
    folder.config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    for module in linear_names(folder.model):
        folder.tensors[module + ".weight"] = folder.tensors.pop(module + ".weight_packed")
        folder.tensors[module + ".weight_scale_2"] = 1 / folder.tensors.pop(module + ".weight_global_scale").float().reshape(())
    return folder


# AutoAWQ and GPTQModel: of their packages only the files that pack and unpack; the rest wants a GPU or other versions.

def without_init(package, *folders):
    """Makes `package` importable without running what its __init__ files do."""
    import importlib.machinery
    import types
    spec = importlib.machinery.PathFinder.find_spec(package)
    if spec is None:
        raise ImportError(f"No module named '{package}'")
    root = Path(spec.submodule_search_locations[0])
    for folder in ("", *folders):
        module = types.ModuleType(".".join([package, *folder.split("/")]) if folder else package)
        module.__path__ = [str(root / folder)]
        sys.modules[module.__name__] = module


def asymmetric(weight, group, bits):
    groups = weight.reshape(weight.shape[0], -1, group)
    least, most = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    scale = ((most - least) / (2**bits - 1)).half().float()
    return scale, torch.round(-least / scale).clamp(0, 2**bits - 1)  # [out, groups]


def awq():
    without_init("awq", "utils", "modules", "modules/linear")
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm
    folder = Folder()
    folder.config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True}
    for module in linear_names(folder.model):
        linear = torch.nn.Linear(1, 1, bias=False)
        linear.weight = torch.nn.Parameter(folder.weight(module))
        linear.out_features, linear.in_features = linear.weight.shape
        scale, zero = asymmetric(linear.weight.data, 64, 4)
        g_idx = torch.arange(linear.in_features) // 64  # it packs what its search has rounded already
        linear.weight.data = ((linear.weight.data / scale[:, g_idx]).round() + zero[:, g_idx]).clamp(0, 15).sub(zero[:, g_idx]).mul(scale[:, g_idx])
        packed = WQLinear_GEMM.from_linear(linear, 4, 64, scales=scale.T.contiguous(), zeros=zero.T.contiguous())
        for part in ("qweight", "qzeros", "scales"):
            folder.tensors[f"{module}.{part}"] = getattr(packed, part)
        wide = dequantize_gemm(packed.qweight, packed.qzeros, packed.scales.float(), 4, 64)
        folder.expected[module + ".weight"] = wide.T.contiguous()
    return folder


def gptq(bits, form, order):
    """GPTQModel's fields: planes for 5, 6, 7 and gptq_p; format 1 from format 2 as its writer does."""
    def make():
        without_init("gptqmodel", "utils")
        from gptqmodel.utils.planar_packing import planar_pack_cols, planar_pack_rows
        folder = Folder()
        folder.config["quantization_config"] = {"quant_method": "gptq", "bits": bits, "group_size": 64, "checkpoint_format": form, "desc_act": order, "sym": False}
        for module in linear_names(folder.model):
            weight = folder.weight(module)
            if order:
                weight = weight[:, torch.randperm(weight.shape[1])]
            weight[::3, :64] = weight[::3, :64].abs()  # zero points of 0
            scale, zero = asymmetric(weight, 64, bits)
            g_idx = torch.arange(weight.shape[1]) // 64
            q = torch.round(weight / scale[:, g_idx] + zero[:, g_idx]).clamp(0, 2**bits - 1)
            if order:
                back = torch.randperm(weight.shape[1])
                q, g_idx = q[:, back], g_idx[back]
            folder.expected[module + ".weight"] = (q - zero[:, g_idx]) * scale[:, g_idx]
            qzeros = planar_pack_cols(zero.T.contiguous().int(), bits)
            if form == "gptq" and bits in (2, 4, 8):
                qzeros -= {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}[bits]
            elif form == "gptq":
                qzeros = planar_pack_cols((zero.T.contiguous().int() - 1) & (2**bits - 1), bits)
            folder.tensors |= {module + ".qweight": planar_pack_rows(q.T.contiguous().int(), bits), module + ".qzeros": qzeros,
                               module + ".scales": scale.T.contiguous().half(), module + ".g_idx": g_idx.int()}
        return folder
    return make


CASES = {name.lower(): preset(name) for name in (
    "W4A16", "W4A16_ASYM", "W8A16", "W8A8", "W4A8", "W2A16", "W3A16", "W5A16", "W6A16", "W7A16", "FP8", "FP8_DYNAMIC", "FP8_BLOCK",
    "NVFP4A16", "NVFP4", "MXFP4A16", "MXFP4", "MXFP6A16", "MXFP8A16")}
CASES |= {
    "int4-tensor": weights(num_bits=4, strategy="tensor", symmetric=True),
    "int8-tensor": weights(num_bits=8, strategy="tensor", symmetric=True),
    "int8-asymmetric": weights(num_bits=8, strategy="channel", symmetric=False),
    "int3-asymmetric": weights(num_bits=3, strategy="group", group_size=64, symmetric=False),
    "fp8-group": weights(num_bits=8, type="float", strategy="group", group_size=64, symmetric=True),
    "mlx-mixed": mlx_mixed,
    "nf4": four_bit("nf4", False), "nf4-nested": four_bit("nf4", True), "fp4-nested": four_bit("fp4", True),
    "nf4-256": four_bit("nf4", True, 256), "bnb-int8": eight_bit, "modelopt-nvfp4": modelopt, "awq": awq,
}
CASES |= {f"mlx-{bits}bit": mlx(bits, 64, "affine") for bits in (2, 3, 4, 5, 6, 8)}
CASES |= {f"gptq-{bits}bit": gptq(bits, "gptq", bits == 4) for bits in (2, 4, 5, 6, 7, 8)}
CASES |= {f"gptq-p-{bits}bit": gptq(bits, "gptq_p", False) for bits in (3, 5)} | {"gptq-v2": gptq(4, "gptq_v2", False)}
CASES |= {"mlx-4bit-32": mlx(4, 32, "affine"), "mlx-mxfp4": mlx(4, 32, "mxfp4"), "mlx-nvfp4": mlx(4, 16, "nvfp4"), "mlx-mxfp8": mlx(8, 32, "mxfp8")}


def plant(folder):
    """Another code in one weight."""
    module = "model.layers.0.mlp.up_proj"
    name = next(module + part for part in (".weight_packed", ".qweight", ".weight") if module + part in folder.tensors)
    stored = folder.tensors[name].contiguous()
    stored.view(torch.uint8).reshape(-1)[100] ^= 0x41
    folder.tensors[name] = stored


def compare(apr, folder, where):
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    save_file({name: value.contiguous() for name, value in folder.tensors.items()}, where / "model.safetensors", metadata={"format": "pt"})
    (where / "config.json").write_text(json.dumps(folder.config))
    out = where / "plain"
    run = subprocess.run([apr, "export", where, "--format", "safetensors", "--dtype", "f32", "-o", out], capture_output=True, text=True)
    if run.returncode != 0:
        return run.stderr.strip()
    got = {name: value for part in out.glob("*.safetensors") for name, value in load_file(part).items()}
    worst = 0.0
    for name, expected in folder.expected.items():
        if name not in got or got[name].shape != expected.shape:
            return f"{name} is missing or of another shape"
        off = ((got[name] - expected).abs().max() / expected.abs().max()).item()
        if not off <= TOLERANCE:
            return f"{name} is off by {off:.2e} of its largest"
        worst = max(worst, off)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("apr")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--plant", action="store_true")
    options = parser.parse_args()
    failures = run = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases or CASES:
            try:
                case = CASES[name]()
            except ImportError as absent:
                print(f"skipped {name}: {absent}")
                continue
            if options.plant:
                plant(case)
            result = compare(options.apr, case, Path(folder) / name)
            good = isinstance(result, float) != options.plant
            failures += not good
            run += 1
            print(f"{'ok  ' if good else 'FAIL'} {name}: {f'{len(case.expected)} weights, off by {result:.1e} at most' if isinstance(result, float) else result}", flush=True)
    print(f"{run} cases, {failures} failures")
    return 77 if run == 0 else 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
