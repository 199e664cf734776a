#!/usr/bin/env python3
"""Compares the template engine with jinja2 on random templates and values.

    tools/template/differential.py --probe build/release/src/tokenizer/template_probe [--cases N] [--seed S]

Each case is a template grown from a grammar over everything docs/chat-templates.md lists, rendered with random
values by jinja2 in the environment that transformers sets up, and by the probe. Equal means: the same text, or an
error on both sides. Errors of the probe that are limits of its own (steps, memory, 128-bit integers, names said to
be unsupported) count apart. Exit 1 when anything differs. Needs jinja2 3.1.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from generator import Generator  # noqa: E402

try:
    from reference import Reference
except ImportError as missing:
    print(f"not compared: {missing}")
    sys.exit(77)  # skipped


class Probe:
    def __init__(self, path):
        self.path = path
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        encoding="utf-8")

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.start()
            return {"crash": code}
        return json.loads(line)


OWN_LIMITS = ("is not supported", "are not supported", "beyond 128 bits", "complex numbers", "nested deeper")


def verdict(expected, got):
    """'equal', 'limit' (the probe refuses what it says it does not do), or 'different'."""
    if "crash" in got:
        return "different"
    if "rendered" in expected:
        if got.get("rendered") == expected["rendered"]:
            return "equal"
        if "error" in got and (got.get("limit") or any(text in got["error"] for text in OWN_LIMITS)):
            return "limit"
        return "different"
    if "error" not in got:
        return "different"
    if expected["error_kind"] == "raise_exception":
        return "equal" if got["error"] == expected["error"] and got["error_kind"] == "raise_exception" else "different"
    return "equal"


def check_verdict():
    """The comparison itself, on planted faults."""
    text, error = {"rendered": "a"}, {"error": "e", "error_kind": "runtime"}
    raised = {"error": "e", "error_kind": "raise_exception"}
    assert verdict(text, text) == verdict(error, error) == verdict(raised, raised) == "equal"
    for expected, got in ((text, {"rendered": "b"}), (text, error), (error, text), (raised, error),
                          (raised, {"error": "f", "error_kind": "raise_exception"}), (text, {"crash": -11})):
        assert verdict(expected, got) == "different", (expected, got)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probe", required=True)
    parser.add_argument("--cases", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=10, help="differences to print")
    args = parser.parse_args()
    check_verdict()
    reference, probe = Reference(), Probe(args.probe)
    counts = collections.Counter()
    for i in range(args.cases):
        generator = Generator(random.Random(f"{args.seed}/{i}"))
        case = {"template": generator.template(), "variables": generator.variables(), "now": "2025-03-04T05:06:07"}
        expected = reference.render(case)
        if expected is None:
            counts["not comparable"] += 1
            continue
        result = verdict(expected, got := probe.ask(case))
        counts["rendered" if "rendered" in expected else expected["error_kind"]] += 1
        counts[result] += 1
        if result == "different" and counts["different"] <= args.show:
            print(f"case {args.seed}/{i}\n  template  {case['template']!r}\n  variables {case['variables']!r}\n"
                  f"  jinja2    {expected!r}\n  probe     {got!r}\n", flush=True)
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    return 1 if counts["different"] or not counts["equal"] else 0


if __name__ == "__main__":
    sys.exit(main())
