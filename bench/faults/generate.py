#!/usr/bin/env python3
"""Writes the pairs of the fault bench: faulty ones and healthy ones, from fixed seeds.

    generate.py OUT [--only TEXT] [--kinds config,weights,...] [--program build/release/apr] [--libllama libllama.so]

OUT/pairs.json lists them: sides, what to call, what must be answered. Sides that come from the program itself (exports,
traces) are made only where it is built; those of llama.cpp where a package brings it (pip install xllamacpp) or --libllama
names it."""

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import time

import models  # noqa: F401  (puts tools/oracle on the path)
from case import KINDS, Bench

import libllama

MODULES = {"file": "faults_file", "config": "faults_config", "tokens": "faults_tokens", "weights": "faults_weights", "engine": "faults_engine",
           "sweep": "faults_sweep", "random": "faults_random", "input": "faults_input", "llama": "llama_cpp_pairs", "healthy": "healthy", "packed": "packed"}


def llama_library(given):
    try:
        return libllama.find_library(given)[0][-1]
    except ValueError as error:
        print(error, file=sys.stderr)
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", default="", help="pairs whose id contains this text")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "build" / "release" / "apr")
    parser.add_argument("--libllama", type=pathlib.Path)
    parser.add_argument("--seed", type=int, help="of the pairs drawn at random: another number, other pairs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    program = arguments.program.resolve() if arguments.program.exists() else None
    bench = Bench(arguments.out.resolve(), arguments.only, program, llama_library(arguments.libllama))
    if arguments.seed is not None:
        for kind in ("sweep", "random"):
            importlib.import_module(MODULES[kind]).SEED = arguments.seed
    start = time.monotonic()
    for kind in arguments.kinds.split(","):
        importlib.import_module(MODULES[kind]).register(bench)
        print(f"{kind}: {len(bench.cases)} pairs so far, {time.monotonic() - start:.0f} s", flush=True)
    path = arguments.out / "pairs.json"
    old = [case for case in json.loads(path.read_text()) if path.exists() and case["id"] not in {c.id for c in bench.cases}] if path.exists() else []
    pairs = old + [dataclasses.asdict(case) | {"held": case.held()} for case in bench.cases]
    path.write_text(json.dumps(sorted(pairs, key=lambda case: case["id"]), indent=1) + "\n")
    for problem in bench.problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if bench.problems else 0)


if __name__ == "__main__":
    main()
