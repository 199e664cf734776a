"""Counts what scripts/test ran: GoogleTest's files, ctest's own list, and the checks.

A ctest entry that failed without a failing case in its GoogleTest file (a crash, a leak, a time-out)
counts as one failure of its own; one without such a file counts as one test.
"""

import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Counts:
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def first_line(text: str) -> str:
    """The reason: GoogleTest writes `file:line` first, then what the test said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and ":" in lines[0] and " " not in lines[0] else (lines or ["no reason given"])[0]


def last_line(text: str) -> str:
    """A script that skips says why in its last line."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"])[-1]


def count_cases(path: Path) -> Counts:
    counts = Counts()
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            name = f"{suite.get('name')}.{case.get('name')}"
            skip = case.find("skipped")
            if case.find("failure") is not None:
                counts.failed.append(name)
            elif skip is not None or case.get("status") == "notrun":
                reason = skip.get("message", "") if skip is not None else "disabled"
                counts.skipped.append(f"{name}: {first_line(reason)}")
            else:
                counts.passed += 1
    return counts


def count_ctest(results: Path) -> Counts:
    total = Counts()
    for case in ElementTree.parse(results / "ctest.junit").getroot().iter("testcase"):
        name, ran_well = case.get("name"), case.get("status") == "run"
        own = results / f"{name}.xml"
        try:
            counts = count_cases(own) if own.exists() else None
        except ElementTree.ParseError:
            counts, ran_well = None, False
        skip = case.find("skipped")
        if counts is None and skip is not None and "SKIP_RETURN_CODE" in skip.get("message", ""):
            counts = Counts(skipped=[f"{name}: {last_line(case.findtext('system-out', ''))}"])
        elif counts is None:
            counts = Counts(passed=1) if ran_well else Counts(failed=[f"{name}: {case.get('status')}, no results written"])
        elif not ran_well and not counts.failed:
            counts.failed.append(f"{name}: the program ended badly after its tests")
        elif not counts.passed and not counts.failed and not counts.skipped:
            counts.failed.append(f"{name}: holds no test")
        total.add(counts)
    return total


def count_all(results: Path) -> Counts:
    total = Counts()
    for name, count in (("ctest.junit", count_ctest), ("check.xml", lambda r: count_cases(r / "check.xml"))):
        try:
            total.add(count(results))
        except (OSError, ElementTree.ParseError) as error:
            total.failed.append(f"{name}: {error}")
    return total


def main() -> int:
    total = count_all(Path(sys.argv[1]))
    for line in total.skipped:
        print(f"skipped: {line}")
    for line in total.failed:
        print(f"FAILED: {line}")
    print(f"{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped")
    return 0 if total.passed and not total.failed else 1


def self_test() -> dict[str, str]:
    """Every way for a test run to end, planted; name of each case, with what is wrong ("" for nothing)."""
    wrong = {}
    for name, (files, expected) in PLANTED.items():
        with tempfile.TemporaryDirectory() as folder:
            for file, text in {"check.xml": "<testsuites/>", **files}.items():
                (Path(folder) / file).write_text(text, encoding="utf-8")
            counts = count_all(Path(folder))
        found = (counts.passed, len(counts.failed), len(counts.skipped))
        wrong[name] = "" if found == expected else f"expected {expected}, found {found}: {counts}"
    return wrong


def _ctest(status: str) -> str:
    return f'<testsuite><testcase name="base_test" status="{status}"/></testsuite>'


def _gtest(*cases: str) -> str:
    return f'<testsuites><testsuite name="Base">{"".join(cases)}</testsuite></testsuites>'


_PASS = '<testcase name="A" status="run" result="completed"/>'
_FAIL = '<testcase name="B" status="run" result="completed"><failure message="no"/></testcase>'
_SCRIPT_SKIP = (
    '<testsuite><testcase name="twins" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>'
    "<system-out>torch is not installed</system-out></testcase></testsuite>"
)
_SKIP = '<testcase name="C" status="run" result="skipped"><skipped message="f.cc:1&#x0A;no data"/></testcase>'
PLANTED = {  # files, and (passed, failed, skipped) that must be counted
    "all-well": ({"ctest.junit": _ctest("run"), "base_test.xml": _gtest(_PASS, _PASS)}, (2, 0, 0)),
    "one-fails": ({"ctest.junit": _ctest("fail"), "base_test.xml": _gtest(_PASS, _FAIL)}, (1, 1, 0)),
    "one-skipped": ({"ctest.junit": _ctest("run"), "base_test.xml": _gtest(_PASS, _SKIP)}, (1, 0, 1)),
    "script-skipped": ({"ctest.junit": _SCRIPT_SKIP, "check.xml": f"<testsuites><testsuite>{_PASS}</testsuite></testsuites>"}, (1, 0, 1)),
    "crash": ({"ctest.junit": _ctest("fail")}, (0, 1, 0)),
    "half-written": ({"ctest.junit": _ctest("fail"), "base_test.xml": "<testsuites><test"}, (0, 1, 0)),
    "leak-at-exit": ({"ctest.junit": _ctest("fail"), "base_test.xml": _gtest(_PASS)}, (1, 1, 0)),
    "no-test-inside": ({"ctest.junit": _ctest("run"), "base_test.xml": _gtest()}, (0, 1, 0)),
    "plain-program": ({"ctest.junit": _ctest("run")}, (1, 0, 0)),
    "no-results": ({}, (0, 1, 0)),
    "check-fails": ({"ctest.junit": _ctest("run"), "check.xml": _gtest(_FAIL)}, (1, 1, 0)),
}

if __name__ == "__main__":
    sys.exit(main())
