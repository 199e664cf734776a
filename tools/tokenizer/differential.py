#!/usr/bin/env python3
"""Compares a tokenizer of this project with Hugging Face's `tokenizers` on random and real strings.

    differential.py --bench build/release/src/tokenizer/tokenizer_bench [--count N] [--seed S] [--text FILE]... \
        TOKENIZER.json[=FILE]...
    differential.py --bench ... --components     many small tokenizers, one for each kind of component
    differential.py --bench ... --random N       N small tokenizers of random components

With =FILE ours is read from FILE, the library's from TOKENIZER.json: a GGUF against what was exported from it.
Every string is encoded by both, without and (every fourth) with special tokens around it and special tokens in the
text read as such; ids must be equal, and so must the text decoded from them, special tokens kept or left out. Prints
one line a tokenizer; exits 1 on any difference, 2 if nothing was compared. --plant changes one id, to show that the
comparison fails. --seconds ends early, between batches; the line then says how many strings were compared.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata

try:
    from tokenizers import Tokenizer
except ImportError as missing:
    print(f"not compared: {missing}")
    sys.exit(77)  # skipped

import components

SNIPPETS = [
    "Hello", "world", " the", "don't", "I'LL", "we've", "'s", "'S", "\u017f", "12345", "3.14", "x = y + 1;", "\n", "\n\n",
    "\r\n", "\t", "    ", "  ", " ", "caf\u00e9", "cafe\u0301", "\u4f60\u597d", "\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f",
    "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab", "\u0440\u0443\u0441\u0441\u043a\u0438\u0439", "\u0645\u0631\u062d\u0628\u0627",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
    "\u00bd", "\u2460", "\u0661\u0662", "<|im_start|>", "<|endoftext|>", "<s>", "[MASK]", "def f(x):", "http://a.b/c?d=e&f#g",
    "_", "__init__", "...", "!!!", "--", "\u2014", "\u201cquoted\u201d", "\u00a0", "\u3000", "\u200b", "\ufeff", "a" * 40,
]


def known(cp):
    """A code point that every Unicode version in use classes alike, and that JSON can carry."""
    return not 0xD800 <= cp < 0xE000 and unicodedata.category(chr(cp)) != "Cn" and unicodedata.ucd_3_2_0.category(chr(cp)) == unicodedata.category(chr(cp))


POOLS = [[cp for cp in range(lo, hi) if known(cp)] for lo, hi in
         [(0x20, 0x7F), (0x20, 0x7F), (0, 0x250), (0x300, 0x370), (0x370, 0x700), (0x900, 0xE80), (0x1100, 0x1200),
          (0x2000, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xF900, 0xFFFE), (0x1D400, 0x1D7FF)]]


def strings(rng, count, lines):
    for _ in range(count):
        kind = rng.random()
        if kind < 0.3 and lines:
            at = rng.randrange(len(lines))
            yield "".join(lines[at:at + rng.randint(1, 3)])[:400]
        elif kind < 0.6:
            yield "".join(rng.choice(SNIPPETS) + rng.choice(["", "", " ", "\n"]) for _ in range(rng.randint(1, 8)))
        elif kind < 0.8:
            pool = rng.choice(POOLS)
            yield "".join(chr(rng.choice(pool)) for _ in range(rng.randint(1, 24)))
        else:
            yield "".join(chr(rng.choice(rng.choice(POOLS))) for _ in range(rng.randint(1, 24)))


def run(bench, path, mode, items):
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in"), os.path.join(folder, "out")
        with open(source, "w") as f:
            f.writelines(json.dumps(item) + "\n" for item in items)
        done = subprocess.run([bench, path, mode, source, target], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        with open(target) as f:
            return [json.loads(line) for line in f]


def load(path):
    reference = Tokenizer.from_file(path)
    reference.no_truncation()
    reference.no_padding()
    return reference


def unless_it_panics(call):
    """None where the library panics (which is no Exception)."""
    try:
        return call()
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            return None
        raise


def encode(reference, text, with_special):
    return unless_it_panics(lambda: reference.encode(text, add_special_tokens=with_special).ids)


def decode(reference, ids, skip_special):
    return unless_it_panics(lambda: reference.decode(ids, skip_special_tokens=skip_special))


def compare_batch(bench, path, reference, batch, with_special, plant, ids_only=frozenset()):
    """Descriptions of what differs. Text with one of the tokens `ids_only` is not compared."""
    reference.encode_special_tokens = not with_special
    encoded = [(text, encode(reference, text, with_special)) for text in batch]
    batch = [text for text, ids in encoded if ids is not None]
    expected = [ids for _, ids in encoded if ids is not None]
    got = [line["ids"] for line in run(bench, path, "encode", [
        {"text": text, "add_special": with_special, "parse_special": with_special} for text in batch])]  # fmt: skip
    texts = [decode(reference, ids, with_special) for ids in expected]
    decoded = [line["text"] for line in run(bench, path, "decode-skip" if with_special else "decode", [{"ids": ids} for ids in expected])]
    if plant and got and got[0]:
        got[0][0] += 1
    found = []
    for text, want, have, want_text, have_text in zip(batch, expected, got, texts, decoded, strict=True):
        if want != have:
            found.append(f"{text!r}\n    expected {want}\n    got      {have}")
        elif want_text is not None and want_text != have_text and ids_only.isdisjoint(want):
            found.append(f"{text!r} {want}\n    decoded  {want_text!r}\n    got      {have_text!r}")
    return found


def compare(bench, path, count, seed, lines, plant, deadline, ids_only=frozenset()):
    rng = random.Random(seed)
    done, found = 0, []
    source = strings(rng, count, lines)
    try:
        path, _, ours = path.partition("=")
        reference, path = load(path), ours or path
        while done < count and time.monotonic() < deadline:
            batch = [s for _, s in zip(range(20000), source)]
            cut = len(batch) // 4
            found += compare_batch(bench, path, reference, batch[cut:], False, plant, ids_only)
            found += compare_batch(bench, path, reference, batch[:cut], True, False, ids_only)
            done += len(batch)
    except RuntimeError as error:
        found.append(str(error))
    for line in found[:4]:
        print("  " + line)
    print(f"{path}: {done} strings, {len(found)} different", flush=True)
    return done, len(found)


def options(description, count):
    """What every comparison of tokenizers takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", action="append", default=[], help="real text, cut into lines")
    parser.add_argument("--plant", action="store_true")
    return parser


