#!/usr/bin/env python3
"""Compares vocabularies kept in GGUF with their authors' code, on random and real strings.

    vocabularies.py --bench build/release/src/tokenizer/tokenizer_bench [--count N] [--seed S] [--text FILE]... [FILE.gguf]...

Without FILE: those of ../shared/tokenizers/ggml-vocab. Byte-level ones become a tokenizer of Hugging Face's `tokenizers`
of the same pieces and merges, with the steps that the model's authors publish (STEPS); SPM ones a model of the
`sentencepiece` package and, where a space is put before the text, a tokenizer of `tokenizers` (without special tokens). Ids must be equal, and the text decoded from them. Prints one line a file; exits 1 on any
difference, 77 if nothing was compared. --plant changes one id of each file, to show that the comparison fails.
"""
import pathlib
import random
import struct
import sys
import tempfile
import time

try:
    import gguf
    import sentencepiece
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
except ImportError as missing:
    print(f"not compared: {missing}")
    sys.exit(77)  # skipped

import containers
import differential


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


# tokenizer.ggml.pre: the pre_tokenizer of a published tokenizer.json of that kind. A file that names none is read as GPT-2's.
STEPS = {
    "": lambda: [byte_level()],
    "gpt-2": lambda: [byte_level()],
    "starcoder": lambda: [digits(), byte_level()],
    "refact": lambda: [digits(), byte_level()],
    "smollm": lambda: [digits(), byte_level()],
    "deepseek-coder": lambda: [split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), digits(), byte_level(False)],
}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4


def field(reader, name, default=None):
    found = reader.fields.get("tokenizer.ggml." + name)
    return default if found is None else found.contents()


def of_merges(reader):
    """A tokenizer of `tokenizers`, the tokens that are matched before anything else, and those of them that its decoder takes for
    a byte: deepseek-coder's "\u00f5" is byte 0xF5 to it and the letter to llama.cpp, which wrote the file, and to us."""
    pieces, types = field(reader, "tokens"), field(reader, "token_type")
    merges = [tuple(pair.split(" ")) for pair in field(reader, "merges")]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(STEPS[field(reader, "pre", "")]())
    tokenizer.decoder = decoders.ByteLevel()
    added = [(pieces[i], kind) for i, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)]
    for text, kind in added:
        token = AddedToken(text, normalized=False, special=kind == CONTROL)
        (tokenizer.add_special_tokens if kind == CONTROL else tokenizer.add_tokens)([token])
    if tokenizer.get_vocab_size() != len(pieces):
        raise RuntimeError("the tokenizer made of the pieces has others")
    if field(reader, "add_bos_token", False):
        bos = field(reader, "bos_token_id")
        tokenizer.post_processor = processors.TemplateProcessing("$bos $A".replace("$bos", pieces[bos]), special_tokens=[(pieces[bos], bos)])
    as_bytes = {tokenizer.token_to_id(text) for text, _ in added if not text.isascii() and tokenizer.decoder.decode([text]) != text}
    return tokenizer, [text for text, _ in added], as_bytes


def message(*fields):
    """A protocol buffer message of (number, value): int, float or bytes."""
    def varint(value):
        out = b""
        while value >= 0x80:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    out = b""
    for number, value in fields:
        if isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def of_scores(reader):
    """A SentencePiece model (sentencepiece_model.proto) of the same pieces, scores and types: BPE, as llama's."""
    # llama.cpp's conversion writes the spaces of user-defined pieces as spaces.
    pieces = [message((1, (piece.replace(" ", "\u2581") if kind == USER_DEFINED else piece).encode()), (2, float(score)), (3, int(kind)))
              for piece, score, kind in zip(field(reader, "tokens"), field(reader, "scores"), model_types(reader), strict=True)]
    trainer = message((3, 2), (35, 1), (40, int(field(reader, "unknown_token_id", 0))))  # BPE, byte fallback
    normalizer = message((1, b"identity"), (3, int(field(reader, "add_space_prefix", True))), (4, 0), (5, 1))
    return sentencepiece.SentencePieceProcessor(model_proto=message(*((1, piece) for piece in pieces), (2, trainer), (3, normalizer)))


