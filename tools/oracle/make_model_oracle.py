#!/usr/bin/env python3
"""Makes tiny random models as transformers saves them, and what they compute in true float64.

    make_model_oracle.py list
    make_model_oracle.py make NAME... --out testdata/model      writes testdata/model/NAME/
    make_model_oracle.py check DIR...                           recomputes a directory and compares

A directory holds config.json and safetensors weights (saved by transformers) and
  - expected.json         library versions, error of PyTorch f32, smallest top-2 gap on the greedy path, effect of each
                          constant, stages with shapes;
  - expected.safetensors  ids.{one,short,long,greedy}, logits_f64.* (long: rounded to f32), logits_f32.{one,short};
  - stages.safetensors    stage.layer-<N>/<name>, stage.final_norm, stage.lm_head for ids.short: float64, stored in f32.
NMSE = sum((a - b)^2) / sum(b^2).

A random model hides mistakes unless each of its constants matters: norm weights stand off 1, biases off 0, sequences
pass the windows and the original contexts of scaled ropes. `make` proves it: every constant of the variant is changed
in turn, and a change that the logits show less clearly than f32 rounding is an error.
"""

import argparse
import json
import pathlib
import sys

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

import stages
import true_float64
from variants import VARIANTS

SAME_F64 = 1e-24  # NMSE of two float64 runs that differ in the order of summation
SAME_F32 = 1e-15  # NMSE of two float64 results, each rounded to f32: nearly all elements equal
MATTERS = 10.0  # a constant's effect against the error of PyTorch f32, both as NMSE
CLEAR_GAP = 1e-3  # top-2 gap that no f32 run can turn round
EXIT_DIFFERENT = 5


def nmse(value, reference):
    value, reference = value.double(), reference.double()
    return float(((value - reference) ** 2).sum() / (reference**2).sum())


# --- Random weights ---


def fill(model, seed, table_scale):
    """Random weights, a function of the seed and the parameter names alone (numpy promises a stable bit stream)."""
    rng = numpy.random.Generator(numpy.random.PCG64(seed))
    # Tied weights appear once here; sorted, because the order of construction is transformers' own business.
    values = dict(sorted({**dict(model.named_parameters()), **persistent_buffers(model)}.items()))
    for name, value in values.items():
        noise = torch.from_numpy(rng.standard_normal(tuple(value.shape)))
        if "norm" in name or ".ln_" in name:
            # Around the neutral value: 1, or 0 where the module itself adds 1 (Gemma); norm biases around 0.
            new = float(value.detach().double().mean()) + 0.3 * noise
        elif value.dim() >= 2:
            # A matrix keeps the scale of what it multiplies.
            is_table = "embed_tokens" in name or "embed_in" in name or ".wte." in name or ".wpe." in name
            new = noise * (table_scale if is_table else 1.3 / value.shape[-1] ** 0.5)
        else:
            new = 0.3 * noise  # biases, attention sinks, expert selection biases
        value.data.copy_(new.to(value.dtype))


def persistent_buffers(model):
    stored = set(model.state_dict())
    return {name: value for name, value in model.named_buffers() if name in stored and value.is_floating_point()}


def random_ids(seed, vocab, count):
    """Ids in [3, vocab): 0, 1, 2 are the special ones in every variant."""
    return numpy.random.Generator(numpy.random.PCG64(seed)).integers(3, vocab, count).tolist()


# --- Config styles ---


def to_older_style(config, rope_key):
    """The keys that transformers wrote before version 5 (configuration_utils.py still reads them): `torch_dtype`,
    `rope_theta` beside `rope_scaling`, and for Gemma 3 `rope_local_base_freq`. `rope_key`: "type" before 4.45,
    "rope_type" since."""
    config = dict(config)
    config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters", None)
    if rope is None:
        return config
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    rope = dict(rope)
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    rope[rope_key] = rope.pop("rope_type")
    config["rope_scaling"] = None if rope[rope_key] == "default" else rope
    return config


