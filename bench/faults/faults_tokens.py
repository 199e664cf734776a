"""Pairs whose B makes other token ids of a text, another prompt of a conversation, or stops elsewhere."""

import dataclasses
import json

import gguf_side
import models
from case import Expect

LLAMA = "ggml-org/llama.cpp"
TEXT = "Hello world, what does rope do? I'm 42 years old."
MESSAGES = [{"role": "user", "content": "What does rope do?"}]
CHAT, SPM = "tiny-chat", "spm"
ALPACA = "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}\n\n{% endfor %}{% if add_generation_prompt %}### assistant:\n{% endif %}"


@dataclasses.dataclass
class Fault:
    name: str
    base: str
    source: str
    change: object
    causes: list
    key: list
    gguf: bool = False
    args: str = "-p"  # "-p", "--messages", "--ids" or ""
    also: list = dataclasses.field(default_factory=list)
    verdict: list = dataclasses.field(default_factory=lambda: ["different"])


def settings(**values):
    """Changes tokenizer_config.json."""

    def change(model):
        found = json.loads(model.extras["tokenizer_config.json"]) | values
        model.extras["tokenizer_config.json"] = json.dumps(found, indent=1)

    return change


def tokenizer(function):
    """Changes tokenizer.json."""

    def change(model):
        found = json.loads(model.extras["tokenizer.json"])
        function(found)
        model.extras["tokenizer.json"] = json.dumps(found, ensure_ascii=False)

    return change


def both(*changes):
    return lambda target: [change(target) for change in changes]


def meta(**values):
    def change(file):
        for name, value in values.items():
            key = "tokenizer." + name.replace("__", ".")
            if value is None:
                file.meta.pop(key)
            else:
                file.meta[key] = value

    return change


def no_post_processor(t):
    t["post_processor"] = None


def twice_bos(t):
    t["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "<s>", "type_id": 0}})


def bos_first(token, number):
    def change(t):
        t["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                               "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}}}

    return change


def swap_vocabulary(one, other):
    def change(t):
        vocab = t["model"]["vocab"]
        vocab[one], vocab[other] = vocab[other], vocab[one]

    return change


def rename_piece(t):
    """One piece of the vocabulary spelled otherwise, its merge with it gone from use."""
    vocab = t["model"]["vocab"]
    piece = max((p for p in vocab if p.isascii() and p.isalpha()), key=len)
    vocab[piece + "x"] = vocab.pop(piece)
    t["model"]["merges"] = [m for m in t["model"]["merges"] if "".join(m if isinstance(m, list) else m.split(" ")) != piece]


def reverse_merges(t):
    t["model"]["merges"] = t["model"]["merges"][::-1]


