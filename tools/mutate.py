"""Mutation testing: changes one comparison, constant or connective at a time, builds one test, runs it.

A mutant that the test does not notice survives: either a test is missing, or the change means nothing.
    tools/mutate.py src/compare/parity.cc --target parity_test [--sample 40] [--seed 1] [--alone]
The source file is put back after every mutant, also when interrupted. --alone leaves it as it is: the mutant is compiled by itself
and stands before the library that holds the original, which is quicker where a library's sources are compiled in groups.
"""

import argparse
import dataclasses
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Blanks on both sides tell an operator from a template bracket or an arrow.
OPERATORS = {
    " < ": [" <= "], " <= ": [" < "], " > ": [" >= "], " >= ": [" > "], " == ": [" != "], " != ": [" == "],
    " && ": [" || "], " || ": [" && "],
}
NUMBER = re.compile(r"(?<![\w.\"'])(\d+\.\d+(?:e-?\d+)?|\d+e-?\d+|\d+)(?![\w.\"'])")
WORDS = {"true": "false", "false": "true", "continue;": "break;"}


@dataclasses.dataclass
class Mutant:
    line: int  # from 1
    begin: int
    end: int
    text: str

    def describe(self, lines: list[str]) -> str:
        old = lines[self.line - 1]
        return f"{self.line}: {old.strip()}  ->  {(old[:self.begin] + self.text + old[self.end:]).strip()}"


def blank_strings(line: str) -> str:
    """The line with texts in quotes and a comment at its end replaced by blanks."""
    line = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', lambda m: " " * len(m.group()), line)
    comment = line.find("//")
    return line if comment < 0 else line[:comment] + " " * (len(line) - comment)


def changed_number(text: str) -> str:
    if re.fullmatch(r"\d+", text):
        return str(int(text) + 1)
    return repr(float(text) * 1.5 + (0.1 if float(text) == 0 else 0))


def mutants_of_line(number: int, line: str) -> list[Mutant]:
    code = blank_strings(line)
    if code.lstrip().startswith(("#", "namespace", "template", "using")):
        return []
    out = []
    for operator, others in OPERATORS.items():
        for match in re.finditer(re.escape(operator), code):
            out += [Mutant(number, match.start(), match.end(), other) for other in others]
    for match in NUMBER.finditer(code):
        out.append(Mutant(number, match.start(), match.end(), changed_number(match.group())))
    for word, other in WORDS.items():
        for match in re.finditer(rf"\b{re.escape(word)}", code):
            out.append(Mutant(number, match.start(), match.end(), other))
    return out


def find_mutants(lines: list[str]) -> list[Mutant]:
    out = []
    in_raw_text = False
    for number, line in enumerate(lines, 1):
        if 'R"' in line and line.count(')"') == 0:
            in_raw_text = True
        if not in_raw_text:
            out += mutants_of_line(number, line)
        elif re.search(r'\)\w*"', line):
            in_raw_text = False
    return out


