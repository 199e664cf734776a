"""No path of somebody's machine and no unfinished-work marks in any text file."""

import re

from tree import Fault, Report, Tree

BINARY = (".gguf", ".safetensors", ".npy", ".apr", ".bin", ".png", ".gz", ".model")
MARKS = "TO" + "DO|FIX" + "ME|XX" + "X"
RULES = [
    (re.compile(rf"\b({MARKS})\b"), "unfinished-work mark"),
    (re.compile(r"(?<![\w.}/~-])/(home|root|work|Users)/"), "path of a machine"),
]


def check(tree: Tree) -> Report:
    report = Report()
    paths = [p for p in tree.files() if not p.endswith(BINARY) and not p.startswith("testdata/")]
    for path in paths:
        for number, line in tree.lines(path):
            for pattern, what in RULES:
                if match := pattern.search(line):
                    report.findings.append(f"{path}:{number}: {what}: {match.group(0)}")
    report.looked_at = f"{len(paths)} text files"
    return report


CLEAN = {"src/a.cc": "// Reads src/root/x and ~/work/y; a todo in prose is fine.\n"}
FAULTS = [
    Fault("mark", {"src/a.cc": "// TO" + "DO: later\n"}, "src/a.cc:1: unfinished-work mark"),
    Fault("machine-path", {"README.md": "Open /ho" + "me/someone/model.gguf\n"}, "README.md:1: path of a machine"),
]
