"""A pair of sides with what a bisection must answer about it; where pairs are registered and how they are split."""

import dataclasses
import hashlib
import pathlib
import re
import shutil
import subprocess
from typing import Any

KINDS = ("file", "config", "tokens", "weights", "engine", "sweep", "random", "input", "llama", "healthy", "packed")


@dataclasses.dataclass
class Expect:
    """What the answer must hold. An empty list asks nothing; None in a list stands for null."""

    phase: list = dataclasses.field(default_factory=list)
    layer: list = dataclasses.field(default_factory=list)
    stage: list = dataclasses.field(default_factory=list)
    tensor: list = dataclasses.field(default_factory=list)  # prefixes of a name count: a layer, a module
    key: list = dataclasses.field(default_factory=list)  # last component
    causes: list = dataclasses.field(default_factory=list)  # any of these names it
    verdict: list = dataclasses.field(default_factory=lambda: ["different"])
    also: list = dataclasses.field(default_factory=list)  # further faults: {"causes": [...], "effect": "none"}
    most: int = 0  # findings that one fault may make; 0: not asked


@dataclasses.dataclass
class Case:
    id: str
    kind: str
    source: str  # the real case it comes from
    a: str
    b: str
    args: list
    expect: dict

    def held(self):
        """Whether this case is set aside while developing: a third of them, by hash."""
        return hashlib.sha256(self.id.encode()).digest()[0] % 3 == 0


class Bench:
    """Collects the pairs while their sides are written below `out`."""

    def __init__(self, out, only="", program=None, llama=None):
        self.out, self.only, self.program, self.llama = pathlib.Path(out), only, program, llama
        self.cases = []
        self.problems = []
        self._shared = {}

    def writes(self, container):
        """Whether the program is built and exports to that container."""
        if self.program is None:
            return False
        said = subprocess.run([self.program, "export", "--help"], capture_output=True, text=True).stdout
        formats = re.search(r"--format TEXT:\{([^}]*)\}", said)
        return formats is not None and container in formats[1].split(",")

    def wants(self, identifier):
        return self.only in identifier

    def place(self, identifier, name):
        path = self.out / identifier / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def shared(self, name, make):
        """A side that several pairs use: made once, by make(path)."""
        if name not in self._shared:
            path = self.out / "sides" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                make(path)
            self._shared[name] = path
        return self._shared[name]

    def add(self, identifier, kind, source, a, b, expect: Expect | None = None, args=()):
        if kind == "healthy":
            expect = Expect(verdict=["same", "rounding"])
        if any(case.id == identifier for case in self.cases):
            raise ValueError(f"two cases are called {identifier}")
        wanted: dict[str, Any] = dataclasses.asdict(expect)
        self.cases.append(Case(identifier, kind, source, str(a), str(b), [str(word) for word in args], wanted))
