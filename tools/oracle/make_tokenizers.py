#!/usr/bin/env python3
"""Trains two tiny tokenizers on corpus.txt and writes what Hugging Face's tokenizers library makes of many texts.

    make_tokenizers.py --out testdata/tokenizer

Each folder holds tokenizer.json, tokenizer_config.json and expected.jsonl, one JSON object a line (pure ASCII):
    group           where the text comes from
    text            what to encode; null: the line is for decoding only
    add_special     with what the tokenizer puts around a text
    parse_special   special tokens written in the text become that token; false: they are text like any other
    ids             the expected ids
    decoded         the expected text of the ids, special tokens printed, nothing cleaned up
"""

import argparse
import collections
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = pathlib.Path(__file__).with_name("corpus.txt")
BYTE_VOCAB, SPM_VOCAB, SPM_CHARACTERS = 384, 400, 72

# The splitting pattern that Qwen 2 publishes in its tokenizer.json.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_bpe():
    """Byte-level BPE in the manner of GPT-2 and Qwen: NFC, a splitting pattern, then merges of bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BYTE_VOCAB,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(CORPUS)], trainer)
    return tokenizer


def spm_bpe():
    """BPE in the manner of sentencepiece and Llama 2: a space put in front, spaces written as U+2581, a token for each
    byte that characters outside the vocabulary fall back to, and <s> in front of a text."""
    special = ["<unk>", "<s>", "</s>"]
    # The rarer characters go by bytes. The trainer's own limit breaks ties between equally rare ones at random.
    counts = collections.Counter(CORPUS.read_text(encoding="utf-8").replace(" ", "\u2581"))
    common = sorted(counts, key=lambda character: (-counts[character], character))[:SPM_CHARACTERS]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    # Merges inside words only; the finished tokenizer has no pre-tokeniser, as Llama 2's tokenizer.json has none.
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=SPM_VOCAB,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        initial_alphabet=common,
        limit_alphabet=len(common),
        show_progress=False,
    )
    trained.train([str(CORPUS)], trainer)
    learned = json.loads(trained.to_str())["model"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=learned["vocab"],
            merges=[tuple(pair) for pair in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


HAND = [
    "", " ", "  ", "   x", "x   ", "\n", "\n\n\n", "\t", " \n ", "a", " a", "the", " the", "The the THE", "Hello, world!",
    "It's, it'S, IT'LL they're we'Ve I'm he'd", "don\u2019t", "0", "42", "007 1,204 3.14159 1e-5 -12.5", "12345678901234567890",
    "a1b2c3", "x=1;y=2", "foo_bar.baz(qux)", "    indented\n\tmore\r\nlast\r", "https://example.org/a?b=c&d=%20#e",
    "caf\u00e9", "cafe\u0301", "\u00c5\u212bA\u030a", "\u1e9b\u0323", "\uac00\u1100\u1161", "\u00df\u1e9e\u0130\u0131",
    "Der W\u00e4rter schrieb", "\u041c\u043e\u0440\u0435 \u0431\u044b\u043b\u043e", "\u03b8\u03ac\u03bb\u03b1\u03c3\u03c3\u03b1",
    "\u6d77\u306f\u9759\u304b\u3060\u3063\u305f\u3002", "\ubc14\ub2e4", "\u05db\u05ea\u05d1 \u05e9\u05d5\u05e8\u05d4", "\u0627\u0644\u0628\u062d\u0631",
    "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e17\u0e30\u0e40\u0e25", "\U0001f30a", "\U0001f469\u200d\U0001f680 \U0001f1eb\U0001f1f7",
    "\u00a0\u2003\u3000\u200b\ufeff", "\x00\x01\x7f", "\u2028\u2029\u0085", "\u2581", "\u2581\u2581a \u2581", "\ufffd", "\U0010ffff\U000e0041",
    "\u0120\u010a\u0100", "!!!???...", " !", "\u00bf\u00a1\u00ab\u00bb\u2014\u2026", "a\u0301\u0302\u0303", "aaaaaaaaaaaaaaaaaaaaaaaa",
    "the the the the the the the the", "thethethethe", "ofthetowninthat", "<0x41>", "<0xE2><0x96>", "<unk", "<|im_start", "|im_end|>",
]  # fmt: skip

ALPHABETS = ["a \n", "th e", "1 ,.a", "'stlrevmd I", " \t\r\n!a1", "\u00e9e\u0301 a", "\u2581 a<", "\u6d77\u00e4a \U0001f30a"]


def texts(special):
    """(group, text, add_special, parse_special), the same for both tokenizers but for the special tokens' names."""
    rng = random.Random(20240229)
    for text in HAND:
        yield "hand", text, False, True
    for alphabet in ALPHABETS:
        for _ in range(3):
            yield "alphabet", "".join(rng.choice(alphabet) for _ in range(rng.randint(2, 24))), False, True
    corpus = CORPUS.read_text(encoding="utf-8")
    for line in corpus.splitlines():
        if line:
            yield "corpus", line, False, True
    for _ in range(16):
        start = rng.randrange(len(corpus))
        yield "splice", corpus[start : start + rng.randint(1, 40)], False, True
    for parse in (True, False):
        for text in ("{0}", " {0}", "{0} ", "a{0}b", "{0}{1}{2}", "{1}user\nthe sea{2}\n{1}", "x {2} y", "<{0}>", "{0}\n\n{0}"):
            yield "special", text.format(*special), False, parse
    for text in ("", "a", "The sea was calm.", " {1}", "{0}the"):
        yield "add_special", text.format(*special), True, True


def expected(tokenizer, special):
    size = tokenizer.get_vocab_size()
    for group, text, add_special, parse_special in texts(special):
        tokenizer.encode_special_tokens = not parse_special
        ids = tokenizer.encode(text, add_special_tokens=add_special).ids
        yield group, text, add_special, parse_special, ids
    tokenizer.encode_special_tokens = False
    # Ids that no text gives: cut characters, bytes in a row that are not UTF-8.
    rng = random.Random(7)
    for _ in range(20):
        yield "random_ids", None, False, True, [rng.randrange(size) for _ in range(rng.randint(1, 12))]


def write(folder, tokenizer, special, config):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    with (folder / "expected.jsonl").open("w", encoding="ascii") as out:
        for group, text, add_special, parse_special, ids in expected(tokenizer, special):
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            line = dict(group=group, text=text, add_special=add_special, parse_special=parse_special, ids=ids,
                        decoded=decoded)
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    out = parser.parse_args().out
    write(out / "byte-bpe", byte_bpe(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
          dict(tokenizer_class="PreTrainedTokenizerFast", add_prefix_space=False, bos_token=None,
               eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None,
               clean_up_tokenization_spaces=False, chat_template=CHATML))
    write(out / "spm-bpe", spm_bpe(), ["<s>", "</s>", "<unk>"],
          dict(tokenizer_class="PreTrainedTokenizerFast", add_bos_token=True, add_eos_token=False, bos_token="<s>",
               eos_token="</s>", unk_token="<unk>", legacy=True, clean_up_tokenization_spaces=False))


if __name__ == "__main__":
    main()
