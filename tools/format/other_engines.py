#!/usr/bin/env python3
"""Files that apr writes, loaded by the engines they are written for.

For every model below ../shared/oracle/model that PyTorch's results lie beside:
  folder -> GGUF (F32)    -> llama.cpp (xllamacpp or llama-cpp-python): logits against the stored float64 ones
  GGUF                    -> transformers with gguf_file=: the same, where it reads the architecture from GGUF
  GGUF   -> folder        -> transformers: nothing missing or unexpected, logits against the stored ones
Real GGUF files (below APR_REAL_MODELS, or named by --real), to a folder: greedy text of transformers on it against apr's.

usage: other_engines.py --apr build/release/apr [--models FOLDER] [--only NAME] [--real FILE.gguf ...]
An engine that cannot be imported is left out and said so. What apr warned of when it wrote the file may differ.
Exit: 0 all as told, 1 a difference, 77 nothing to compare.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "oracle"))
import libllama

# Measured: f32 logits of these models lie between 1e-14 and 3e-11 from float64, llama.cpp's with its tables of
# exp and gelu in f16 (ggml-cpu, GGML_GELU_FP16) up to 1e-6.
LLAMA_NMSE = 1e-9
LLAMA_GELU_NMSE = 1e-5
TRANSFORMERS_NMSE = 1e-10
# transformers' reader of GGUF files (integrations/ggml.py, GGUF_CONFIG_MAPPING) has no entry for these.
UNREAD = dict.fromkeys(("cohere", "deepseek_v2", "deepseek_v3", "gemma", "gpt_neox", "granite", "mixtral", "olmo2", "olmoe",
                        "smollm3"), "an architecture that it does not read from GGUF")


def find_llama():
    try:
        libllama.find_library(None)
        return True
    except ValueError as problem:
        print(f"{problem}: its checks are left out")
        return False


def load(name):
    try:
        return __import__(name)
    except ImportError:
        print(f"{name} is not there: its checks are left out")
        return None


def nmse(have, want):
    have, want = have.astype(numpy.float64), want.astype(numpy.float64)
    if have.shape != want.shape or not numpy.isfinite(have).all():
        return float("inf")
    return float(((have - want) ** 2).sum() / (want**2).sum())


def run(apr, *arguments):
    """Returns its warnings."""
    done = subprocess.run([apr, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return [line for line in done.stderr.splitlines() if "no tokenizer" not in line]


def in_llama(path, ids):
    """In a process of its own: what llama.cpp dislikes it may answer with abort()."""
    with tempfile.NamedTemporaryFile() as out:
        command = [sys.executable, __file__, "--llama", str(path), "--ids", ",".join(map(str, ids)), "--out", out.name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            raise RuntimeError(next((line for line in reversed(done.stderr.splitlines()) if "rror" in line), f"exit {done.returncode}"))
        return numpy.fromfile(out.name, numpy.float32).reshape(len(ids), -1)


def in_transformers(engine, folder, ids, **more):
    torch = __import__("torch")
    model, info = engine.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **more)
    bad = {key: list(value) for key, value in info.items() if value}
    with torch.no_grad():
        logits = model(torch.tensor([[int(i) for i in ids]])).logits[0].float().numpy()
    return logits, bad


def judge(name, compute, want, limit, excuse):
    """(text of a column, whether it is a failure)"""
    try:
        logits, bad = compute()
    except Exception as problem:  # noqa: BLE001: whatever the engine throws is the finding
        if isinstance(problem, ImportError) or "pip install" in str(problem):  # transformers reads GGUF with packages that it does not require
            return f"{name} not compared: {str(problem).splitlines()[0][:60]}", False
        text, good = f"refuses: {str(problem).splitlines()[0][:90]}", False
    else:
        error = nmse(logits, want)
        text, good = f"{error:.1e}{f' {bad}' if bad else ''}", error <= limit and not bad
    return f"{name} {text}{'' if good else f' ({excuse})' if excuse else ' BAD'}", not good and not excuse


def check_model(args, engines, folder, scratch):
    from safetensors.numpy import load_file
    expected = load_file(folder / "expected.safetensors")
    # llama.cpp chooses between the two rope tables of longrope by the size of its cache, at least 256 tokens.
    which = "long" if "longrope" in (folder / "config.json").read_text() else "short"
    ids, want = expected[f"ids.{which}"], expected[f"logits_f64.{which}"]
    gguf, back = scratch / "m.gguf", scratch / "back"
    warnings = run(args.apr, "convert", folder, "-o", gguf, "--dtype", "f32")
    run(args.apr, "convert", gguf, "-o", back)
    # What apr warns of is what other readers of the file compute otherwise.
    said = "said" if warnings else ""
    columns = []
    if engines["llama.cpp"]:
        limit = LLAMA_GELU_NMSE if "gelu" in (folder / "config.json").read_text() else LLAMA_NMSE
        columns.append(judge("llama.cpp", lambda: (in_llama(gguf, ids), {}), want, limit, said))
    if engines["transformers"]:
        peer = engines["transformers"]
        columns.append(judge("folder", lambda: in_transformers(peer, back, ids), want, TRANSFORMERS_NMSE, ""))
        # It takes the sizes of many architectures from the tokenizer or not at all: the tensors are what is judged.
        config = peer.AutoConfig.from_pretrained(back)
        columns.append(judge("gguf_file", lambda: in_transformers(peer, scratch, ids, gguf_file="m.gguf", config=config), want,
                             TRANSFORMERS_NMSE, said or UNREAD.get(config.model_type, "")))
    print(f"{folder.name:20}", "  ".join(text for text, _ in columns), *[f"\n    {w}" for w in warnings], flush=True)
    return any(failed for _, failed in columns)


def check_real(args, engine, path, scratch):
    torch = __import__("torch")
    folder = scratch / "real"
    run(args.apr, "convert", path, "-o", folder, "--dtype", "f32")
    prompt = "The capital of France is"
    tokenizer = engine.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt")
    model, info = engine.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    out = model.generate(**ids, max_new_tokens=24, do_sample=False)
    theirs = out[0][ids["input_ids"].shape[1]:].tolist()
    ours = subprocess.run([args.apr, "run", path, "-p", prompt, "-n", "24", "--raw", "--precision", "exact", "--json"],
                          capture_output=True, text=True, check=True)
    answer = json.loads(ours.stdout)
    text = tokenizer.decode(theirs, skip_special_tokens=True)
    same = answer["text"] == text
    bad = {key: list(value) for key, value in info.items() if value}
    print(f"{pathlib.Path(path).name}: greedy text {'equal' if same else 'DIFFERS'}{f' {bad} BAD' if bad else ''}: {text!r}")
    if not same:
        print(f"    apr: {answer['text']!r}")
    return not same or bool(bad)


def real_models():
    root = os.environ.get("APR_REAL_MODELS")
    return sorted(pathlib.Path(root).rglob("*.gguf")) if root else []


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apr")
    parser.add_argument("--models", default=str(pathlib.Path(__file__).resolve().parents[2].parent / "shared/oracle/model"))
    parser.add_argument("--only", default="")
    parser.add_argument("--real", nargs="*", default=None)
    for inner in ("--llama", "--ids", "--out"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.llama:
        llama = libllama.Library()
        llama.logits(args.llama, [int(i) for i in args.ids.split(",")]).tofile(args.out)
        return
    engines = {"llama.cpp": find_llama(), "transformers": load("transformers")}
    if not any(engines.values()):
        print("neither engine is there")
        sys.exit(77)
    root = pathlib.Path(args.models)
    folders = sorted(f for f in (root.iterdir() if root.is_dir() else []) if (f / "expected.safetensors").exists() and args.only in f.name)
    real = (real_models() if args.real is None else args.real) if engines["transformers"] else []
    if not folders and not real:
        print(f"no models below {args.models}")
        sys.exit(77)
    failures = 0
    for folder in folders:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                failures += check_model(args, engines, folder, pathlib.Path(scratch))
            except RuntimeError as problem:
                print(f"{folder.name}  apr refuses: {problem}")
                failures += 1
    for path in real:
        with tempfile.TemporaryDirectory() as scratch:
            failures += check_real(args, engines["transformers"], path, pathlib.Path(scratch))
    print(f"{len(folders) + len(real)} models, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
