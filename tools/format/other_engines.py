#!/usr/bin/env python3
"""Files that apr writes, loaded by the engines they are written for.

For every model below ../shared/oracle/model (and those of testdata/model that PyTorch's results lie beside):
  folder -> GGUF (F32)  -> llama.cpp (llama-cpp-python): logits against the stored float64 ones
  GGUF   -> folder      -> transformers: nothing missing or unexpected, logits against the stored ones
With --real: the GGUF files named, to a folder, greedy text of transformers on it against apr's.

usage: other_engines.py --apr build/release/apr [--models FOLDER] [--only NAME] [--real FILE.gguf ...]
An engine that cannot be imported is left out and said so. Exit: 0 all as told, 1 a difference, 77 nothing to compare.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy

# Measured: llama.cpp's f32 logits of these models lie between 1e-14 and 3e-11 from float64.
LLAMA_NMSE = 1e-9
TRANSFORMERS_NMSE = 1e-10


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


@contextlib.contextmanager
def silent():
    """llama.cpp writes to the file descriptors themselves."""
    saved = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved[0], 1), os.dup2(saved[1], 2)
        for fd in (*saved, null):
            os.close(fd)


def run(apr, *arguments):
    done = subprocess.run([apr, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return [line for line in done.stderr.splitlines() if "no tokenizer" not in line]


def in_llama(engine, path, ids):
    with silent():
        model = engine.Llama(str(path), n_ctx=max(512, len(ids)), n_batch=512, n_threads=2, logits_all=True, verbose=False,
                             type_k=0, type_v=0, flash_attn=False)
        model.eval([int(i) for i in ids])
        return numpy.array(model.scores[: len(ids)], dtype=numpy.float32)


def in_transformers(engine, folder, ids):
    torch = __import__("torch")
    model, info = engine.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    bad = {key: list(value) for key, value in info.items() if value}
    with torch.no_grad():
        logits = model(torch.tensor([[int(i) for i in ids]])).logits[0].float().numpy()
    return logits, bad


def check_model(args, engines, folder, scratch):
    from safetensors.numpy import load_file
    expected = load_file(folder / "expected.safetensors")
    ids, want = expected["ids.short"], expected["logits_f64.short"]
    gguf, back = scratch / "m.gguf", scratch / "back"
    warnings = run(args.apr, "convert", folder, "-o", gguf, "--dtype", "f32")
    run(args.apr, "convert", gguf, "-o", back)
    row, failed = [folder.name], False
    if engines["llama_cpp"]:
        try:
            error = nmse(in_llama(engines["llama_cpp"], gguf, ids), want)
            # What apr warns of is what llama.cpp computes otherwise.
            good = error <= LLAMA_NMSE or bool(warnings)
            row.append(f"llama.cpp {error:.1e}{'' if error <= LLAMA_NMSE else ' (said)' if good else ' BAD'}")
            failed |= not good
        except Exception as problem:  # noqa: BLE001: whatever the engine throws is the finding
            row.append(f"llama.cpp refuses: {str(problem)[:60]}{' (said)' if warnings else ' BAD'}")
            failed |= not warnings
    if engines["transformers"]:
        logits, bad = in_transformers(engines["transformers"], back, ids)
        error = nmse(logits, want)
        row.append(f"transformers {error:.1e}{f' {bad} BAD' if bad else ''}{' BAD' if error > TRANSFORMERS_NMSE else ''}")
        failed |= bool(bad) or error > TRANSFORMERS_NMSE
    print("  ".join(row), *[f"\n    {w}" for w in warnings])
    return failed


def check_real(args, engine, path, scratch):
    torch = __import__("torch")
    folder = scratch / "real"
    run(args.apr, "convert", path, "-o", folder, "--dtype", "f32")
    prompt = "The capital of France is"
    ours = subprocess.run([args.apr, "run", path, "-p", prompt, "-n", "24", "--raw", "--precision", "exact", "--quiet"],
                          capture_output=True, text=True)
    if ours.returncode != 0:
        ours = subprocess.run([args.apr, "run", path, "-p", prompt, "-n", "24", "--json"], capture_output=True, text=True, check=True)
    tokenizer = engine.AutoTokenizer.from_pretrained(folder)
    model, info = engine.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(out[0][ids["input_ids"].shape[1]:], skip_special_tokens=True)
    same = text.strip() in ours.stdout or ours.stdout.strip() in text or text.strip() in json.dumps(ours.stdout)
    print(f"{pathlib.Path(path).name}: missing or unexpected {[k for k, v in info.items() if v]}; greedy text {'equal' if same else 'DIFFERS'}")
    if not same:
        print(f"    transformers: {text!r}\n    apr:          {ours.stdout!r}")
    return not same or any(info.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apr", required=True)
    parser.add_argument("--models", default=str(pathlib.Path(__file__).resolve().parents[2].parent / "shared/oracle/model"))
    parser.add_argument("--only", default="")
    parser.add_argument("--real", nargs="*", default=[])
    args = parser.parse_args()
    engines = {name: load(name) for name in ("llama_cpp", "transformers")}
    if not any(engines.values()):
        print("neither engine is there")
        sys.exit(77)
    root = pathlib.Path(args.models)
    folders = sorted(f for f in (root.iterdir() if root.is_dir() else []) if (f / "expected.safetensors").exists() and args.only in f.name)
    if not folders and not args.real:
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
    for path in args.real:
        with tempfile.TemporaryDirectory() as scratch:
            failures += check_real(args, engines["transformers"], path, pathlib.Path(scratch))
    print(f"{len(folders) + len(args.real)} models, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