def lines_of(paths):
    lines = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines += f.read().splitlines(True)
    return lines


def main():
    parser = options(__doc__, 1_000_000)
    parser.add_argument("tokenizers", nargs="*")
    parser.add_argument("--components", action="store_true")
    parser.add_argument("--real", action="store_true", help="the tokenizer.json files of ../shared/tokenizers; ends with 77 without")
    parser.add_argument("--random", type=int, default=0, metavar="N")
    parser.add_argument("--seconds", type=float, default=1e9, help="for all together")
    parser.add_argument("--keep", help="copy differing tokenizers of --random there")
    args = parser.parse_args()
    lines = lines_of(args.text)
    if args.real:
        args.tokenizers += sorted(map(str, pathlib.Path("../shared/tokenizers").glob("*/tokenizer.json")))
        if not args.tokenizers:
            print("not compared: there is no ../shared/tokenizers")
            return 77
    done = different = 0
    deadline = time.monotonic() + args.seconds
    with tempfile.TemporaryDirectory() as folder:
        files = args.tokenizers + (list(components.fixed_files(folder, SNIPPETS)) if args.components else [])
        names = [f"random-{args.seed + n}" for n in range(args.random)]
        for at, path in enumerate(files + names):
            made = path in names
            if made:
                path = components.random_file(folder, random.Random(path), path, SNIPPETS)
            share = time.monotonic() + (deadline - time.monotonic()) / (len(files) + len(names) - at)
            d, x = compare(args.bench, path, args.count, args.seed, lines, args.plant, share)
            done, different = done + d, different + x
            if made and x and args.keep:
                shutil.copy(path, args.keep)
    if done == 0:
        return 2
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