def model_types(reader):
    """A model has one unknown piece; files call several so. Of those all but the first are control pieces to it: never in a text."""
    unknown = field(reader, "unknown_token_id", 0)
    return [CONTROL if kind == UNKNOWN and i != unknown else kind for i, kind in enumerate(field(reader, "token_type"))]


def of_merged_scores(reader):
    """The same as Hugging Face converts it: a merge for every pair of pieces that is a piece, in the order of the scores."""
    pieces, types = field(reader, "tokens"), field(reader, "token_type")
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece, score, kind in zip(pieces, field(reader, "scores"), types, strict=True):
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in ids and piece[i:] in ids]
        if kind == NORMAL:
            merges += [(-score, pair) for pair in sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))]
    merges.sort(key=lambda merge: merge[0])
    tokenizer = Tokenizer(models.BPE(ids, [pair for _, pair in merges], byte_fallback=True, fuse_unk=True, unk_token=pieces[field(reader, "unknown_token_id", 0)]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(pieces[i], normalized=False, special=True) for i, kind in enumerate(types) if kind in (UNKNOWN, CONTROL)])
    tokenizer.add_tokens([AddedToken(pieces[i], normalized=False) for i, kind in enumerate(types) if kind == USER_DEFINED])
    return tokenizer


def compare_merges(args, path, reader, lines):
    tokenizer, added, as_bytes = of_merges(reader)
    with tempfile.NamedTemporaryFile(suffix=".json") as made:
        tokenizer.save(made.name)
        return differential.compare(args.bench, f"{made.name}={path}", args.count, args.seed, lines + added * max(1, len(lines) // (20 * len(added))),
                                    args.plant, time.monotonic() + args.seconds, as_bytes)


def compare_scores(args, path, reader, lines):
    processor = of_scores(reader)
    converted = of_merged_scores(reader) if field(reader, "add_space_prefix", True) else None
    source = differential.strings(random.Random(args.seed), args.count, lines)
    deadline = time.monotonic() + args.seconds
    done = different = 0
    while time.monotonic() < deadline and (batch := [text for _, text in zip(range(20000), source)]):
        texts = [text for text in batch if "\0" not in text]  # ends a text there
        different += containers.compare(args.bench, path, processor.encode, processor.decode, processor.unk_id(), texts, args.plant, False)
        if converted is not None:
            found = differential.compare_batch(args.bench, path, converted, texts, False, args.plant)
            print("".join(f"  as converted: {line}\n" for line in found[:2]), end="")
            different += len(found)
        done += len(texts)
    print(f"{path}: {done} strings, {different} different", flush=True)
    return done, different


def main():
    parser = differential.options(__doc__, 1_000_000)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--seconds", type=float, default=1e9, help="for each file")
    args = parser.parse_args()
    lines = differential.lines_of(args.text)
    files = args.files or sorted(map(str, pathlib.Path("../shared/tokenizers/ggml-vocab").glob("*.gguf")))
    if not files:
        print("not compared: there is no ../shared/tokenizers/ggml-vocab")
        return 77
    done = different = 0
    for path in files:
        if not pathlib.Path(path).exists():
            print(f"not compared: there is no {path}")
            continue
        reader = gguf.GGUFReader(path)
        kind = {"gpt2": compare_merges, "llama": compare_scores}.get(field(reader, "model"))
        if kind is None:
            print(f"{path}: not compared: a tokenizer of kind {field(reader, 'model')}")
            continue
        d, x = kind(args, path, reader, lines)
        done, different = done + d, different + x
    return 1 if different else 0 if done else 77


if __name__ == "__main__":
    sys.exit(main())
