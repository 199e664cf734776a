#!/usr/bin/env python3
"""How often `apr diff --values` cries wolf over tensors that ggml quantised, and how often it misses planted damage.

    floor_rates.py --apr build/release/apr [--library libllama.so] [--healthy 200] [--faulty 20] [--seed 1]

Per type and distribution (Gaussian; Student t with 4 degrees of freedom; one column in 64 forty times as large):
tensors of 32 x 512 in F32 against the same stored by ggml's encoder (F16 and BF16 by rounding). Healthy ones that are called
different are false alarms; damaged ones that are called explained are misses. Damage is done to the values before they are stored,
so that only comparing can find it. Prints a table in Markdown. Exit: 0, 77 no library of ggml or no gguf package.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import against_ggml
import gguf
import numpy

ROWS, COLS = 32, 512
TYPES = ("F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS", "MXFP4")


def gaussian(random):
    return random.standard_normal((ROWS, COLS)) * 0.03


def heavy_tail(random):
    return random.standard_t(4, (ROWS, COLS)) * 0.02


def outliers(random):
    values = random.standard_normal((ROWS, COLS)) * 0.02
    values[:, ::64] *= 40
    return values


def element(values, random, sizes):
    values[random.integers(ROWS), random.integers(COLS)] += sizes * values.std()


def swap_rows(values, random, _):
    row = random.integers(ROWS - 1)
    values[[row, row + 1]] = values[[row + 1, row]]


def scale_row(values, random, factor):
    values[random.integers(ROWS)] *= factor


def scale(values, _, factor):
    values *= factor


def negate_run(values, random, _):
    at = 32 * random.integers(COLS // 32)
    values[random.integers(ROWS), at:at + 32] *= -1


def shift(values, _, columns):
    values[:] = numpy.roll(values, columns, axis=1)


FAULTS = {
    "an element + 1 sigma": (element, 1), "an element + 3 sigma": (element, 3), "a run of 32 negated": (negate_run, 0),
    "two rows swapped": (swap_rows, 0), "a row x 1.1": (scale_row, 1.1), "a row x 1.5": (scale_row, 1.5),
    "all x 1.02": (scale, 1.02), "all x 1.1": (scale, 1.1), "one column on": (shift, 1),
}


def store(ggml, kind, values):
    if kind == "F16":
        return values.astype(numpy.float16), None
    if kind == "BF16":
        bits = values.view(numpy.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return rounded.astype(numpy.uint16).view(numpy.uint8).reshape(ROWS, 2 * COLS), gguf.GGMLQuantizationType.BF16
    kind = gguf.GGMLQuantizationType[kind]
    return ggml.encode(kind, values, None), kind


def write(path, tensors):
    writer = gguf.GGUFWriter(path, "values")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    against_ggml.finish(writer)


def different(apr, folder, ggml, kind, cases):
    """Names of the cases (name, original, stored values) that apr calls different."""
    write(folder / "a.gguf", {name: (original, None) for name, original, _ in cases})
    write(folder / "b.gguf", {name: store(ggml, kind, stored) for name, _, stored in cases})
    command = [apr, "diff", folder / "a.gguf", folder / "b.gguf", "--values", "--json", "--limit", "0"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)["results"]
    if len(rows) != len(cases):
        raise SystemExit(f"{kind}: {len(rows)} of {len(cases)} tensors compared")
    return [row["name"] for row in rows if row["verdict"] == "different"]


def measure(args, ggml, folder, kind, make, random):
    healthy = [(f"healthy.{i}", v, v) for i, v in enumerate(make(random).astype(numpy.float32) for _ in range(args.healthy))]
    alarms = len(different(args.apr, folder, ggml, kind, healthy))
    cases = []
    for fault, (damage, how) in FAULTS.items():
        for i in range(args.faulty):
            original = make(random).astype(numpy.float32)
            damaged = original.copy()
            damage(damaged, random, how)
            cases.append((f"{fault}.{i}", original, damaged))
    found = different(args.apr, folder, ggml, kind, cases)
    missed = {fault: args.faulty - sum(name.rsplit(".", 1)[0] == fault for name in found) for fault in FAULTS}
    return alarms, missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apr", required=True)
    parser.add_argument("--library")
    parser.add_argument("--healthy", type=int, default=200)
    parser.add_argument("--faulty", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    against_ggml.COLS = COLS
    ggml = against_ggml.Ggml(args.library)
    random = numpy.random.default_rng(args.seed)
    print("| Type | False alarms | " + " | ".join(FAULTS) + " |")
    print("|---|---|" + "---|" * len(FAULTS))
    total = 0
    with tempfile.TemporaryDirectory() as scratch:
        for kind in TYPES:
            sums, alarms = dict.fromkeys(FAULTS, 0), 0
            for make in (gaussian, heavy_tail, outliers):
                wolf, missed = measure(args, ggml, pathlib.Path(scratch), kind, make, random)
                alarms += wolf
                for fault, count in missed.items():
                    sums[fault] += count
            total += alarms
            shares = " | ".join(f"{100 * count / (3 * args.faulty):.0f} %" for count in sums.values())
            print(f"| {kind} | {alarms} of {3 * args.healthy} | {shares} |", flush=True)
    print(f"\n{total} false alarms among {3 * args.healthy * len(TYPES)} healthy tensors.")


if __name__ == "__main__":
    main()
