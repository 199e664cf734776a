"""HACKING.md gives the reason for every library, and names none that is not installed."""

import re

from tree import Fault, Report, Tree

LIST = "scripts/packages.txt"


def check(tree: Tree) -> Report:
    report = Report()
    listed = {line.split()[0] for _, line in tree.lines(LIST) if line.strip() and not line.startswith("#")}
    section = tree.text("HACKING.md").split("## Libraries", 1)[-1].split("\n## ", 1)[0]
    explained = set()
    for line in section.splitlines():
        if line.startswith("| `"):
            explained.update(re.findall(r"`([\w.+-]+)`", line.split("|")[1]))
    for name in sorted(listed - explained):
        report.findings.append(f"{LIST}: {name} has no line under Libraries in HACKING.md")
    for name in sorted(explained - listed):
        report.findings.append(f"HACKING.md: explains {name}, which {LIST} does not install")
    report.looked_at = f"{len(listed)} packages"
    return report


CLEAN = {
    LIST: "# list\ncmake all\nlibfmt-dev all\n",
    "HACKING.md": "## Libraries\n\n| Package | Why |\n|---|---|\n| `cmake` | builds |\n| `libfmt-dev` | text |\n",
}
FAULTS = [
    Fault("unexplained", {LIST: "cmake all\nlibfmt-dev all\nlibfoo-dev all\n"}, "libfoo-dev has no line"),
    Fault("not-installed", {LIST: "cmake all\n"}, "explains libfmt-dev"),
]
