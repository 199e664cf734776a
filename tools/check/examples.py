"""The sessions shown in README.md and docs/ give what they show when run.

A ```console block holds lines `$ COMMAND` and the output that follows them. It runs with the built
`apr` first in PATH, in an empty folder beside which `testdata` lies. `...` in the shown output
stands for any text, a line of only `...` for any lines. A block that names a real model
(*.gguf outside testdata) runs when scripts/fetch-model has brought that file, else it is skipped.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from tree import Fault, Report, Tree

TIMEOUT_S = 120


def models_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("APR_REAL_MODELS") or Path(base) / "apr" / "models")


def console_blocks(text: str):
    """(line number, [(command, shown output)]) of every ```console block."""
    for match in re.finditer(r"^```console\n(.*?)^```", text, re.M | re.S):
        steps = []
        for line in match.group(1).splitlines():
            if line.startswith("$ "):
                steps.append([line[2:], ""])
            elif steps and steps[-1][0].endswith("\\"):
                steps[-1][0] = steps[-1][0][:-1] + line
            elif steps:
                steps[-1][1] += line + "\n"
        yield text.count("\n", 0, match.start()) + 2, steps


def matches(shown: str, output: str) -> bool:
    pattern = re.escape(shown.rstrip())
    pattern = re.sub(r"(?m)(^|\\\n)\\\.\\\.\\\.(?=\\\n|$)", lambda m: m.group(1) + r"[\s\S]*?", pattern)
    pattern = pattern.replace(r"\.\.\.", r"[^\n]*?")
    return re.fullmatch(pattern, output.rstrip()) is not None


def missing_model(tree: Tree, steps) -> str | None:
    for command, _ in steps:
        for name in re.findall(r"(?<![\w/])[\w.-]+\.gguf\b", command):
            if "testdata" not in command and not (models_folder() / name).exists():
                return name
    return None


def prepare(tree: Tree, folder: Path) -> dict[str, str]:
    for name in ("testdata", "scripts"):
        if (tree.root / name).exists():
            (folder / name).symlink_to(tree.root / name)
    if models_folder().is_dir():
        for model in models_folder().glob("*.gguf"):
            (folder / model.name).symlink_to(model)
    bin_folder = folder / ".bin"
    bin_folder.mkdir()
    (bin_folder / "apr").symlink_to(tree.program)
    return dict(os.environ, PATH=f"{bin_folder}:{os.environ['PATH']}", NO_COLOR="1", LC_ALL="C.UTF-8")


def run_block(tree: Tree, where: str, steps, report: Report) -> None:
    with tempfile.TemporaryDirectory() as name:
        environment = prepare(tree, Path(name))
        settings = []  # NAME=VALUE lines hold for the rest of the block
        for command, shown in steps:
            if re.fullmatch(r"\w+=\S*|\w+=\"[^\"]*\"", command):
                settings.append(command)
            try:
                done = subprocess.run(["bash", "-c", f"{{ {'; '.join(settings + [command])}; }} 2>&1"], cwd=name, env=environment, text=True,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=TIMEOUT_S)
                output = done.stdout
            except subprocess.TimeoutExpired:
                output = f"(no end after {TIMEOUT_S} s)"
            if not matches(shown, output):
                report.findings.append(f"{where}: `{command}` printed\n{output.rstrip()}\nwhere the document shows\n{shown.rstrip()}")
                return


def check(tree: Tree) -> Report:
    report = Report()
    count = 0
    for path in tree.files(".md"):
        for number, steps in console_blocks(tree.text(path)):
            where = f"{path}:{number}"
            if not tree.program:
                report.skipped.append(f"{where}: the program is not built")
            elif (model := missing_model(tree, steps)):
                report.skipped.append(f"{where}: needs {model}, which scripts/fetch-model gets")
            else:
                count += len(steps)
                run_block(tree, where, steps, report)
    report.looked_at = f"{count} commands run"
    return report


CLEAN = {
    "fake-apr": "#!/bin/sh\necho first $1\necho 12.5 tok/s\necho last\n",
    "README.md": "```console\n$ apr one\nfirst one\n... tok/s\nlast\n$ apr two\nfirst two\n...\nlast\n```\n",
}
FAULTS = [
    Fault("changed-output", {"fake-apr": "#!/bin/sh\necho second $1\necho 1 tok/s\necho last\n"}, "`apr one` printed"),
    Fault("missing-line", {"fake-apr": "#!/bin/sh\necho first $1\necho 1 tok/s\n"}, "`apr one` printed"),
    Fault("extra-line", {"README.md": "```console\n$ apr one\nfirst one\n... tok/s\n```\n"}, "`apr one` printed"),
    Fault("failing-command", {"README.md": "```console\n$ apr-gone\nfirst\n```\n"}, "`apr-gone` printed"),
]
