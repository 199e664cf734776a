"""Paths, scripts and `apr` commands that a document names exist.

Looked at: text in backticks, ```tree drawings, ```console and ```sh blocks, links to files, and the
examples in the program's own help. Every command of the program stands in README.md. `<name>` in a
path stands for any text. A path of another project is written with its repository in front
(`ggml-org/llama.cpp src/llama.cpp`), so it is not taken for one of ours.
"""

import functools
import re
import subprocess
from fnmatch import fnmatch

from tree import Fault, Report, Tree

SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"^[\w.*<>{},/+-]+$")
OURS_BY_NAME = (".cc", ".h", ".cu", ".cuh", ".md")


def documents(tree: Tree) -> list[str]:
    return [p for p in tree.files(".md")]


def blocks(tree: Tree, path: str):
    """(line number, kind, line): kind is "" for prose, else the word behind the opening fence."""
    kind = ""
    for number, line in tree.lines(path):
        fence = re.match(r"^\s*```(\w*)", line)
        if fence:
            kind = "" if kind else (fence.group(1) or "plain")
        else:
            yield number, kind, line


def alternatives(path: str) -> list[str]:
    """`a.{h,cc}` is a.h and a.cc."""
    match = re.search(r"\{([^{}]*)\}", path)
    if not match:
        return [path]
    return [x for part in match.group(1).split(",")
            for x in alternatives(path[:match.start()] + part.strip() + path[match.end():])]


def exists(tree: Tree, folder: str, path: str) -> bool:
    """Whether a file or folder of that name is there: from the root, the document's folder or src/.

    A bare file name may stand anywhere.
    """
    pattern = re.sub(r"<[^<>]*>", "*", path.rstrip("/"))
    if "/" not in path:
        return any(fnmatch(f.rpartition("/")[2], pattern) for f in tree.files())
    starts = ("", f"{folder}/" if folder else "", "src/")
    return any(fnmatch(f, start + pattern + end) for f in tree.files() for start in starts for end in ("", "/*"))


def claims_path(tree: Tree, span: str) -> bool:
    """Whether text in backticks names a path of this project."""
    if not PATH.match(span) or span.startswith(("-", "/", "../", "<")):
        return False
    if "/" not in span:
        return span.endswith(OURS_BY_NAME)
    first = span.split("/")[0]
    tops = {f.split("/")[0] for f in tree.files()}
    layers = {f.split("/")[1] for f in tree.files(under=("src/",))}
    return first in tops or (first in layers and span.rstrip("/") != first and span.endswith(OURS_BY_NAME))


def tree_paths(lines: list[str]) -> list[str]:
    """Full paths of an indented drawing: the first word of each line, nested by indentation."""
    found, stack = [], []
    for line in lines:
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while stack and stack[-1][0] >= indent:
            stack.pop()
        name = line.split()[0]
        full = (stack[-1][1] if stack else "") + name
        if name.endswith("/"):
            stack.append((indent, full))
        found.append(full)
    return found


class Program:
    """What `apr --help` says, asked once per command."""

    def __init__(self, program):
        self.ask = functools.lru_cache(None)(
            lambda *words: subprocess.run([program, *words, "--help"], capture_output=True, text=True, timeout=60))

    def commands(self) -> list[str]:
        return re.findall(r"^  ([a-z][a-z-]*)  +\S", self.ask().stdout, re.M)

    def examples(self, command: str) -> list[str]:
        return re.findall(r"^  (apr .*)", self.ask(command).stdout.split("Example", 1)[-1], re.M)

    def complaint(self, words: list[str]) -> str | None:
        """Why this `apr ...` command line cannot be right, or None."""
        if not words or not re.match(r"^[a-z][a-z-]*$", words[0]):
            flags = [w for w in words if re.match(r"^--[a-z]", w)]
            return next((f"apr has no {f}" for f in flags if f not in self.ask().stdout), None)
        answer = self.ask(words[0])
        if answer.returncode != 0 or not re.search(rf"^\s*{words[0]}\b", self.ask().stdout, re.M):
            return f"apr has no command {words[0]}"
        known = answer.stdout.split("\nExample")[0] + "\n" + self.ask().stdout
        if len(words) > 1 and (sub := re.match(r"^[a-z][a-z-]*$", words[1])) and re.search(rf"^  {sub.group()}\b", known, re.M):
            known += self.ask(words[0], words[1]).stdout
        for word in words[1:]:
            flag = re.match(r"^--?[a-z][a-z0-9-]*", word)
            if flag and not re.search(rf"(?<![\w-]){flag.group()}(?![\w-])", known):
                return f"apr {words[0]} has no {flag.group()}"
        return None