def judge(target: str, build: pathlib.Path, limit: float) -> str:
    """"killed", "survived", or "no program" where the mutant does not compile."""
    if subprocess.run(["nice", "ninja", "-C", str(build), target], capture_output=True).returncode != 0:
        return "no program"
    binary = next(p for p in build.rglob(target) if p.is_file())
    try:
        result = subprocess.run(["nice", str(binary), "--gtest_brief=1", "--gtest_fail_fast"], cwd=ROOT, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return "killed"
    return "survived" if result.returncode == 0 else "killed"


class Alone:
    """Compiles a mutant by itself and links it before the libraries of the target; the first definition of a function counts."""

    def __init__(self, target: str, build: pathlib.Path, folder: pathlib.Path, filters: str):
        listed = subprocess.run(["ninja", "-C", str(build), "-t", "commands", target], capture_output=True, text=True, check=True).stdout.splitlines()
        self.link = next(line for line in reversed(listed) if " -o " in line and "-c " not in line).strip().removeprefix(": && ").removesuffix(" && :")
        self.compile = [line.removeprefix("ccache ") for line in listed if " -c " in line]
        self.build, self.folder, self.filters = build, folder, filters

    def judge(self, path: pathlib.Path, text: str, limit: float) -> str:
        library = path.parent.relative_to(ROOT).parts[:2]
        like = next(c for c in self.compile if "/".join(library) + "/CMakeFiles" in c and "_test.dir" not in c)
        source, made = self.folder / f"mutant_{path.name}", self.folder / "mutant.o"
        source.write_text(text)
        flags = re.sub(r" -MD.*", "", like)
        if subprocess.run(f"{flags} -o {made} -c {source}", shell=True, cwd=self.build, capture_output=True).returncode != 0:
            return "no program"
        binary = self.folder / "mutant_test"
        link = re.sub(r" -o \S+ ", f" {made} -Wl,--allow-multiple-definition -o {binary} ", self.link, count=1)
        subprocess.run(link, shell=True, cwd=self.build, capture_output=True, check=True)
        try:
            result = subprocess.run([str(binary), "--gtest_brief=1", "--gtest_fail_fast", f"--gtest_filter={self.filters}"], cwd=ROOT, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return "killed"
        return "survived" if result.returncode == 0 else "killed"


def tally(path: pathlib.Path, original: str, mutants: list[Mutant], until: float, judge_text) -> tuple[dict, list[str]]:
    """judge_text(text of the changed file) says what became of each."""
    lines = original.splitlines(keepends=True)
    counts = {"killed": 0, "survived": 0, "no program": 0}
    survivors = []
    for mutant in mutants:
        if time.monotonic() > until:
            break
        old = lines[mutant.line - 1]
        changed = lines[:]
        changed[mutant.line - 1] = old[:mutant.begin] + mutant.text + old[mutant.end:]
        verdict = judge_text("".join(changed))
        counts[verdict] += 1
        if verdict == "survived":
            survivors.append(mutant.describe(lines))
            print(f"survived  {path.relative_to(ROOT)}:{survivors[-1]}", flush=True)
    return counts, survivors


def run_alone(path: pathlib.Path, mutants: list[Mutant], alone: Alone, until: float) -> tuple[dict, list[str]]:
    original = path.read_text()
    start = time.monotonic()
    if alone.judge(path, original, 600) != "survived":
        sys.exit(f"{path} by itself: the test fails without any change")
    limit = 10 + 10 * (time.monotonic() - start)
    return tally(path, original, mutants, until, lambda text: alone.judge(path, text, limit))


def run(path: pathlib.Path, mutants: list[Mutant], target: str, build: pathlib.Path, until: float) -> tuple[dict, list[str]]:
    original = path.read_text()
    if judge(target, build, 600) != "survived":
        sys.exit(f"{target} fails without any change")
    start = time.monotonic()
    subprocess.run([str(next(p for p in build.rglob(target) if p.is_file()))], cwd=ROOT, capture_output=True)
    limit = 10 + 10 * (time.monotonic() - start)

    def judge_text(text: str) -> str:
        path.write_text(text)
        return judge(target, build, limit)

    try:
        return tally(path, original, mutants, until, judge_text)
    finally:
        path.write_text(original)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--target", required=True, help="the test binary, also its build target")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each file, chosen by --seed; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--list", action="store_true", help="print the mutants and build nothing")
    parser.add_argument("--alone", action="store_true", help="compile the mutant by itself; the target must be built")
    parser.add_argument("--filter", default="*", help="of the tests that --alone runs")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    total = 0
    for path in (p.resolve() for p in args.files):
        lines = path.read_text().splitlines(keepends=True)
        mutants = find_mutants(lines)
        if args.sample:
            mutants = sorted(random.Random(args.seed).sample(mutants, min(args.sample, len(mutants))), key=lambda m: (m.line, m.begin))
        if args.list:
            print("\n".join(m.describe(lines) for m in mutants))
            continue
        if args.alone:
            with tempfile.TemporaryDirectory() as folder:
                counts, survivors = run_alone(path, mutants, Alone(args.target, args.build, pathlib.Path(folder), args.filter), until)
        else:
            counts, survivors = run(path, mutants, args.target, args.build, until)
        total += len(survivors)
        print(f"{path.relative_to(ROOT)}: {counts['killed']} killed, {counts['survived']} survived, {counts['no program']} did not compile", flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
