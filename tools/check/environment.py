"""Every environment variable that is read stands in docs/environment.md, and the reverse."""

import re

from tree import Fault, Report, Tree

PAGE = "docs/environment.md"
READ = re.compile(r'\b(?:secure_)?getenv\(\s*"(\w+)"|\bEnv\w*\(\s*"([A-Z][A-Z0-9_]+)"')
READ_IN_SCRIPT = re.compile(r"\$\{(APR_\w+|XDG_\w+)[:}-]")
ROW = re.compile(r"^\| `(\w+)`")


def variables_read(tree: Tree) -> dict[str, str]:
    found = {}
    for path in tree.files(".cc", ".h", ".cu", under=("src/", "cli/", "bench/")):
        for number, line in tree.lines(path):
            for a, b in READ.findall(line):
                found.setdefault(a or b, f"{path}:{number}")
    for path in tree.files(under=("scripts/",)):
        for number, line in tree.lines(path):
            for name in READ_IN_SCRIPT.findall(line):
                found.setdefault(name, f"{path}:{number}")
    return found


def check(tree: Tree) -> Report:
    report = Report()
    read = variables_read(tree)
    documented = {m.group(1): n for n, line in tree.lines(PAGE) if (m := ROW.match(line))}
    for name, place in sorted(read.items()):
        if name not in documented:
            report.findings.append(f"{place}: reads {name}, which {PAGE} does not name")
    for name, number in documented.items():
        if name not in read:
            report.findings.append(f"{PAGE}:{number}: names {name}, which nothing reads")
    report.looked_at = f"{len(read)} variables"
    return report


CLEAN = {
    PAGE: "| Variable | Effect |\n|---|---|\n| `APR_CPU` | instruction set |\n",
    "src/a.cc": '  const char* cpu = std::getenv("APR_CPU");\n',
}
FAULTS = [
    Fault("undocumented", {"src/b.cc": 'std::getenv("APR_SECRET")\n'}, "reads APR_SECRET"),
    Fault("stale", {"src/a.cc": "// reads nothing\n"}, "names APR_CPU, which nothing reads"),
]
