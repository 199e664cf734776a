"""Mutation testing: changes one comparison, constant or connective at a time and runs the tests.

A mutant that no test notices survives: either a test is missing, or the change means nothing.
    tools/mutate.py src/compare/parity.cc --target parity_test [compare_test ...] [--sample 40] [--seed 1] [--jobs 2]
The targets must be built. The source stays as it is: one copy of it holds all changes behind a number that APR_MUTANT chooses at
run time, and stands before the library that holds the original (tools/mutants.h). A change that does not compile that way is
compiled in a copy of its own.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import os
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
NAMES = {" < ": "kLess", " <= ": "kLessEqual", " > ": "kGreater", " >= ": "kGreaterEqual", " == ": "kEqual", " != ": "kUnequal"}
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


def operand_begin(code: str, at: int, stops: list[str]) -> int:
    """Where the operand that ends at `at` begins on its line, or -1: it began on a line before."""
    depth = 0
    for i in range(at - 1, -1, -1):
        if code[i] in ")]}":
            depth += 1
        elif code[i] in "([{":
            depth -= 1
            if depth < 0:
                return i + 1
        elif depth == 0:
            if code[i] in ",;":
                return i + 1
            for stop in stops + [" = ", " ? ", " : ", "return "]:
                if code.startswith(stop, i):
                    return i + len(stop)
    return -1


def operand_end(code: str, at: int, stops: list[str]) -> int:
    depth = 0
    for i in range(at, len(code)):
        if code[i] in "([{":
            depth += 1
        elif code[i] in ")]}":
            depth -= 1
            if depth < 0:
                return i
        elif depth == 0 and (code[i] in ",;" or any(code.startswith(stop, i) for stop in stops + [" ? ", " : "])):
            return i
    return -1


def switched(line: str, mutants: list[tuple[int, Mutant]]) -> str | None:
    """The line with each of the mutants behind its number; None: one of them cannot be written so."""
    for number, mutant in sorted(mutants, key=lambda m: m[1].begin, reverse=True):
        old, code = line[mutant.begin:mutant.end], blank_strings(line)
        if old in (" && ", " || "):
            stops = [" && ", " || "] if old == " && " else [" || "]
            begin, end = operand_begin(code, mutant.begin, stops), operand_end(code, mutant.end, stops)
            if begin < 0 or end < 0:
                return None
            a, b = line[begin:mutant.begin], line[mutant.end:end]
            line = f"{line[:begin]}(mutants::Is({number}) ? ({a}){mutant.text}({b}) : ({a}){old}({b})){line[end:]}"
            continue
        if old in OPERATORS:
            equality = "=" in old and old.strip() in ("==", "!=")
            ends = ("==", "==") if equality else ("<", ">")
            text = f" {ends[0]} mutants::Between<{number}, mutants::{NAMES[old]}, mutants::{NAMES[mutant.text]}>{{}} {ends[1]} "
        elif old == "continue;":
            text = f"{{ if (mutants::Is({number})) break; continue; }}"
        else:
            text = f"mutants::Value<{number}>({old}, {mutant.text})"
        line = line[:mutant.begin] + text + line[mutant.end:]
    return re.sub(r"\bconstexpr (?=(?!auto)\w+ k[A-Z])", "const ", line)


class Program:
    """Compiles a changed source by itself and links it before the libraries of the targets; the first definition of a function counts."""

    def __init__(self, path: pathlib.Path, targets: list[str], build: pathlib.Path, folder: pathlib.Path, filters: str):
        self.links = []
        for target in targets:
            listed = subprocess.run(["ninja", "-C", str(build), "-t", "commands", target], capture_output=True, text=True, check=True).stdout.splitlines()
            self.links.append(next(line for line in reversed(listed) if " -o " in line and "-c " not in line).strip().removeprefix(": && ").removesuffix(" && :"))
        library = "/".join(path.parent.relative_to(ROOT).parts[:2])
        like = next(c.removeprefix("ccache ") for c in listed if " -c " in c and library + "/CMakeFiles" in c and "_test.dir" not in c)
        self.flags = re.sub(r" -MD.*", "", like) + f" -w -Wno-narrowing -fpermissive -I{path.parent} -I{ROOT}/tools"
        self.build, self.folder, self.filters = build, folder, filters

    def compile(self, source: pathlib.Path, text: str, what: str) -> subprocess.CompletedProcess:
        source.write_text(text)
        return subprocess.run(f"{self.flags} {what} -c {source}", shell=True, cwd=self.build, capture_output=True, text=True)

    def make(self, name: str, text: str) -> list[pathlib.Path] | None:
        """The test programs with this text in place of the source's; None: it does not compile."""
        made = self.folder / f"{name}.o"
        if self.compile(self.folder / f"{name}.cc", text, f"-o {made}").returncode != 0:
            return None
        binaries = []
        for i, link in enumerate(self.links):
            binaries.append(self.folder / f"{name}_{i}")
            changed = re.sub(r" -o \S+ ", f" {made} -Wl,--allow-multiple-definition -o {binaries[-1]} ", link, count=1)
            subprocess.run(changed, shell=True, cwd=self.build, capture_output=True, check=True)
        return binaries

    def test(self, binary: pathlib.Path, tests: list[str], limit: float, **variables: str) -> bool:
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            environment = os.environ | {"TEST_TMPDIR": temporary, "TMPDIR": temporary} | variables
            command = [str(binary), "--gtest_brief=1", "--gtest_fail_fast", f"--gtest_filter={':'.join(tests)}"]
            try:
                return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=limit).returncode == 0
            except subprocess.TimeoutExpired:
                return False


