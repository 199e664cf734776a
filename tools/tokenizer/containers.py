#!/usr/bin/env python3
"""Compares tokenizers kept in other files than tokenizer.json with their authors' code, on random and real strings.

    containers.py --bench build/release/src/tokenizer/tokenizer_bench [--count N] [--text FILE]... [--only NAME]

SentencePiece models (BPE and Unigram, several options each) are trained on a small text and compared as they are
(tokenizer.model) and as GGUF (SPM and UGM) with the `sentencepiece` package; a WordPiece tokenizer as GGUF (WPM)
with Hugging Face's `tokenizers`. Ids must be equal, and the text decoded from them. Prints one line a file; exits 1 on any
difference, 2 if nothing was compared. --plant changes one id, to show that the comparison fails.
"""
import io
import os
import random
import struct
import sys
import tempfile

try:
    import gguf
    import sentencepiece
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
except ImportError as missing:
    print(f"not compared: {missing}")
    sys.exit(77)  # skipped

import differential

# Name: options of the trainer.
MODELS = {
    "bpe": dict(model_type="bpe", normalization_rule_name="identity", byte_fallback=True, split_digits=True, remove_extra_whitespaces=False),
    "bpe-nfkc": dict(model_type="bpe", user_defined_symbols=["<|im_start|>", "def"], control_symbols=["<ctl>"]),
    "bpe-bare": dict(model_type="bpe", normalization_rule_name="identity", add_dummy_prefix=False, allow_whitespace_only_pieces=True,
                     remove_extra_whitespaces=False, byte_fallback=True),
    "unigram": dict(model_type="unigram"),
    "unigram-bytes": dict(model_type="unigram", byte_fallback=True, normalization_rule_name="nmt_nfkc_cf"),
    "unigram-user": dict(model_type="unigram", user_defined_symbols=["<|im_start|>", "[MASK]", "def"], normalization_rule_name="identity",
                         remove_extra_whitespaces=False),
    "unigram-bare": dict(model_type="unigram", add_dummy_prefix=False),
}


def train(options, lines):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, vocab_size=900, hard_vocab_limit=False,
                                             character_coverage=0.98, minloglevel=2, **options)
    return out.getvalue()


def fields(message):
    """(number, value) of a protocol buffer message; bytes where the value is length-delimited."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        size = {0: 0, 1: 8, 2: None, 5: 4}[tag & 7]
        if size == 0:
            yield tag >> 3, varint()
            continue
        size = varint() if size is None else size
        yield tag >> 3, message[at:at + size]
        at += size


def add_sentencepiece(writer, data, bpe):
    """What llama.cpp's conversion writes of a SentencePiece model (conversion/base.py, t5.py)."""
    pieces = [{1: b"", 3: 1} | dict(fields(value)) for number, value in fields(data) if number == 1]
    normalizer = {2: b"", 3: 1, 4: 1} | dict(fields(next(value for number, value in fields(data) if number == 3)))
    writer.add_tokenizer_model("llama" if bpe else "t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([p[1] for p in pieces])
    writer.add_token_scores([struct.unpack("<f", p.get(2, bytes(4)))[0] for p in pieces])
    writer.add_token_types([p[3] for p in pieces])
    writer.add_add_space_prefix(bool(normalizer[3]))
    writer.add_remove_extra_whitespaces(bool(normalizer[4]))
    if normalizer[2]:
        writer.add_precompiled_charsmap(normalizer[2])
    writer.add_unk_token_id(next(i for i, p in enumerate(pieces) if p[3] == 2))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def word_piece(lines):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=10**9))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=900, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def add_word_piece(writer, tokenizer):
    """As llama.cpp's conversion/bert.py spells the pieces."""
    pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    special = [p.startswith("[") and p.endswith("]") for p in pieces]
    spelled = [p if s else p[2:] if p.startswith("##") else "\u2581" + p for p, s in zip(pieces, special, strict=True)]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([p.encode() for p in spelled])
    writer.add_token_types([3 if s else 1 for s in special])
    writer.add_unk_token_id(1)
    writer.add_sep_token_id(3)
    writer.add_uint32("tokenizer.ggml.cls_token_id", 2)


def write_gguf(path, add, *args):
    writer = gguf.GGUFWriter(path, "llama")
    add(writer, *args)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def compare(bench, path, encode, decode, unknown, texts, plant, say=True):
    """The number of differences; prints the first."""
    ids = [encode(text) for text in texts]
    items = [{"text": text, "add_special": False, "parse_special": False} for text in texts]
    got = [line["ids"] for line in differential.run(bench, path, "encode", items)]
    if plant:
        got[0] = [*got[0], 1]
    found = [f"{t!r}\n    expected {w}\n    got      {g}" for t, w, g in zip(texts, ids, got, strict=True) if w != g]
    if decode:
        ids = [line for line in ids if unknown not in line]  # left out of the text with the other special tokens
        decoded = [line["text"] for line in differential.run(bench, path, "decode-skip", [{"ids": line} for line in ids])]
        found += [f"{i}\n    decoded  {decode(i)!r}\n    got      {g!r}" for i, g in zip(ids, decoded, strict=True) if decode(i) != g]
    for line in found[:4]:
        print("  " + line)
    if say:
        print(f"{os.path.basename(path)}: {len(texts)} strings, {len(found)} different", flush=True)
    return len(found)


def main():
    parser = differential.options(__doc__, 20000)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    lines = differential.lines_of(args.text)
    corpus = [s * 3 + " the quick brown fox" for s in differential.SNIPPETS] * 6 + lines + ["unaffable words and wordings"] * 20
    rng = random.Random(args.seed)
    texts = [s for s in differential.strings(rng, args.count, lines) if "\0" not in s]
    done = different = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, options in MODELS.items():
            if args.only not in name:
                continue
            data = train(options, [line.replace("\n", " ") for line in corpus])
            model, packed = os.path.join(folder, name + ".model"), os.path.join(folder, name + ".gguf")
            with open(model, "wb") as f:
                f.write(data)
            write_gguf(packed, add_sentencepiece, data, options["model_type"] == "bpe")
            processor = sentencepiece.SentencePieceProcessor(model_proto=data)
            for path in (model, packed):
                different += compare(args.bench, path, processor.encode, processor.decode, processor.unk_id(), texts, args.plant)
                done += len(texts)
        if args.only in "wordpiece":  # pieces only: how words are put together again is not GGUF's to say
            path = os.path.join(folder, "wordpiece.gguf")
            tokenizer = word_piece(corpus)
            write_gguf(path, add_word_piece, tokenizer)
            different += compare(args.bench, path, lambda t: tokenizer.encode(t, add_special_tokens=False).ids, None, None, texts, args.plant)
            done += len(texts)
    return 1 if different else 0 if done else 2


if __name__ == "__main__":
    sys.exit(main())
