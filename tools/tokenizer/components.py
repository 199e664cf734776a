"""Small tokenizers for differential.py, trained by Hugging Face's `tokenizers`: fixed ones, one for each kind of
component, and random combinations of components, models, post-processors and added tokens.
"""
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers


def fixed_files(folder, snippets):
    """tokenizer.json files that between them have every component."""
    text = snippets * 20 + ["the quick brown fox jumps over the lazy dog " * 4, "unaffable words and wordings"] * 20
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


# --- Random combinations ---

PATTERNS = [r"[aeiou]", r"\s+", r"\d{1,3}", r"\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re)|\p{N}", r"\p{Lu}?\p{Ll}+", r"[\u4e00-\u9fff]+", r"."]  # fmt: skip
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


def flip(rng):
    return rng.random() < 0.5


def random_normalizer(rng):
    n = normalizers
    one = [
        n.NFC, n.NFD, n.NFKC, n.NFKD, n.Lowercase, n.StripAccents, n.Nmt, lambda: n.Strip(flip(rng), flip(rng)),
        lambda: n.Replace(rng.choice([" ", "a", "''", "the"]), rng.choice(["", "\u2581", "xy"])),
        lambda: n.Replace(Regex(rng.choice([" {2,}", "[0-9]", "\\s", "e|o"])), rng.choice(["", " ", "#"])),
        lambda: n.Prepend(rng.choice(["\u2581", "^", " "])),
        lambda: n.BertNormalizer(flip(rng), flip(rng), rng.choice([None, True, False]), flip(rng)),
    ]  # fmt: skip
    if rng.random() < 0.3:
        return None
    if rng.random() < 0.5:
        return rng.choice(one)()
    return n.Sequence([rng.choice(one)() for _ in range(rng.randint(0, 3))])


def random_pre_tokenizer(rng):
    p = pre_tokenizers
    scheme = ["always", "never", "first"]
    one = [
        p.BertPreTokenizer, p.Whitespace, p.WhitespaceSplit, p.UnicodeScripts,
        lambda: p.Digits(flip(rng)), lambda: p.Punctuation(rng.choice(BEHAVIORS)),
        lambda: p.CharDelimiterSplit(rng.choice([" ", "e", "\u3000"])),
        lambda: p.Metaspace(rng.choice(["\u2581", "_"]), rng.choice(scheme), flip(rng)),
        lambda: p.Split(Regex(rng.choice(PATTERNS)), rng.choice(BEHAVIORS), flip(rng)),
        lambda: p.Split(rng.choice([" ", "e", "'"]), rng.choice(BEHAVIORS), flip(rng)),
    ]  # fmt: skip
    if rng.random() < 0.15:
        return None
    if rng.random() < 0.5:
        return rng.choice(one)()
    return p.Sequence([rng.choice(one)() for _ in range(rng.randint(0, 3))])


def random_byte_level(rng):
    """A pre-tokenizer whose last step turns bytes into characters."""
    p = pre_tokenizers
    steps = [rng.choice([lambda: p.Digits(flip(rng)), lambda: p.Split(Regex(rng.choice(PATTERNS)), rng.choice(BEHAVIORS), flip(rng)),
                         lambda: p.Punctuation(rng.choice(BEHAVIORS))])() for _ in range(rng.randint(0, 2))]  # fmt: skip
    last = p.ByteLevel(add_prefix_space=flip(rng), use_regex=flip(rng), trim_offsets=flip(rng))
    return last if not steps else p.Sequence([*steps, last])


def random_decoder(rng):
    d = decoders
    one = [
        d.BPEDecoder, d.ByteFallback, d.ByteLevel, d.Fuse, lambda: d.WordPiece(rng.choice(["##", "_"]), flip(rng)),
        lambda: d.Metaspace(rng.choice(["\u2581", "_"]), rng.choice(["always", "never", "first"]), flip(rng)),
        lambda: d.Replace(rng.choice(["\u2581", "a", " "]), rng.choice([" ", "", "zz"])),
        lambda: d.Strip(rng.choice([" ", "a"]), *rng.choice([(0, 1), (1, 0), (2, 0)])),  # both sides can panic
        lambda: d.CTC(rng.choice(["<pad>", "e"]), "|", flip(rng)),
    ]  # fmt: skip
    if rng.random() < 0.25:
        return None
    if rng.random() < 0.4:
        return rng.choice(one)()
    return d.Sequence([rng.choice(one)() for _ in range(rng.randint(1, 3))])


