"""No path of somebody's machine and no unfinished-work marks in any text file; src/ prints nothing."""

import re

from tree import Fault, Report, Tree

BINARY = (".gguf", ".safetensors", ".npy", ".apr", ".bin", ".png", ".gz", ".model")
MARKS = "TO" + "DO|FIX" + "ME|XX" + "X"
RULES = [
    (re.compile(rf"\b({MARKS})\b"), "unfinished-work mark"),
    (re.compile(r"(?<![\w.}/~-])/(home|root|work|Users)/"), "path of a machine"),
]
PRINTING = re.compile(r"\bstd::(cout|cerr|clog)\b|\b(fmt::print|f?printf|f?puts)\(")
MAY_PRINT = {
    "src/base/error.cc": "a failed CHECK, just before it aborts",
    "src/base/progress.cc": "the progress bar, on a terminal only",
}


def check(tree: Tree) -> Report:
    report = Report()
    paths = [p for p in tree.files() if not p.endswith(BINARY) and not p.startswith("testdata/")]
    for path in paths:
        for number, line in tree.lines(path):
            for pattern, what in RULES:
                if match := pattern.search(line):
                    report.findings.append(f"{path}:{number}: {what}: {match.group(0)}")
    for path in tree.files(".cc", ".h", ".cu", under=("src/",)):
        if path in MAY_PRINT or path.endswith(("_test.cc", "_bench.cc")):
            continue
        if re.search(r"^int main\(", tree.text(path), re.M):  # a program, not part of the library
            continue
        for number, line in tree.lines(path):
            if match := PRINTING.search(line.split("//")[0]):
                report.findings.append(f"{path}:{number}: a library prints nothing: {match.group(0)}")
    report.looked_at = f"{len(paths)} text files"
    return report


CLEAN = {"src/a.cc": "// Reads src/ro" "ot/x and ~/wo" "rk/y; a todo in prose is fine.\n",
         "src/probe.cc": "int main() { std::printf(\"ok\"); }\n"}
FAULTS = [
    Fault("printing", {"src/a.cc": '  std::printf("x");  // a comment may say printf()\n'}, "src/a.cc:1: a library prints nothing"),
    Fault("mark", {"src/a.cc": "// TO" + "DO: later\n"}, "src/a.cc:1: unfinished-work mark"),
    Fault("machine-path", {"README.md": "Open /ho" + "me/someone/model.gguf\n"}, "README.md:1: path of a machine"),
]
