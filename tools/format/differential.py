#!/usr/bin/env python3
"""Compares this project's readers with Python's `safetensors` and `gguf` on mutated files.

    tools/format/differential.py [--program build/release/src/format/model_file_accepts]
        [--count 3000] [--seed 1] [--keep FOLDER]

Every mutant of the seed files (make_fuzz_seeds.py) is opened by both. What both accept must have the
same tensors with the same bytes. What only one accepts is sorted into reasons; a reason that
docs/formats does not list is a failure. Needs numpy, safetensors, gguf.
Exit: 0 agreement, 5 a disagreement without a listed reason.
"""
import argparse
import json
import random
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path

import gguf
import numpy
from safetensors import SafetensorError, safe_open

import make_fuzz_seeds as seeds

# What we refuse and the peer accepts, on purpose: a part of our message, and why.
STRICTER = {
    "safetensors": {
        "occurs twice": "duplicate keys",
        "NUL byte": "names",
        "leads out of a folder": "names",
        "more than 8 dims": "limit of this project",
        "Problem while parsing": "numbers that no unsigned 64-bit integer holds, in unknown fields",
        "nested deeper": "depth",
        "number overflow": "numbers out of range in unknown fields",
    },
    # gguf-py reads what it needs and checks little; ggml's own reader is as strict as ours.
    "gguf": {
        "NUL byte": "names", "leads out of a folder": "names", "is not UTF-8": "text",
        "is empty": "names", "occurs twice": "names", "a bool has the value": "bools",
        "no multiple of the alignment": "offsets", "overlap": "offsets", "truncated": "extents",
        "at most 64": "names", "a dim of": "dims", "overflows": "dims", "dims; 1 to 4": "dims",
        "too large or its rows": "block size", "alignment must be": "alignment",
        "cannot fit": "counts", "nested deeper": "depth", "not supported": "version",
        "the removed": "types", "is unknown or was removed": "types", "big-endian": "byte order",
        "unknown value type": "types", "unknown array element type": "types",
    },
}
# What we accept and the peer refuses, on purpose: a part of the peer's message, and why.
LAXER = {
    "safetensors": {},
    # gguf-py 0.19 cannot read nested arrays of some types, or builds numpy views that must be whole.
    "gguf": {"reshape": "padding", "not a valid GGMLQuantizationType": "types newer than gguf-py",
             "codec can't decode": "strings that are no UTF-8 (vocabularies hold raw bytes)",
             "is not a valid": "types", "duplicate": "names"},
}

PEER_SECONDS = 1.0


def mutate(raw, rng):
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        kind = rng.randrange(5)
        at = rng.randrange(len(raw))
        if kind == 0:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            raw[at] = rng.randrange(256)
        elif kind == 2 and at + 8 <= len(raw):
            edge = rng.choice([0, 1, len(raw), 2**31, 2**32, 2**63, 2**64 - 1])
            raw[at:at + 8] = struct.pack("<Q", edge)
        elif kind == 3:
            del raw[at:at + rng.choice([1, 2, 8, 32])]
        else:
            raw[at:at] = raw[at:at + rng.choice([1, 2, 8, 32])]
        if not raw:
            return b"\0"
    return bytes(raw)


def mutate_header(raw, rng):
    """A change inside the JSON text, with the length put right, so that the JSON itself is judged."""
    size = struct.unpack("<Q", raw[:8])[0]
    text = mutate(raw[8:8 + size], rng)
    return struct.pack("<Q", len(text)) + text + raw[8 + size:]


def digest(tensors):
    crc = 0
    for name, shape, raw in sorted(tensors):
        crc = zlib.crc32(name, crc)
        crc = zlib.crc32(numpy.array(shape, "<i8").tobytes(), crc)
        crc = zlib.crc32(raw, crc)
    return f"{len(tensors)} {crc:08x}"


def open_safetensors(path):
    raw = path.read_bytes()
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    tensors = []
    for name in names:
        start, end = header[name]["data_offsets"]
        tensors.append((name.encode(), header[name]["shape"], raw[8 + size + start:8 + size + end]))
    return digest(tensors)


def open_gguf(path):
    reader = gguf.GGUFReader(path)
    for field in reader.fields.values():
        field.contents()
    return digest([(t.name.encode(), [int(d) for d in reversed(t.shape.tolist())], t.data.tobytes())
                   for t in reader.tensors])


def make_mutants(folder, count, rng):
    f32 = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    bf16 = {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]}
    bases = {
        "safetensors": [seeds.safetensors({"a": f32, "b": bf16}, 26, 6),
                        seeds.safetensors({"__metadata__": {"format": "pt"}, "a": f32}, 24)],
        "gguf": [seeds.gguf(), seeds.gguf(2), seeds.gguf(alignment=64)],
    }
    for kind, originals in bases.items():
        for i in range(count):
            raw = rng.choice(originals)
            header = kind == "safetensors" and i % 2 == 0
            raw = raw if i < len(originals) else mutate_header(raw, rng) if header else mutate(raw, rng)
            path = folder / f"{i:05}.{kind}"
            path.write_bytes(raw)
            yield kind, path


def reason_of(table, message):
    return next((why for part, why in table.items() if part in message), None)


def give_up(_signal, _frame):
    raise TimeoutError("no answer within the limit")


def peer_answer(kind, path):
    """The peer's answer. gguf-py walks declared counts element by element: hence a time limit."""
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PEER_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "accept " + (open_safetensors if kind == "safetensors" else open_gguf)(path)
    except (SafetensorError, ValueError, KeyError, IndexError, OverflowError, TypeError, MemoryError,
            AttributeError, NotImplementedError, RecursionError, TimeoutError) as error:
        return f"refuse {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def compare(kind, ours, theirs):
    """(class, None) or (class, what nobody explained)."""
    both = (ours.split()[0], theirs.split()[0])
    if both == ("refuse", "refuse"):
        return "both refuse", None
    if both == ("accept", "accept"):
        return "both accept", None if ours == theirs else "the tensors differ"
    table, message = (STRICTER[kind], ours) if both[0] == "refuse" else (LAXER[kind], theirs)
    why = reason_of(table, message)
    return f"only {'they' if both[0] == 'refuse' else 'we'} accept: {why}", None if why else "no listed reason"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="build/release/src/format/model_file_accepts")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        mutants = list(make_mutants(folder, args.count, random.Random(args.seed)))
        listing = "".join(f"{path}\n" for _, path in mutants)
        done = subprocess.run([args.program], input=listing, capture_output=True, text=True,
                              errors="replace", check=True)
        classes, failures = Counter(), []
        for (kind, path), ours in zip(mutants, done.stdout.splitlines(), strict=True):
            theirs = peer_answer(kind, path)
            what, problem = compare(kind, ours, theirs)
            classes[f"{kind}: {what}"] += 1
            if problem:
                failures.append(f"{path.name}: {problem}\n  we:   {ours[:300]}\n  they: {theirs[:300]}")
    for what, number in sorted(classes.items()):
        print(f"{number:6} {what}")
    print("\n".join(failures[:40]))
    print(f"{len(mutants)} files, {len(failures)} disagreements without a listed reason")
    if not any("both accept" in what for what in classes):
        sys.exit("nothing was accepted by both: the comparison proves nothing")
    sys.exit(5 if failures else 0)


if __name__ == "__main__":
    main()