def random_post_processor(rng, byte_level):
    q = processors
    template = q.TemplateProcessing(single=rng.choice(["<s> $A </s>", "$A </s>", "<s> $0", "<s> <s> $A:1 </s>:1"]),
                                    special_tokens=[("<s>", 1), ("</s>", 2)])  # fmt: skip
    kinds = [None, template, q.BertProcessing(("</s>", 2), ("<s>", 1)),
             q.RobertaProcessing(("</s>", 2), ("<s>", 1), trim_offsets=flip(rng), add_prefix_space=flip(rng)),
             q.Sequence([q.ByteLevel(trim_offsets=flip(rng)), template])]  # fmt: skip
    return rng.choice(kinds + [q.ByteLevel(trim_offsets=flip(rng))] * byte_level)


def random_model(rng, byte_level):
    """(model, trainer)."""
    special = ["[UNK]", "<s>", "</s>", "<pad>"]
    kind = "BPE" if byte_level else rng.choice(["BPE", "BPE", "Unigram", "WordPiece", "WordLevel"])
    common = dict(vocab_size=rng.choice([300, 500, 900]), show_progress=False)
    if kind == "BPE":
        extra, options = {}, dict(unk_token=rng.choice([None, "[UNK]"]), fuse_unk=flip(rng), ignore_merges=flip(rng))
        if byte_level:
            extra["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
        else:
            options["byte_fallback"] = flip(rng)
            if options["byte_fallback"]:
                special = special + [f"<0x{b:02X}>" for b in range(256) if rng.random() < 0.97]
                common["vocab_size"] += 256
            if rng.random() < 0.3:
                extra["continuing_subword_prefix"] = options["continuing_subword_prefix"] = rng.choice(["##", "_"])
            if rng.random() < 0.3:
                extra["end_of_word_suffix"] = options["end_of_word_suffix"] = "</w>"
        return models.BPE(**options), trainers.BpeTrainer(special_tokens=special, **common, **extra)
    if kind == "Unigram":
        return models.Unigram(), trainers.UnigramTrainer(special_tokens=special, unk_token="[UNK]", **common)
    if kind == "WordPiece":
        model = models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=rng.choice([5, 20, 100]))
        return model, trainers.WordPieceTrainer(special_tokens=special, continuing_subword_prefix="##", **common)
    return models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(special_tokens=special, **common)


def random_added(rng):
    texts = ["def", "world", "caf\u00e9", "12", "e\u0301", " the", "ab", "A", "\n\n", "<|im_start|>", "don't", "\u2581x", "[MASK]"]
    return [AddedToken(text, single_word=flip(rng), lstrip=flip(rng), rstrip=flip(rng), normalized=flip(rng), special=flip(rng))
            for text in rng.sample(texts, rng.randint(0, 6))]  # fmt: skip


def random_file(folder, rng, name, snippets):
    """The path of one random tokenizer."""
    byte_level = rng.random() < 0.35
    model, trainer = random_model(rng, byte_level)
    tokenizer = Tokenizer(model)
    for field, value in [("normalizer", random_normalizer(rng)),
                         ("pre_tokenizer", random_byte_level(rng) if byte_level else random_pre_tokenizer(rng)),
                         ("decoder", decoders.ByteLevel() if byte_level and flip(rng) else random_decoder(rng))]:  # fmt: skip
        if value is not None:
            setattr(tokenizer, field, value)
    text = [rng.choice(snippets) + rng.choice([" ", "", "\n"]) + rng.choice(snippets) for _ in range(600)]
    tokenizer.train_from_iterator(text + ["the quick brown fox jumps over the lazy dog", "unaffable words"] * 10, trainer)
    post = random_post_processor(rng, byte_level)
    if post is not None:
        tokenizer.post_processor = post
    tokens = random_added(rng)
    tokenizer.add_special_tokens([t for t in tokens if t.special])
    tokenizer.add_tokens([t for t in tokens if not t.special])
    path = os.path.join(folder, name + ".json")
    tokenizer.save(path)
    return path
