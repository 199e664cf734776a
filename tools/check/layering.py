"""A folder of src/ includes and links only folders above it in the list of HACKING.md."""

import re

from tree import Fault, Report, Tree

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
LISTED = re.compile(r"^\s+(?:src/)?(\w+)/\s")


def layers(tree: Tree) -> list[str]:
    """Folder names in order, from the indented block under the heading "Layers" of HACKING.md."""
    section = tree.text("HACKING.md").split("## Layers", 1)[-1].split("\n## ", 1)[0]
    return [m.group(1) for line in section.splitlines() if (m := LISTED.match(line))]


def folder_of(path: str) -> str:
    parts = path.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else parts[0]


def include_target(tree: Tree, path: str, name: str) -> str | None:
    """The included file relative to the root: looked up as the compiler does."""
    beside = (tree.root / path).parent / name
    for candidate in (beside, tree.root / "src" / name, tree.root / name):
        if candidate.is_file():
            return candidate.resolve().relative_to(tree.root.resolve()).as_posix()
    return None


def check_includes(tree: Tree, rank: dict[str, int], report: Report) -> int:
    count = 0
    for path in tree.files(".cc", ".h", ".cu", ".cuh", under=("src/", "cli/")):
        own = folder_of(path)
        for number, line in tree.lines(path):
            match = INCLUDE.match(line)
            if not match:
                continue
            count += 1
            target = include_target(tree, path, match.group(1))
            if target is None:
                report.findings.append(f"{path}:{number}: no such file: {match.group(1)}")
                continue
            other = folder_of(target)
            if rank.get(other, len(rank)) > rank.get(own, -1):
                report.findings.append(f"{path}:{number}: {own} includes {other}, which stands below it")
    return count


def check_links(tree: Tree, rank: dict[str, int], report: Report) -> None:
    for path in tree.files("CMakeLists.txt", under=("src/",)):
        own = folder_of(path)
        for number, line in tree.lines(path):
            for other in re.findall(r"\bapr_([a-z]+)\b(?!\s*\()", line.split("#")[0]):
                if other in rank and rank[other] > rank.get(own, -1):
                    report.findings.append(f"{path}:{number}: {own} links {other}, which stands below it")


def check(tree: Tree) -> Report:
    report = Report()
    order = layers(tree)
    rank = {name: i for i, name in enumerate(order)}
    present = sorted({folder_of(p) for p in tree.files(under=("src/",)) if p.count("/") > 1})
    for name in present:
        if name not in rank:
            report.findings.append(f"src/{name} does not stand in the list of HACKING.md")
    count = check_includes(tree, rank, report)
    check_links(tree, rank, report)
    report.looked_at = f"{count} includes of {len(order)} layers"
    return report


CLEAN = {
    "HACKING.md": "# H\n\n## Layers\n\n    src/base/  errors\n    src/op/    ops\n    cli/       program\n\n## Next\n",
    "src/base/error.h": "// Errors.\n",
    "src/op/add.h": '// Addition.\n#include "base/error.h"\n',
    "src/op/CMakeLists.txt": "apr_library(op SOURCES add.cc DEPS apr_base)\n",
    "cli/main.cc": '// The program.\n#include "op/add.h"\n',
}
FAULTS = [
    Fault("include-upwards", {"src/base/error.h": '#include "op/add.h"\n'}, "base includes op"),
    Fault("include-program", {"src/op/add.h": '#include "cli/main.cc"\n'}, "op includes cli"),
    Fault("link-upwards", {"src/base/CMakeLists.txt": "apr_library(base DEPS apr_op)\n"}, "base links op"),
    Fault("unlisted-folder", {"src/extra/a.h": "// New.\n"}, "src/extra does not stand"),
    Fault("include-nothing", {"cli/main.cc": '#include "op/gone.h"\n'}, "no such file: op/gone.h"),
]