@dataclasses.dataclass
class Test:
    binary: int  # of the program's targets
    name: str
    seconds: float
    reached: set[int]  # numbers of mutants


def look_at_tests(program: Program, binaries: list[pathlib.Path], jobs: int) -> list[Test]:
    """Every test by itself with no mutant chosen: what it costs and which places it computes. The quickest first."""
    names = []
    for i, binary in enumerate(binaries):
        listed = subprocess.run([str(binary), "--gtest_list_tests", f"--gtest_filter={program.filters}"], capture_output=True, text=True, cwd=ROOT).stdout
        suite = ""
        for line in listed.splitlines():
            if line.startswith("  "):
                names.append((i, suite + line.split("#")[0].strip()))
            else:
                suite = line.split("#")[0].strip()

    def look(at: int) -> Test:
        i, name = names[at]
        record = program.folder / f"reached{at}"
        start = time.monotonic()
        if not program.test(binaries[i], [name], 900, APR_MUTANTS_REACHED=str(record)):
            sys.exit(f"{name} fails without any change")
        return Test(i, name, time.monotonic() - start, {int(n) for n in record.read_text().split()} if record.exists() else set())

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return sorted(pool.map(look, range(len(names))), key=lambda t: t.seconds)


def passes(program: Program, binaries: list[pathlib.Path], tests: list[Test], number: int) -> bool:
    """Whether all of the tests pass with the mutant of this number."""
    for i, binary in enumerate(binaries):
        mine = [t for t in tests if t.binary == i]
        limit = 10 + 5 * sum(t.seconds for t in mine)
        if mine and not program.test(binary, [t.name for t in mine], limit, APR_MUTANT=str(number)):
            return False
    return True


def all_in_one(program: Program, lines: list[str], mutants: list[Mutant]) -> tuple[str, set[int]]:
    """The source with every mutant behind its number, and the numbers of those it holds."""
    held = set(range(len(mutants)))
    for _ in range(30):
        text = ["#include \"mutants.h\"\n#line 1\n"]
        for at, line in enumerate(lines, 1):
            here = [(i, m) for i, m in enumerate(mutants) if m.line == at and i in held]
            new = switched(line, [(i + 1, m) for i, m in here]) if here else line
            if new is None:
                held -= {i for i, m in here}
            text.append(new or line)
        result = program.compile(program.folder / "all.cc", "".join(text), "-fsyntax-only")
        if result.returncode == 0:
            return "".join(text), held
        wrong = {int(n) for n in re.findall(r"all\.cc:(\d+):\d+: (?:error|  *required from here)", result.stderr)}
        bad = {i for i in held if mutants[i].line in wrong} or {i for i in held if any(abs(mutants[i].line - n) < 6 for n in wrong)}
        if not bad:
            print(result.stderr[:2000], file=sys.stderr)
            break
        held -= bad
    return "".join(lines), set()


def changed_text(lines: list[str], mutant: Mutant) -> str:
    old = lines[mutant.line - 1]
    return "".join(lines[:mutant.line - 1] + [old[:mutant.begin] + mutant.text + old[mutant.end:]] + lines[mutant.line:])


def run(path: pathlib.Path, mutants: list[Mutant], program: Program, jobs: int, until: float) -> dict:
    original = path.read_text()
    lines = original.splitlines(keepends=True)
    text, held = all_in_one(program, lines, mutants)
    together = program.make("all", text)
    if not together:
        sys.exit(f"{path} does not compile by itself")
    tests = look_at_tests(program, together, jobs)
    print(f"{path.relative_to(ROOT)}: {len(held)} of {len(mutants)} mutants in one program, {len(tests)} tests of {sum(t.seconds for t in tests):.0f} s", flush=True)

    def judge(number: int) -> str:
        if time.monotonic() > until:
            return "not run"
        if number in held:
            reaching = [t for t in tests if number + 1 in t.reached]
            verdict = "not reached" if not reaching else "survived" if passes(program, together, reaching, number + 1) else "killed"
        else:
            binaries = program.make(f"alone{number}", changed_text(lines, mutants[number]))
            verdict = "no program" if binaries is None else "survived" if passes(program, binaries, tests, 0) else "killed"
            for binary in binaries or []:
                binary.unlink()
        if verdict in ("survived", "not reached"):
            print(f"{verdict:12}{path.relative_to(ROOT)}:{mutants[number].describe(lines)}", flush=True)
        return verdict

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return collections.Counter(pool.map(judge, range(len(mutants))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--target", required=True, nargs="+", help="the test binaries; a mutant survives if all of them pass")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each file, chosen by --seed; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the mutants and build nothing")
    parser.add_argument("--filter", default="*", help="of the tests")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    survived = 0
    for path in (p.resolve() for p in args.files):
        lines = path.read_text().splitlines(keepends=True)
        mutants = find_mutants(lines)
        if args.sample:
            mutants = sorted(random.Random(args.seed).sample(mutants, min(args.sample, len(mutants))), key=lambda m: (m.line, m.begin))
        if args.list:
            print("\n".join(m.describe(lines) for m in mutants))
            continue
        with tempfile.TemporaryDirectory() as folder:
            counts = run(path, mutants, Program(path, args.target, args.build, pathlib.Path(folder), args.filter), args.jobs, until)
        survived += counts["survived"] + counts["not reached"]
        print(f"{path.relative_to(ROOT)}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())), flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
