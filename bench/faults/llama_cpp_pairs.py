"""Pairs whose B is what llama.cpp computed: sound ones in every storage type, and three in which it really departs from the model.

Where weights are quantised, llama.cpp rounds activations to 8 bits: the largest rounding that is still no bug."""

import subprocess
import sys

import engines
import gguf_side
import models
from case import Expect

SOUND = (
    ("llama-mha", "f32"), ("llama-mha", "q8_0"), ("llama-mha", "q4_0"), ("llama3-scaled-tied", "f16"), ("llama-linear", "bf16"), ("qwen2-yarn", "q8_0"),
    ("qwen3", "q4_1"), ("olmo2", "q5_0"), ("phi3", "f32"), ("stablelm", "q8_0"), ("cohere", "f32"), ("granite", "q8_0"), ("smollm3-nope", "q5_1"),
    ("mixtral", "f32"), ("mixtral", "q8_0"), ("qwen2-moe-shared", "q4_0"), ("qwen3-moe", "q8_0"), ("gemma", "q8_0"), ("gpt2", "q8_0"), ("starcoder2", "f16"),
)  # fmt: skip
# base, what differs, source, causes, stage: llama.cpp has no key for a window in `llama`, chooses longrope factors by the
# context that was allocated, and takes Gemma's query scale from the size of the model.
DEPARTING = (
    ("mistral-window", "window", "EricLBuehler/mistral.rs#2094", ["sliding_window"], ["attn_softmax"]),
    ("phi3-longrope", "allocated-context", "ggml-org/llama.cpp#24823", ["rope_scaling"], ["q_post_rope"]),
    ("gemma2", "query-scale", "TransformerLensOrg/TransformerLens#27", ["attention_scale"], ["attn_scores"]),
    ("gemma3", "query-scale", "TransformerLensOrg/TransformerLens#27", ["attention_scale"], ["attn_scores"]),
)


def capture(bench, path, dtype, file, out):
    gguf = gguf_side.convert(models.Model.load(path), dtype)
    gguf.meta["tokenizer.ggml.model"] = "none"  # llama.cpp then needs no vocabulary
    gguf.save(file)
    ids = ",".join(map(str, engines.sequence(path)))
    command = [sys.executable, models.ROOT / "tools" / "capture_llama_cpp.py", file, "--ids", ids, "--out", out, "--threads", "1", "--library", bench.llama]
    subprocess.run(command, check=True, capture_output=True)


def register(bench):
    if bench.llama is None:
        return
    for base, dtype in SOUND:
        identifier, path = f"healthy-llama-{base}-{dtype}", models.folder(base)
        if path is None or not bench.wants(identifier):
            continue
        a, b = bench.place(identifier, "a.gguf"), bench.place(identifier, "b")
        capture(bench, path, dtype, a, b)
        bench.add(identifier, "healthy", "ggml-org/llama.cpp#4755", a, b)
    for base, name, source, causes, stage in DEPARTING:
        identifier, path = f"engine-llama-{name}-{base}", models.folder(base)
        if path is None or not bench.wants(identifier):
            continue
        b = bench.place(identifier, "b")
        capture(bench, path, "f32", bench.place(identifier, "b.gguf"), b)
        bench.add(identifier, "engine", source, path, b, Expect(phase=["ops"], layer=[0], stage=stage, causes=causes))
