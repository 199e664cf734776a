#!/usr/bin/env python3
"""Compares apr with PyTorch on tiny models with random constants, some for each architecture.

    twins.py --apr build/release/apr [--through gguf] [--count N] [--seed N] [--seconds S] [--keep DIR] [NAME...]

For each architecture it draws N configurations (twin_configs.py), lets transformers make and save the model in f32,
bf16 or f16, rewrites config.json in the older style or leaves keys out that the configuration class defaults (only
where transformers then still reads the same), and compares `apr logits` with transformers in true float64. A
difference is printed with the configuration that shows it.

--through gguf writes each model with `apr export` first and runs that file, against the same PyTorch oracle. What a
GGUF cannot say the exporter refuses; those twins are counted. GGUF holds constants in f32, so its bound is wider.

The configuration that apr reads is the file; the one that PyTorch runs is what transformers reads from that file.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

try:
    import numpy
    import torch
    import transformers

    import make_model_oracle
    import true_float64
except ImportError as missing:
    print(f"not compared: {missing}")
    sys.exit(77)  # skipped
from twin_configs import CONFIGS, LONGEST

SAME = 1e-20  # NMSE of the reference executor against true float64
F32_TIMES = 4.0  # f32: error of apr against that of PyTorch f32, as NMSE (twice the error, squared)
F32_FLOOR = 4e-12  # below, both are the rounding of a few numbers
F32_SCATTER = 40.0  # logits follow from tokens * hidden numbers: of few, two sums of squares lie apart by chance (F distribution)
SAME_CONSTANTS_F32 = 1e-11  # through GGUF, whose eps, theta, scales and factors are f32
EXIT_DIFFERENT = 5
REFUSALS = ("GGUF cannot ", "GGUF has no ")
LENGTHS = (1, 13, LONGEST)


# --- Making a model ---


def read_back(directory):
    """What transformers makes of config.json, without what only bookkeeping differs in."""
    config = transformers.AutoConfig.from_pretrained(directory).to_dict()
    for key in ("torch_dtype", "_name_or_path", "transformers_version"):
        config.pop(key, None)
    for rope in [config.get("rope_parameters")] + list((config.get("rope_parameters") or {}).values()):
        if isinstance(rope, dict):
            rope.pop("type", None)  # kept beside "rope_type", which alone is read
    return config


class Rewriter:
    """Changes config.json step by step, keeping only steps after which transformers reads the same."""

    def __init__(self, directory):
        self.directory, self.path = directory, directory / "config.json"
        self.meant, self.applied = read_back(directory), []

    def step(self, name, change):
        before = self.path.read_text()
        try:
            self.path.write_text(json.dumps(change(json.loads(before)), indent=2) + "\n")
            if read_back(self.directory) == self.meant:
                self.applied.append(name)
                return
        except Exception:  # a class that cannot do without the key
            pass
        self.path.write_text(before)


def without(key):
    def change(config):
        del config[key]
        return config
    return change


def rewrite(directory, rng):
    """Older spellings and missing keys. Returns what was done, for the report."""
    rewriter = Rewriter(directory)
    if rng.random() < 0.5:
        rope_key = rng.choice(["type", "rope_type"])
        rewriter.step("older style", lambda config: make_model_oracle.to_older_style(config, rope_key))
    for key in sorted(json.loads(rewriter.path.read_text())):
        if key not in ("model_type", "architectures") and rng.random() < 0.5:
            rewriter.step("-" + key, without(key))
    return rewriter.applied


def make(model_type, rng, directory):
    config = transformers.AutoConfig.for_model(model_type, **CONFIGS[model_type](rng))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    scale = 0.05 if model_type.startswith("gemma") else 0.3
    make_model_oracle.fill(model, rng.randrange(1 << 30), scale)
    dtype = rng.choice(["float32", "bfloat16", "float16"])
    model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=rng.choice(["5GB", "5GB", "20KB"]))
    return [dtype] + rewrite(directory, rng)


# --- Comparing ---


def logits_of(apr, model, ids, out, *flags):
    """The array that apr writes; an exception carries its message."""
    command = [apr, "logits", model, "--ids", ",".join(map(str, ids)), "--out", out, "--force", *flags]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"apr ended with {done.returncode}: {done.stderr.strip()}")
    return torch.from_numpy(numpy.load(out)).double(), done.stderr.strip()


def meant_by(wide, plain, ids):
    """Logits in true float64, and those of PyTorch f32."""
    with torch.no_grad():
        with true_float64.true_float64():
            meant = wide(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        return meant, plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()


class Refused(Exception):
    pass


def exported(apr, directory):
    """The model as a GGUF beside it."""
    path = directory / "model.gguf"
    command = [str(apr), "export", str(directory), "--format", "gguf", "--dtype", "as-stored", "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0 and any(text in done.stderr for text in REFUSALS):
        raise Refused(done.stderr.strip().splitlines()[-1])
    if done.returncode != 0:
        raise RuntimeError(f"apr export ended with {done.returncode}: {done.stderr.strip()}")
    return path


def problems_of(apr, model, ids, meant, peer, ratios):
    """What differs for one sequence."""
    gguf = model.suffix == ".gguf"
    out = (model.parent if gguf else model) / "logits.npy"
    found = []
    mine, said = logits_of(apr, model, ids, out, "--executor", "reference", "--dtype", "f64")
    error = make_model_oracle.nmse(mine, meant)
    if not error <= (SAME_CONSTANTS_F32 if gguf else SAME):
        found.append(f"{len(ids)} tokens: reference NMSE {error:.1e}")
    if "nothing reads" in said or "does not use" in said:
        found.append(said)
    mine, _ = logits_of(apr, model, ids, out, "--precision", "exact")
    error, bound = make_model_oracle.nmse(mine, meant), make_model_oracle.nmse(peer, meant)
    ratios.append(error / max(bound, 1e-30))
    config = json.loads(((model.parent if gguf else model) / "config.json").read_text())
    numbers = len(ids) * (config.get("hidden_size") or config["n_embd"])
    if not error <= max(F32_TIMES * (1 + F32_SCATTER / numbers) * bound, F32_FLOOR):
        found.append(f"{len(ids)} tokens: exact NMSE {error:.1e}, PyTorch f32 {bound:.1e}")
    return found


def check(arguments, model_type, seed, ratios):
    """Problems of one twin; each twin has its own stream of random numbers."""
    rng = random.Random(f"{model_type} {seed}")
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"twin-{model_type}-{seed}-"))
    try:
        try:
            done = make(model_type, rng, directory)
            wide, plain = true_float64.load(directory, "f64"), true_float64.load(directory, "f32")
            sequences = [make_model_oracle.random_ids(rng.randrange(1 << 30), wide.config.vocab_size, n) for n in LENGTHS]
            answers = [meant_by(wide, plain, ids) for ids in sequences]
        except Exception as error:
            return "unmade", [f"transformers: {type(error).__name__}: {str(error)[:200]}"]
        found = []
        try:
            model = exported(arguments.apr, directory) if arguments.through == "gguf" else directory
            for ids, (meant, peer) in zip(sequences, answers, strict=True):
                found += problems_of(arguments.apr, model, ids, meant, peer, ratios)
        except Refused as error:
            return "refused", [str(error)]
        except RuntimeError as error:
            found.append(str(error))
        if found:
            found += ["made: " + ", ".join(done), "config.json: " + json.dumps(json.loads((directory / "config.json").read_text()))]
            if arguments.keep:
                shutil.copytree(directory, arguments.keep / directory.name)
        return "compared", found
    finally:
        shutil.rmtree(directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *CONFIGS], metavar="NAME", help="architectures; default: all")
    parser.add_argument("--apr", required=True, type=pathlib.Path)
    parser.add_argument("--through", choices=["gguf"], help="run what `apr export` makes of each")
    parser.add_argument("--count", type=int, default=3, help="twins of each architecture")
    parser.add_argument("--seed", type=int, default=1, help="of the first; the next has the next number")
    parser.add_argument("--seconds", type=float, help="begin no further round after this time")
    parser.add_argument("--keep", type=pathlib.Path, help="copy differing models there")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    names = arguments.names or list(CONFIGS)
    compared = {name: 0 for name in names}
    refused = {name: 0 for name in names}
    different, unmade, start, ratios = 0, 0, time.monotonic(), []
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        if arguments.seconds and time.monotonic() - start > arguments.seconds:
            break
        for name in names:
            state, found = check(arguments, name, seed, ratios)
            compared[name] += state == "compared"
            refused[name] += state == "refused"
            unmade += state == "unmade"
            different += state == "compared" and bool(found)
            if found:
                print(f"{name} {seed}: {state}", *("    " + line for line in found), sep="\n", flush=True)
    total = sum(compared.values())
    print(f"{total} twins of {len(names)} architectures compared, {different} different, {unmade} that transformers refused")
    if sum(refused.values()):
        print(f"{sum(refused.values())} that GGUF cannot hold:", ", ".join(f"{name} {n}" for name, n in refused.items() if n))
    if ratios:
        print(f"error of apr exact against that of PyTorch f32 (NMSE): median {numpy.median(ratios):.2f} times")
    if different or not all(compared[name] or refused[name] for name in names):
        sys.exit(EXIT_DIFFERENT)


if __name__ == "__main__":
    main()
