"""Every source file is listed in a CMakeLists.txt, and its first line says what it is."""

import re

from tree import Fault, Report, Tree

HEAD = re.compile(r'^(//|#(?!!)|"""|/\*)')


def expand_loops(text: str) -> str:
    """CMake text with the body of each foreach(name ...) repeated for every one of its words."""

    def repeat(match: re.Match) -> str:
        variable, *values = match.group(1).split()
        return "".join(match.group(2).replace(f"${{{variable}}}", value) for value in values)

    return re.sub(r"foreach\(([^)]*)\)(.*?)endforeach\(\)", repeat, text, flags=re.S)


def listed_sources(tree: Tree) -> set[str]:
    found = set()
    for path in tree.files("CMakeLists.txt"):
        folder = path.rpartition("/")[0]
        text = expand_loops(re.sub(r"#.*", "", tree.text(path)))
        for name in re.findall(r"[\w./-]+\.(?:cc|cu)\b", text):
            found.add(f"{folder}/{name}" if folder else name)
    text = "".join(tree.text(p) for p in tree.files(".cmake"))
    found.update(re.findall(r"\$\{PROJECT_SOURCE_DIR\}/([\w./-]+\.cc)", text))
    return found


def check(tree: Tree) -> Report:
    report = Report()
    listed = listed_sources(tree)
    sources = tree.files(".cc", ".cu", under=("src/", "cli/", "bench/"))
    for path in sources:
        if path not in listed:
            report.findings.append(f"{path}: in no CMakeLists.txt, so nothing builds it")
    headed = tree.files(".cc", ".h", ".cu", ".cuh", ".py", under=("src/", "cli/", "bench/", "tools/"))
    for path in headed:
        lines = tree.text(path).splitlines() or [""]
        first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
        if not HEAD.match(first) or first.startswith(("#include", "#pragma")):
            report.findings.append(f"{path}:1: the first line must say what the file is")
    report.looked_at = f"{len(sources)} sources listed, {len(headed)} first lines"
    return report


CLEAN = {
    "src/op/CMakeLists.txt": "apr_library(op\n  SOURCES\n    add.cc\n    deep/sub.cc)\n"
                             "foreach(name add sub)\n  apr_fuzz(${name}_fuzz SOURCES ${name}_fuzz.cc)\nendforeach()\n",
    "src/op/add_fuzz.cc": "// Fuzzes addition.\n",
    "src/op/add.cc": "// Addition.\n",
    "src/op/deep/sub.cc": "// Subtraction.\n",
}
FAULTS = [
    Fault("forgotten-source", {"src/op/mul.cc": "// Multiplication.\n"}, "src/op/mul.cc: in no CMakeLists.txt"),
    Fault("outside-the-loop", {"src/op/mul_fuzz.cc": "// Fuzzes multiplication.\n"}, "src/op/mul_fuzz.cc: in no"),
    Fault("commented-out", {"src/op/CMakeLists.txt": "apr_library(op SOURCES add.cc add_fuzz.cc) # deep/sub.cc\n"}, "deep/sub.cc: in no"),
    Fault("headless-file", {"src/op/add.cc": "#include <vector>\n"}, "the first line must say"),
]
