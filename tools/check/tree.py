"""A source tree as the checks see it, and what a check answers."""

from dataclasses import dataclass, field
from pathlib import Path

NOT_SOURCE = {"build", ".cache", "__pycache__"}


class Tree:
    """Files below `root` without build results. Paths are given and returned relative to it."""

    def __init__(self, root: Path, program: Path | None = None):
        self.root = root
        self.program = program  # the built `apr`, None when it was not built
        self._files = sorted(self._walk(root))

    def _walk(self, folder: Path):
        for entry in folder.iterdir():
            if entry.is_symlink() or entry.name == ".git":
                continue
            if entry.is_dir():
                if entry.name not in NOT_SOURCE:
                    yield from self._walk(entry)
            else:
                yield entry.relative_to(self.root).as_posix()

    def files(self, *suffixes: str, under: tuple[str, ...] = ("",)) -> list[str]:
        return [f for f in self._files if f.endswith(suffixes or "") and f.startswith(under)]

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    def lines(self, path: str):
        """(line number from 1, line) pairs."""
        return enumerate(self.text(path).splitlines(), start=1)


@dataclass
class Report:
    """What one check found. No findings and something looked at: passed."""

    looked_at: str = ""  # what was checked, with a count, for the reader
    findings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # parts that could not be checked, with the reason


@dataclass
class Fault:
    """A planted fault: these files laid over the check's CLEAN tree must give one such finding."""

    name: str
    files: dict[str, str]
    finding: str  # a part of the one finding that must result