def fewer_merges(t):
    t["model"]["merges"] = t["model"]["merges"][: len(t["model"]["merges"]) // 2]


def words_with_marks(t):
    t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\S+|\s+"


def plain_added(token):
    def change(t):
        t["added_tokens"] = [a for a in t["added_tokens"] if a["content"] != token]

    return change


def no_prefix(t):
    t["normalizer"]["normalizers"] = [n for n in t["normalizer"]["normalizers"] if n["type"] != "Prepend"]


def token_types(token, kind):
    def change(file):
        file.meta["tokenizer.ggml.token_type"][file.meta["tokenizer.ggml.tokens"].index(token)] = kind

    return change


def swapped_tokens(file):
    tokens = file.meta["tokenizer.ggml.tokens"]
    tokens[300], tokens[301] = tokens[301], tokens[300]


CHAT_SUFFIX = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
FAULTS = [
    Fault("bos-missing", SPM, "EleutherAI/lm-evaluation-harness#2676", both(settings(add_bos_token=False), tokenizer(no_post_processor)), ["bos_missing"],
          ["add_bos_token", "bos_token_id", "post_processor", "bos_token"]),
    Fault("bos-missing-gguf", SPM, "vllm-project/vllm#28539", meta(ggml__add_bos_token=False), ["bos_missing"],
          ["add_bos_token", "bos_token_id"], gguf=True),
    Fault("bos-missing-with-ids", SPM, "EleutherAI/lm-evaluation-harness#3430", meta(ggml__add_bos_token=False), ["bos_missing"],
          ["add_bos_token", "bos_token_id"], gguf=True, args="--ids"),
    Fault("bos-added", CHAT, f"{LLAMA}#7062", both(settings(bos_token="<|endoftext|>", add_bos_token=True), tokenizer(bos_first("<|endoftext|>", 0))),
          ["bos_added"], ["add_bos_token", "bos_token_id", "post_processor", "bos_token"]),
    Fault("bos-added-gguf", CHAT, f"{LLAMA}#7062", meta(ggml__add_bos_token=True, ggml__bos_token_id=0), ["bos_added"],
          ["add_bos_token", "bos_token_id"], gguf=True),
    Fault("double-bos", SPM, f"{LLAMA}#7062", tokenizer(twice_bos), ["double_bos"], []),
    Fault("double-bos-template", SPM, f"{LLAMA}#7062", settings(chat_template="{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"),
          ["double_bos", "chat_template"], [], args="--messages"),
    Fault("eos-id", CHAT, f"{LLAMA}#9583", meta(ggml__eos_token_id=0), ["eos_id"], ["eos_token_id"], gguf=True),
    Fault("eos-token", SPM, f"{LLAMA}#9583", both(settings(eos_token="<unk>"), lambda m: m.config.update(eos_token_id=0)), ["eos_id"],
          ["eos_token_id", "eos_token"]),
    Fault("eos-with-ids-only", CHAT, f"{LLAMA}#9583", meta(ggml__eos_token_id=1), ["eos_id"], ["eos_token_id"], gguf=True, args=""),
    Fault("vocabulary-swapped", CHAT, f"{LLAMA}#6944", tokenizer(swap_vocabulary("e", "t")), ["vocabulary"], []),
    Fault("vocabulary-swapped-gguf", CHAT, f"{LLAMA}#3133", swapped_tokens, ["vocabulary"], [], gguf=True, args=""),
    Fault("vocabulary-renamed", CHAT, f"{LLAMA}#3133", tokenizer(rename_piece), ["vocabulary", "merges"], [], args=""),
    Fault("merges-reversed", CHAT, f"{LLAMA}#6944", tokenizer(reverse_merges), ["merges"], []),
    Fault("merges-halved", SPM, f"{LLAMA}#6944", tokenizer(fewer_merges), ["merges"], []),
    Fault("merges-gguf", CHAT, f"{LLAMA}#6944", lambda f: f.meta.update({"tokenizer.ggml.merges": f.meta["tokenizer.ggml.merges"][:60]}), ["merges"], [], gguf=True),
    Fault("pretokenizer-words", CHAT, f"{LLAMA}#6944", tokenizer(words_with_marks), ["pretokenizer"], []),
    Fault("pretokenizer-gguf", CHAT, f"{LLAMA}#6944", meta(ggml__pre="gpt-2"), ["pretokenizer"], ["tokenizer.ggml.pre", "pre_tokenizer"], gguf=True),
    Fault("pretokenizer-gguf-default", CHAT, f"{LLAMA}#6944", meta(ggml__pre="default"), ["pretokenizer"], ["tokenizer.ggml.pre", "pre_tokenizer"], gguf=True, args=""),
    Fault("special-not-special", CHAT, f"{LLAMA}#7062", tokenizer(plain_added("<|im_start|>")), ["special_tokens", "vocabulary"], [], args="--messages"),
    Fault("special-normal-gguf", CHAT, f"{LLAMA}#7062", token_types("<|im_end|>", 1), ["special_tokens"], [], gguf=True, args="--messages"),
    Fault("space-prefix", SPM, "vllm-project/vllm.cpp#2077", tokenizer(no_prefix), ["space_prefix"], []),
    Fault("space-prefix-gguf", SPM, "vllm-project/vllm.cpp#2077", meta(ggml__add_space_prefix=False), ["space_prefix"], [], gguf=True),
    Fault("template-changed", CHAT, "utilityai/llama-cpp-rs#1096", settings(chat_template=ALPACA), ["chat_template"], ["chat_template"], args="--messages"),
    Fault("template-gguf", CHAT, f"{LLAMA}#9583", meta(chat_template=ALPACA), ["chat_template"], ["chat_template"], gguf=True, args=""),
    Fault("template-newline", CHAT, "hiyouga/LlamaFactory#6020",
          lambda m: settings(chat_template=json.loads(m.extras["tokenizer_config.json"])["chat_template"].replace("assistant\\n", "assistant"))(m),
          ["chat_template"], ["chat_template"], args="--messages"),
    Fault("template-generation-prompt", CHAT, f"{LLAMA}#15110",
          lambda m: settings(chat_template=json.loads(m.extras["tokenizer_config.json"])["chat_template"].replace(CHAT_SUFFIX, ""))(m),
          ["chat_template"], ["chat_template"], args="-p"),
    Fault("template-absent-gguf", CHAT, f"{LLAMA}#9583", meta(chat_template=None), ["chat_template"], ["chat_template"], gguf=True, args=""),
    Fault("two-bos-and-template", CHAT, f"{LLAMA}#7062, #9583", meta(ggml__add_bos_token=True, ggml__bos_token_id=0, chat_template=ALPACA),
          ["bos_added", "chat_template"], [], gguf=True, also=[{"causes": ["bos_added", "chat_template"]}]),
    Fault("two-pre-and-weights", CHAT, f"{LLAMA}#6944, #12439", both(meta(ggml__pre="gpt-2"), lambda f: f.edit("blk.1.attn_v.weight", lambda v: v * 0)),
          ["pretokenizer"], [], gguf=True, also=[{"causes": ["zeroed_tensor"], "layer": 1}]),
]  # fmt: skip


def base_model(bench, name):
    if name == SPM:
        path = bench.shared("spm-chat", lambda out: models.spm_chat_model().save(out))
    else:
        path = models.folder(name)
    return path, models.Model.load(path)


def arguments(bench, how):
    if how == "-p":
        return ["-p", TEXT]
    if how == "--ids":
        return ["--ids", "5,60,17"]
    if how == "--messages":
        return ["--messages", bench.shared("messages.json", lambda out: out.write_text(json.dumps(MESSAGES)))]
    return []


def register(bench):
    for fault in FAULTS:
        identifier = f"tokens-{fault.name}"
        if not bench.wants(identifier):
            continue
        path, model = base_model(bench, fault.base)
        b = bench.place(identifier, "b.gguf" if fault.gguf else "b")
        a = path
        if fault.gguf:
            file = gguf_side.convert(model)
            fault.change(file)
            file.save(b)
        else:
            fault.change(model)
            model.save(b)
            if fault.name == "double-bos-template":  # the trusted side has a template too, with one BOS
                a = bench.place(identifier, "a")
                one = models.Model.load(path)
                settings(chat_template="{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}")(one)
                one.save(a)
        bench.add(identifier, "tokens", fault.source, a, b, Expect(phase=["tokens"], key=fault.key, causes=fault.causes, also=fault.also, verdict=fault.verdict),
                  arguments(bench, fault.args))
