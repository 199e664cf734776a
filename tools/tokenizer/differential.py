#!/usr/bin/env python3
"""Compares a tokenizer of this project with Hugging Face's `tokenizers` on random and real strings.

    differential.py --bench build/release/src/tokenizer/tokenizer_bench [--count N] [--seed S] [--text FILE]... \
        TOKENIZER.json...
    differential.py --bench ... --components     many small tokenizers, one for each kind of component

Every string is encoded by both; ids must be equal, and so must the text decoded from them. Prints one line a
tokenizer; exits 1 on any difference, 2 if nothing was compared. --plant changes one id, to show that the
comparison fails.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Tokenizer

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
    return not 0xD800 <= cp < 0xE000 and unicodedata.ucd_3_2_0.category(chr(cp)) == unicodedata.category(chr(cp))


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


def run(bench, path, mode, items, key):
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in"), os.path.join(folder, "out")
        with open(source, "w") as f:
            for item in items:
                f.write(json.dumps({key: item}) + "\n")
        subprocess.run([bench, path, mode, source, target], check=True)
        with open(target) as f:
            return [json.loads(line) for line in f]


def compare(bench, path, count, seed, lines, plant):
    reference = Tokenizer.from_file(path)
    reference.no_truncation()
    reference.no_padding()
    reference.encode_special_tokens = True
    rng = random.Random(seed)
    different = done = 0
    source = strings(rng, count, lines)
    while done < count:
        batch = [s for _, s in zip(range(20000), source)]
        if not batch:
            break
        expected = [e.ids for e in reference.encode_batch(batch, add_special_tokens=False)]
        got = [line["ids"] for line in run(bench, path, "encode", batch, "text")]
        texts = reference.decode_batch(expected, skip_special_tokens=False)
        decoded = [line["text"] for line in run(bench, path, "decode", expected, "ids")]
        if plant and got and got[0]:
            got[0][0] += 1
        for text, want, have, want_text, have_text in zip(batch, expected, got, texts, decoded, strict=True):
            if want != have or want_text != have_text:
                different += 1
                if different <= 5:
                    print(f"  {text!r}\n    expected {want} {want_text!r}\n    got      {have} {have_text!r}")
        done += len(batch)
    print(f"{path}: {done} strings, {different} different")
    return done, different


def component_files(folder):
    """tokenizer.json files that between them have every component."""
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

    text = SNIPPETS * 20 + ["the quick brown fox jumps over the lazy dog " * 4, "unaffable words and wordings"] * 20
    nf, pt, dc = normalizers, pre_tokenizers, decoders
    cases = {
        "bert": (models.WordPiece(unk_token="[UNK]"), nf.BertNormalizer(), pt.BertPreTokenizer(), dc.WordPiece()),
        "bert-cased": (models.WordPiece(unk_token="[UNK]"), nf.BertNormalizer(lowercase=False, strip_accents=True),
                       pt.BertPreTokenizer(), dc.WordPiece(cleanup=False)),
        "wordlevel": (models.WordLevel(unk_token="[UNK]"), nf.Lowercase(), pt.Whitespace(), None),
        "wordlevel-strip": (models.WordLevel(unk_token="[UNK]"), nf.Sequence([nf.NFKD(), nf.StripAccents(), nf.Strip()]),
                            pt.WhitespaceSplit(), None),
        "unigram": (models.Unigram(), nf.NFKC(), pt.Metaspace(), dc.Metaspace()),
        "unigram-nmt": (models.Unigram(), nf.Sequence([nf.Nmt(), nf.NFKC(), nf.Replace(Regex(" {2,}"), " ")]),
                        pt.Sequence([pt.WhitespaceSplit(), pt.Metaspace(prepend_scheme="first")]), dc.Metaspace()),
        "bpe-suffix": (models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"), nf.NFD(), pt.Whitespace(),
                       dc.BPEDecoder()),
        "bpe-prefix": (models.BPE(unk_token="[UNK]", continuing_subword_prefix="##", fuse_unk=True), None,
                       pt.Sequence([pt.Punctuation("contiguous"), pt.WhitespaceSplit()]), dc.WordPiece()),
        "bpe-bytes": (models.BPE(byte_fallback=True), nf.Sequence([nf.Prepend("\u2581"), nf.Replace(" ", "\u2581")]),
                      None, dc.Sequence([dc.Replace("\u2581", " "), dc.ByteFallback(), dc.Fuse(), dc.Strip(" ", 1, 0)])),
        "bytelevel-space": (models.BPE(), None, pt.ByteLevel(add_prefix_space=True), dc.ByteLevel()),
        "digits": (models.BPE(), None, pt.Sequence([pt.Digits(True), pt.ByteLevel(add_prefix_space=False)]), dc.ByteLevel()),
        "scripts": (models.BPE(unk_token="[UNK]"), None, pt.Sequence([pt.UnicodeScripts(), pt.Digits(False)]), dc.Fuse()),
        "delimiter": (models.BPE(unk_token="[UNK]"), nf.NFC(), pt.CharDelimiterSplit("e"), dc.CTC()),
    }
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        for invert in [False, True]:
            cases[f"split-{behavior}-{invert}"] = (models.BPE(unk_token="[UNK]"), None,
                                                   pt.Split(Regex(r"[aeiou]|\s+"), behavior, invert), None)
    special = ["[UNK]", "<s>", "[MASK]"]
    for name, (model, normalizer, pre, decoder) in cases.items():
        tokenizer = Tokenizer(model)
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        if pre is not None:
            tokenizer.pre_tokenizer = pre
        if decoder is not None:
            tokenizer.decoder = decoder
        kind = {"WordPiece": trainers.WordPieceTrainer, "WordLevel": trainers.WordLevelTrainer,
                "Unigram": trainers.UnigramTrainer, "BPE": trainers.BpeTrainer}[type(model).__name__]
        extra = {}
        if kind is trainers.UnigramTrainer:
            extra["unk_token"] = "[UNK]"
        if "byte" in name or name == "digits":
            extra["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet() if "level" in name or name == "digits" else []
        if name == "bpe-suffix":
            extra["end_of_word_suffix"] = "</w>"
        if name == "bpe-prefix":
            extra["continuing_subword_prefix"] = "##"
        tokens = special + ([f"<0x{b:02X}>" for b in range(256)] if name == "bpe-bytes" else [])
        tokenizer.train_from_iterator(text, kind(vocab_size=700, special_tokens=tokens, show_progress=False, **extra))
        tokenizer.add_tokens([AddedToken("def", single_word=True), AddedToken("world", lstrip=True, normalized=False),
                              AddedToken("caf\u00e9", rstrip=True), AddedToken("12", normalized=True)])
        path = os.path.join(folder, name + ".json")
        tokenizer.save(path)
        yield path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", nargs="*")
    parser.add_argument("--bench", required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", action="append", default=[], help="real text, cut into lines")
    parser.add_argument("--components", action="store_true")
    parser.add_argument("--plant", action="store_true")
    args = parser.parse_args()
    lines = []
    for path in args.text:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines += f.read().splitlines(True)
    done = different = 0
    with tempfile.TemporaryDirectory() as folder:
        files = args.tokenizers + (list(component_files(folder)) if args.components else [])
        for path in files:
            d, x = compare(args.bench, path, args.count, args.seed, lines, args.plant)
            done, different = done + d, different + x
    if done == 0:
        return 2
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
