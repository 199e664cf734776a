"""Pairs that say the same or differ by rounding alone: any difference reported here is a false alarm."""

import json
import shutil
import subprocess

import torch

import engines
import faults_tokens
import gguf_side
import models

SOURCES = {  # a real case in which the comparison, or a harmless difference, was taken for a bug
    "style": "ggml-org/llama.cpp#12941", "format": "ggml-org/llama.cpp#12941", "quant": "ggml-org/llama.cpp#2783", "engine": "vllm-project/vllm#1334",
    "manifest": "paiml/aprender#1105", "tokens": "ggml-org/llama.cpp#7107", "executor": "ggml-org/llama.cpp#10714", "repeat": "vllm-project/vllm#1464",
}  # fmt: skip
DENSE = ("llama-mha", "llama-linear", "llama3-scaled-tied", "mistral-window", "qwen2", "qwen2-yarn", "qwen3", "gemma", "gemma2", "gemma3", "olmo2", "phi3",
         "phi3-longrope", "gpt2", "gpt-neox", "starcoder2", "stablelm", "cohere", "granite", "smollm3-nope")  # fmt: skip
EXPERTS = ("mixtral", "olmoe", "qwen2-moe-shared", "qwen3-moe", "qwen3-moe-nonorm")
OTHERS = ("llama-dynamic", "gpt-oss", "deepseek-v2", "deepseek-v3")
ALL = DENSE + EXPERTS + OTHERS
QUANTS = ("f32", "q8_0", "f16", "q4_0", "bf16", "q5_1", "q4_1", "q5_0")
OWN_QUANTS = ("q4_k", "q6_k", "q8_0", "q5_k", "q3_k", "q2_k", "q4_0")
DTYPES = ("f32", "bf16", "f16")


def pair(bench, name, group, base, make, a=None, args=()):
    """One healthy pair: make(b, model) writes B and may return another path for it."""
    identifier, path = f"healthy-{name}-{base}", models.folder(base)
    if path is None or not bench.wants(identifier):
        return
    b = bench.place(identifier, "b.gguf" if name.startswith("gguf") else "b.apr" if name.startswith("apr") else "b")
    try:
        other = make(b, models.Model.load(path))
    except subprocess.CalledProcessError as error:
        bench.problems.append(f"{identifier}: {error.stderr.decode()[-300:]}")
        return
    bench.add(identifier, "healthy", SOURCES[group], a or path, other or b, args=args)


# --- Files ---


def restyled(b, model):
    model.config = models.restyle(model.config)
    model.save(b)


def implicit(b, model):
    """Keys at their defaults left out, and keys that no engine reads put in."""
    for key in ("attention_bias", "mlp_bias", "attention_dropout", "initializer_range", "use_cache", "pretraining_tp"):
        if not model.config.get(key):
            model.config.pop(key, None)
    model.config |= {"_name_or_path": "somewhere/else", "transformers_version": "4.40.0", "use_cache": False, "attention_dropout": 0.1, "output_attentions": False}
    if model.config.get("head_dim") == model.hidden // model.heads:
        del model.config["head_dim"]
    model.save(b)


def recast(dtype, shards):
    return lambda b, model: model.to(dtype).save(b, shards)


def to_gguf(dtype):
    return lambda b, model: gguf_side.convert(model, dtype).save(b)


def linked_file(b, model):
    """The weights file itself is named instead of its folder."""
    model.save(b)
    return b / "model.safetensors"


def exported(bench, form, dtype):
    def make(b, model):
        source = b.parent / "a"
        shutil.rmtree(source, ignore_errors=True)
        model.save(source)
        flags = [] if form == "apr" and dtype is None else ["--dtype", dtype]
        subprocess.run([bench.program, "export", source, "--format", form, *flags, "-o", b], check=True, capture_output=True)
        shutil.rmtree(source)

    return make


def files(bench):
    for base in ALL:
        pair(bench, "style", "style", base, restyled)
    for number, base in enumerate(DENSE + EXPERTS):
        pair(bench, f"gguf-{QUANTS[number % 8]}", "quant", base, to_gguf(QUANTS[number % 8]))
        pair(bench, f"gguf-{QUANTS[(number + 3) % 8]}", "quant", base, to_gguf(QUANTS[(number + 3) % 8]))
    for number, base in enumerate(("llama-mha", "gemma3", "gpt2", "mixtral", "deepseek-v3", "phi3", "gpt-oss", "granite", "qwen3-moe")):
        dtype = (torch.float16, torch.bfloat16)[number % 2]
        pair(bench, "cast", "format", base, recast(dtype, 1 + number % 4))
    for base in ("llama-mha", "qwen2", "stablelm", "olmo2", "starcoder2", "qwen3-moe"):
        pair(bench, "implicit", "style", base, implicit)
    for base in ("qwen3", "gpt-neox"):
        pair(bench, "file", "format", base, linked_file)
    for base in ("llama-mha", "deepseek-v2", "gemma2"):
        path = models.folder(base)
        pair(bench, "executors", "executor", base, lambda b, model, path=path: f"{path}@reference", a=f"{path}@cpu")
        pair(bench, "itself", "repeat", base, lambda b, model, path=path: path)
    if bench.writes("gguf") and bench.writes("apr"):
        for number, base in enumerate(("gpt-oss", "deepseek-v2", "qwen2", "gemma3", "mixtral", "phi3-longrope", "llama3-scaled-tied", "cohere")):
            pair(bench, "gguf-exported", "format", base, exported(bench, "gguf", ("f32", "f16", "bf16")[number % 3]))
            pair(bench, "apr-exported", "format", base, exported(bench, "apr", None if number % 2 else "f32"))


