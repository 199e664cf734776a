#!/usr/bin/env python3
"""Errors of this project's encoders over those of ggml's, on the same values, with and without an importance matrix.

    against_ggml.py --apr build/release/apr [--library libllama.so] [--rows 64] [--seed 1]

Values: Gaussian, heavy-tailed (Student t with 4 degrees of freedom) and, below APR_REAL_MODELS, rows of the first matrix of
real models as far as their types hold it. Importance: log-normal with sigma 1.5; with it two ratios stand, of the errors weighted
by it and of the plain ones. A ratio above 1 is a failure, but for the plain errors under importance: what both then
minimise is another sum. Q4_0 to Q8_0 without importance must have ggml's very bytes.
Exit: 0 every ratio at most 1, 1 one above, 77 no library of ggml (pip install xllamacpp) or no gguf package.
"""

import argparse
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "oracle"))
try:
    import gguf
    import numpy

    import libllama

    FILES, SOURCE = libllama.find_library(None)
except (ImportError, ValueError) as problem:
    print(problem)
    sys.exit(77)

SAME_BYTES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
SEARCHED = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4")
COLS = 2048
SLACK = 1 + 1e-9  # of equal results summed otherwise


class Ggml:
    def __init__(self, library):
        files = [library] if library else FILES
        loaded = [ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL) for file in files]
        self.chunk = next(lib.ggml_quantize_chunk for lib in loaded if hasattr(lib, "ggml_quantize_chunk"))
        self.chunk.restype = ctypes.c_size_t
        self.chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]

    def encode(self, kind, values, importance):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        out = numpy.zeros((len(values), COLS // block * size), numpy.uint8)
        pointer = None if importance is None else importance.ctypes.data
        self.chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, len(values), COLS, pointer)
        return out


def write_values(path, sets):
    writer = gguf.GGUFWriter(path, "llama")
    for number, values in enumerate(sets.values()):
        writer.add_tensor(f"blk.{number}.ffn_down.weight", values)
    finish(writer)


def write_importance(path, sets, importance):
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_string("general.type", "imatrix")
    for number in range(len(sets)):
        writer.add_tensor(f"blk.{number}.ffn_down.weight.in_sum2", importance.reshape(1, -1))
        writer.add_tensor(f"blk.{number}.ffn_down.weight.counts", numpy.ones((1, 1), numpy.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def encode_ours(apr, scratch, kind, imatrix):
    out = scratch / "out.gguf"
    command = [apr, "quantize", scratch / "values.gguf", "-s", "F32", "--tensor-type", f"ffn_down={kind.name}", "-o", out, "--force"]
    done = subprocess.run(command + (["--imatrix", imatrix] if imatrix else []), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    tensors = {t.name: t for t in gguf.GGUFReader(out).tensors}
    return [tensors[f"blk.{n}.ffn_down.weight"].data for n in range(len(tensors))]


def real_rows(rows):
    found = {}
    for path in sorted(pathlib.Path(os.environ.get("APR_REAL_MODELS", "/nonexistent")).rglob("*.gguf")):
        tensor = next(t for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2 and int(t.shape.prod()) >= 2 * rows * COLS)
        every = len(tensor.data) // (2 * rows * COLS // int(tensor.shape[0])) or 1
        values = gguf.dequantize(tensor.data[::every], tensor.tensor_type).reshape(-1)
        # Stored codes lie on a grid that an encoder finds again or not: a little noise takes them off it.
        values = values * (1 + 0.02 * numpy.random.default_rng(5).standard_normal(values.shape))
        found[path.name[:12]] = numpy.ascontiguousarray(values[: rows * COLS].reshape(rows, COLS), numpy.float32)
    return found


def errors(kind, data, values, importance):
    miss = (gguf.dequantize(data, kind).astype(numpy.float64) - values) ** 2
    return float(miss.sum()), float((miss * importance).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--apr", required=True)
    parser.add_argument("--library", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = numpy.random.default_rng(args.seed)
    sets = {"gaussian": rng.standard_normal((args.rows, COLS)).astype(numpy.float32),
            "heavy tail": rng.standard_t(4, (args.rows, COLS)).astype(numpy.float32), **real_rows(args.rows)}
    importance = rng.lognormal(0, 1.5, COLS).astype(numpy.float32)
    ggml, failures = Ggml(args.library), 0
    print(f"{'':8}" + "".join(f"{name:>26}" for name in sets) + "   (plain; with importance: weighted / plain)")
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        write_values(scratch / "values.gguf", sets)
        write_importance(scratch / "imatrix.gguf", sets, importance)
        for name in (*SAME_BYTES, *SEARCHED):
            kind, row = gguf.GGMLQuantizationType[name], f"{name:8}"
            plain, weighted = (encode_ours(args.apr, scratch, kind, i) for i in (None, scratch / "imatrix.gguf"))
            for (_, values), ours, ours_weighted in zip(sets.items(), plain, weighted, strict=True):
                theirs, theirs_weighted = ggml.encode(kind, values, None), ggml.encode(kind, values, importance)
                if name in SAME_BYTES and not (ours == theirs).all():
                    failures += 1
                    row += " other bytes"
                ratio = errors(kind, ours, values, importance)[0] / errors(kind, theirs, values, importance)[0]
                a, b = errors(kind, ours_weighted, values, importance), errors(kind, theirs_weighted, values, importance)
                failures += (ratio > SLACK) + (b[1] > 0 and a[1] / b[1] > SLACK)
                row += f"{ratio:10.3f};{a[1] / b[1]:6.3f} /{a[0] / b[0]:6.3f}"
            print(row, flush=True)
    print(f"{failures} ratios above 1 (ggml of {SOURCE})")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