def command_words(text: str) -> list[str] | None:
    """The words behind `apr` of a command line, or None when it is another program's."""
    text = re.sub(r"^\$ ", "", text.strip())
    words = re.split(r"[|;&]", text.split(" #")[0])[0].replace("[", " ").replace("]", " ").split()
    if words and words[0] in ("apr", "build/release/apr", "./apr"):
        return words[1:]
    return None


def check_document(tree: Tree, path: str, program: Program | None, report: Report) -> tuple[int, int]:
    folder = path.rpartition("/")[0]
    paths, commands, drawing = [], [], []
    for number, kind, line in blocks(tree, path):
        if kind == "tree":
            drawing.append(line)
        spans = SPAN.findall(line) if kind == "" else [line] if kind in ("console", "sh") else []
        for span in spans:
            words = command_words(span)
            if words is not None:
                commands.append((number, words))
            elif kind == "" and claims_path(tree, span):
                paths += [(number, p) for p in alternatives(span)]
            elif kind != "" and (script := re.match(r"^\s*(?:\$ )?(scripts/[\w-]+)", span)):
                paths.append((number, script.group(1)))
        if kind == "":
            paths += [(number, p) for p in LINK.findall(line)]
    paths += [(0, p) for p in tree_paths(drawing)]
    for number, name in paths:
        if not name.startswith("build/") and not exists(tree, folder, name):
            report.findings.append(f"{path}:{number}: no such path: {name}")
    for number, words in commands if program else []:
        if complaint := program.complaint(words):
            report.findings.append(f"{path}:{number}: {complaint}")
    return len(paths), len(commands)


def check_program(tree: Tree, program: Program, report: Report) -> None:
    shown = tree.text("README.md")
    for command in program.commands():
        if not re.search(rf"\bapr {command}\b", shown):
            report.findings.append(f"README.md: does not name `apr {command}`")
        for example in program.examples(command):
            if complaint := program.complaint(command_words(example)):
                report.findings.append(f"apr {command} --help shows `{example}`: {complaint}")


def check(tree: Tree) -> Report:
    report = Report()
    program = Program(tree.program) if tree.program else None
    if program:
        check_program(tree, program, report)
    counts = [check_document(tree, path, program, report) for path in documents(tree)]
    paths, commands = sum(c[0] for c in counts), sum(c[1] for c in counts)
    if not program and commands:
        report.skipped.append(f"{commands} commands: the program is not built")
    report.looked_at = f"{len(counts)} documents, {paths} paths, {commands} commands"
    return report


_APR = """#!/bin/sh
case "$1" in
  run) printf 'Usage: apr run MODEL\\n  -n,--max-tokens N\\n  --json\\nExample:\\n  apr run x -n 3\\n' ;;
  --help) printf 'Commands:\\n  run  generate\\n  --version\\n' ;;
  *) exit 2 ;;
esac
"""
CLEAN = {
    "fake-apr": _APR,
    "README.md": "See `src/op/add.cc`, `op/add.cc`, `src/<folder>/add.{cc,h}` and [it](docs/a.md).\n"
                 "Run `apr run MODEL --json`, `apr --version`; not `ggml-org/ggml src/ggml.c`, `a/b`, `tok/s`.\n"
                 "```tree\nsrc/        sources\n  op/       ops\n    add.cc  addition\ndocs/       pages\n```\n"
                 "```console\n$ apr run x -n 3\n...\n```\n",
    "docs/a.md": "Back to `README.md`.\n",
    "src/op/add.cc": "// Addition.\n",
    "src/op/add.h": "// Addition.\n",
}
FAULTS = [
    Fault("path", {"docs/a.md": "See `src/op/gone.cc`.\n"}, "docs/a.md:1: no such path: src/op/gone.cc"),
    Fault("bare-name", {"docs/a.md": "See `gone.h`.\n"}, "no such path: gone.h"),
    Fault("alternative", {"docs/a.md": "See `src/op/add.{cc,cu}`.\n"}, "no such path: src/op/add.cu"),
    Fault("link", {"docs/a.md": "See [b](b.md).\n"}, "no such path: b.md"),
    Fault("drawing", {"docs/a.md": "```tree\nsrc/  s\n  gone/  g\n```\n"}, "no such path: src/gone/"),
    Fault("script", {"docs/a.md": "```sh\nscripts/gone --now\n```\n"}, "no such path: scripts/gone"),
    Fault("command", {"docs/a.md": "Type `apr fly MODEL`.\n"}, "apr has no command fly"),
    Fault("unnamed-command", {"fake-apr": _APR.replace("  --version", "  walk  on foot\\n  --version").replace("run)", "run|walk)")},
          "README.md: does not name `apr walk`"),
    Fault("example", {"fake-apr": _APR.replace("apr run x -n 3", "apr run x --fast")}, "shows `apr run x --fast`: apr run has no --fast"),
    Fault("flag", {"docs/a.md": "```sh\napr run m --sideways\n```\n"}, "apr run has no --sideways"),
]