def save(model, directory, variant):
    if directory.exists():
        raise SystemExit(f"{directory} exists")
    model.to(getattr(torch, variant.dtype)).save_pretrained(directory, max_shard_size=variant.shard)
    if variant.older_config:
        path = directory / "config.json"
        newer = transformers.AutoConfig.from_pretrained(directory).to_dict()
        rewritten = to_older_style(json.loads(path.read_text()), variant.rope_key)
        path.write_text(json.dumps(rewritten, indent=2, sort_keys=True) + "\n")
        older = transformers.AutoConfig.from_pretrained(directory).to_dict()
        if "rope_parameters" in older:
            older["rope_parameters"].pop("type", None)  # kept beside "rope_type", which alone is read
        # A key may live in two places after the rewrite; what transformers builds the model from must be unchanged.
        lost = [key for key in newer if newer[key] != older.get(key)]
        if lost:
            raise RuntimeError(f"{directory}: the older config style changes {lost}")


# --- What the model computes ---


def greedy(wide, prompt, count):
    """(ids, smallest top-2 gap) of greedy decoding by full recomputation in float64."""
    ids, gap = list(prompt), float("inf")
    for _ in range(count):
        with torch.no_grad(), true_float64.true_float64():
            logits = wide(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        best = torch.topk(logits, 2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids, gap


def effect_of_constants(wide, constants, ids, logits):
    """{constant: NMSE of the logits when it is changed}. A dotted key reaches into a nested dict."""
    effects = {}
    for key, changed in constants.items():
        config = wide.config.to_dict()
        *path, last = key.split(".")
        where = config
        for step in path:
            where = where[step]
        if last not in where:
            raise KeyError(f"{wide.config.model_type} has no {key}")
        where[last] = changed
        with true_float64.true_float64():
            other = type(wide)._from_config(
                type(wide.config).from_dict(config), dtype=torch.float64, **true_float64.EAGER
            ).eval()
        other.load_state_dict(wide.state_dict(), strict=True)
        with torch.no_grad(), true_float64.true_float64():
            effects[key] = nmse(other(input_ids=torch.tensor([ids]), use_cache=False).logits[0], logits)
    return effects


def compute(directory, ids, prompt, new, constants):
    """(expected.json without the names, tensors of expected.safetensors, stages) of the model in `directory`."""
    wide = true_float64.load(directory, "f64")
    plain = true_float64.load(directory, "f32")
    tensors, checks, shown = {}, {}, {}
    for name, sequence in ids.items():
        logits, found = stages.run(wide, sequence, true_float64.true_float64())
        logits_f32, _ = stages.run(plain, sequence)
        tensors[f"ids.{name}"] = torch.tensor(sequence, dtype=torch.int32)
        tensors[f"logits_f64.{name}"] = logits.float() if name == "long" else logits
        if name != "long":
            tensors[f"logits_f32.{name}"] = logits_f32
        if name == "short":
            shown = found
        checks[name] = {
            "tokens": len(sequence),
            "nmse_f32_vs_f64": nmse(logits_f32, logits),
            "max_abs": float((logits_f32.double() - logits).abs().max()),
        }
    path, gap = greedy(wide, prompt, new)
    tensors["ids.greedy"] = torch.tensor(path, dtype=torch.int32)
    checks["greedy"] = {"prompt": len(prompt), "new": new, "min_top2_gap": gap}
    effects = effect_of_constants(wide, constants, ids["long"], tensors["logits_f64.long"].double())
    expected = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "checks": checks,
        "constants": effects,
        "stages": {name: list(value.shape) for name, value in shown.items()},
    }
    return expected, tensors, shown


def write_expected(directory, head, expected, tensors, shown):
    (directory / "expected.json").write_text(json.dumps({**head, **expected}, indent=1) + "\n")
    save_file({name: value.contiguous() for name, value in tensors.items()}, directory / "expected.safetensors")
    save_file({f"stage.{name}": stages.to_f32(value) for name, value in shown.items()},
              directory / "stages.safetensors")


def require_useful(name, expected):
    """Refuses a model on which a wrong implementation could pass."""
    checks = expected["checks"]
    floor = max(checks[kind]["nmse_f32_vs_f64"] for kind in ("one", "short", "long"))
    weak = {key: value for key, value in expected["constants"].items() if not value > MATTERS * floor}
    if weak:
        raise RuntimeError(f"{name}: constants without a visible effect (f32 error {floor:.1e}): {weak}")
    if checks["greedy"]["min_top2_gap"] < CLEAR_GAP:
        raise RuntimeError(f"{name}: top-2 gap {checks['greedy']['min_top2_gap']:.1e}; choose another seed")


def make(name, out):
    variant, directory = VARIANTS[name], pathlib.Path(out) / name
    config = transformers.AutoConfig.for_model(variant.model_type, **variant.config)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fill(model, variant.seed, variant.table_scale)
    save(model, directory, variant)
    ids = {"one": [5], "short": random_ids(variant.seed + 1, config.vocab_size, variant.short),
           "long": random_ids(variant.seed + 2, config.vocab_size, variant.long)}
    expected, tensors, shown = compute(directory, ids, ids["short"][:7], variant.new, variant.constants)
    require_useful(name, expected)
    head = {"name": name, "model_type": variant.model_type, "saved_dtype": variant.dtype}
    write_expected(directory, head, expected, tensors, shown)
    size = sum(path.stat().st_size for path in directory.iterdir())
    print(f"{name}: {size / 1000:.0f} kB, f32 error {expected['checks']['long']['nmse_f32_vs_f64']:.1e}, "
          f"gap {expected['checks']['greedy']['min_top2_gap']:.1e}, "
          f"weakest constant {min(expected['constants'].items(), key=lambda item: item[1], default=None)}")


# --- Comparing with what a directory says ---


def check(directory):
    """Problems found when `directory` is recomputed; prints the figures."""
    directory = pathlib.Path(directory)
    said = json.loads((directory / "expected.json").read_text())
    tensors, shown = load_file(directory / "expected.safetensors"), load_file(directory / "stages.safetensors")
    problems, figures = [], []
    wide = true_float64.load(directory, "f64")
    for name in ("one", "short", "long"):
        logits, found = stages.run(wide, tensors[f"ids.{name}"].tolist(), true_float64.true_float64())
        reference = tensors[f"logits_f64.{name}"]
        error = nmse(logits.to(reference.dtype), reference)
        figures.append(f"{name} {error:.1e}")
        if not error <= (SAME_F64 if reference.dtype == torch.float64 else SAME_F32):
            problems.append(f"logits of {name}: NMSE {error:.1e}")
        if name == "short":
            mine = {f"stage.{key}": stages.to_f32(value) for key, value in found.items()}
    if set(mine) != set(shown) or not shown:
        problems.append(f"stages only on one side: {sorted(set(mine) ^ set(shown))}")
    unequal = 0
    for key in sorted(set(mine) & set(shown)):
        if mine[key].shape != shown[key].shape:
            problems.append(f"{key}: {list(mine[key].shape)}, stored {list(shown[key].shape)}")
            continue
        unequal += int((mine[key] != shown[key]).sum())
        error = nmse(mine[key], shown[key])
        if not error <= SAME_F32:
            problems.append(f"{key}: NMSE {error:.1e}")
    figures.append(f"{len(shown)} stages, {sum(value.numel() for value in shown.values())} elements, {unequal} unequal")
    path = tensors["ids.greedy"].tolist()
    again, gap = greedy(wide, path[: said["checks"]["greedy"]["prompt"]], said["checks"]["greedy"]["new"])
    figures.append(f"greedy {len(path)} ids, gap {gap:.1e}")
    if again != path:
        problems.append("greedy ids differ")
    print(f"{directory.name:22s} {'DIFFERENT' if problems else 'same'}: {', '.join(figures)}")
    for problem in problems:
        print(f"    {problem}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names of the variants")
    making = commands.add_parser("make", help="write model directories")
    making.add_argument("names", nargs="+", choices=sorted(VARIANTS), metavar="NAME")
    making.add_argument("--out", required=True, type=pathlib.Path)
    checking = commands.add_parser("check", help="recompute model directories and compare")
    checking.add_argument("directories", nargs="+", type=pathlib.Path, metavar="DIR")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # one order of summation, whatever the machine
    if arguments.command == "list":
        print("\n".join(VARIANTS))
    elif arguments.command == "make":
        for name in arguments.names:
            make(name, arguments.out)
    elif any([check(directory) for directory in arguments.directories]):
        sys.exit(EXIT_DIFFERENT)


if __name__ == "__main__":
    main()