# --- Engines ---


def captured(path, dtype, name="short", limit=None, engine="transformers 5.23.0", precision=None, attention=None):
    def make(b, model):
        ids = engines.sequence(path, name, limit)
        found = engines.run(engines.load(path, dtype, attention=attention), ids, dtype)
        engines.write(b, found, path, model.config["model_type"], ids, dtype, precision, engine)

    return make


def older_manifest(path):
    def make(b, model):
        captured(path, "f32")(b, model)
        manifest = json.loads((b / "stages.json").read_text())
        del manifest["precision"]
        manifest["executor"] = "float32 cpu"
        (b / "stages.json").write_text(json.dumps(manifest))

    return make


def without_manifest(path):
    def make(b, model):
        captured(path, "f32")(b, model)
        (b / "stages.json").unlink()

    return make


def few_stages(path, keep):
    """A capture of somebody who hooked module boundaries only."""

    def make(b, model):
        captured(path, "f32")(b, model)
        manifest = json.loads((b / "stages.json").read_text())
        for stage in manifest["stages"]:
            if stage["name"].split("/")[-1] not in keep:
                (b / f"{stage['name']}.bin").unlink()
        manifest["stages"] = [stage for stage in manifest["stages"] if stage["name"].split("/")[-1] in keep]
        (b / "stages.json").write_text(json.dumps(manifest))

    return make


def captures(bench):
    for number, base in enumerate(ALL):
        path = models.folder(base)
        if path is None:
            continue
        pair(bench, "torch-f32", "engine", base, captured(path, "f32"))
        narrow = DTYPES[1 + number % 2]
        if not (base == "gpt-oss" and narrow == "f16"):
            pair(bench, f"torch-{narrow}", "engine", base, captured(path, narrow))
    for base in ("llama-dynamic", "phi3-longrope", "gemma3", "llama3-scaled-tied"):
        path = models.folder(base)
        pair(bench, "torch-long", "engine", base, captured(path, "f32", "long", 120))
    for base in ("llama-mha", "deepseek-v3", "mixtral", "cohere"):
        pair(bench, "torch-f64", "engine", base, captured(models.folder(base), "f64"))
    for base in ("llama-mha", "gemma3", "qwen2"):
        pair(bench, "torch-sdpa", "engine", base, captured(models.folder(base), "f32", attention="sdpa"))
    for base in ("qwen2", "olmoe"):
        path = models.folder(base)
        pair(bench, "manifest-older", "manifest", base, older_manifest(path))
        pair(bench, "manifest-absent", "manifest", base, without_manifest(path), args=("--ids", ",".join(map(str, engines.sequence(path)))))
        pair(bench, "manifest-unknown", "manifest", base, captured(path, "f32", precision={"weights": "unknown", "activations": "unknown", "accumulate": "unknown"}))
    for base in ("llama-mha", "gpt2", "qwen3-moe"):
        pair(bench, "boundaries", "manifest", base, few_stages(models.folder(base), ("attn_norm", "attn_out", "ffn_norm", "post_ffn_residual", "lm_head")))
    for base, one, other in (("qwen3", "f64", "f32"), ("llama-linear", "f32", "bf16"), ("gemma2", "f32", "f16"), ("mixtral", "f32", "f32")):
        path = models.folder(base)
        if path is None or not bench.wants(f"healthy-stages-{base}"):
            continue
        a = bench.place(f"healthy-stages-{base}", "a")
        captured(path, one)(a, models.Model.load(path))
        pair(bench, "stages", "engine", base, captured(path, other), a=a)


# --- Tokenizers ---


def tokenizers(bench):
    for name, base in (("chat", "tiny-chat"), ("spm", "spm")):
        for how, word in (("-p", "text"), ("--messages", "messages"), ("", "probe")):
            identifier = f"healthy-tokens-{name}-{word}"
            if how == "--messages" and name == "spm" or not bench.wants(identifier):
                continue
            path, model = faults_tokens.base_model(bench, base)
            b = bench.place(identifier, "b.gguf")
            gguf_side.convert(model, "f16").save(b)
            bench.add(identifier, "healthy", SOURCES["tokens"], path, b, args=faults_tokens.arguments(bench, how))
    identifier = "healthy-tokens-merges-as-text"
    if bench.wants(identifier):
        path, model = faults_tokens.base_model(bench, "tiny-chat")
        # Older tokenizers wrote a merge as one string, newer ones as a pair.
        faults_tokens.tokenizer(lambda t: t["model"].update(merges=[m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]))(model)
        model.save(bench.place(identifier, "b"))
        bench.add(identifier, "healthy", SOURCES["tokens"], path, bench.out / identifier / "b", args=faults_tokens.arguments(bench, "-p"))


def register(bench):
    files(bench)
    captures(bench)
    tokenizers(bench)
