"""Runs every check on this tree, and on planted faults to show that it can fail. See scripts/check."""

import argparse
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import documents
import environment
import examples
import layering
import packages
import python_tests
import sizes
import sources
import summary
import words
from tree import Report, Tree

CHECKS = {m.__name__: m for m in (layering, sources, documents, examples, sizes, environment, packages, words,
                                python_tests)}
ROOT = Path(__file__).resolve().parents[2]


def planted_tree(folder: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    program = folder / "fake-apr"
    if program.exists():
        program.chmod(0o755)
    return Tree(folder, program if program.exists() else None)


def self_test(module) -> dict[str, str]:
    """Name of each planted fault, with what is wrong with the check's answer ("" for nothing)."""
    answers = {}
    cases = [("clean", {}, None)] + [(f.name, f.files, f.finding) for f in module.FAULTS]
    for name, overlay, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            findings = module.check(planted_tree(Path(folder), {**module.CLEAN, **overlay})).findings
        if expected is None:
            good = not findings
        else:
            good = len(findings) == 1 and expected in findings[0]
        answers[name] = "" if good else f"expected {expected or 'no finding'}, found {findings}"
    return answers


def add_case(suite, name: str, failure: str = "", skipped: str = "") -> None:
    case = ElementTree.SubElement(suite, "testcase", name=name, classname=suite.get("name"))
    if failure:
        ElementTree.SubElement(case, "failure", message=failure)
    elif skipped:
        ElementTree.SubElement(case, "skipped", message=skipped)


def add_self_test(suite, name: str, answers: dict[str, str]) -> None:
    for fault, wrong in answers.items():
        add_case(suite, f"planted-{fault}", failure=wrong)
        if wrong:
            print(f"FAIL check {name}, planted fault {fault}: {wrong}")


def show(name: str, report: Report) -> None:
    print(f"{'FAIL' if report.findings else 'ok  '} check {name}: {report.looked_at}")
    for finding in report.findings:
        print(f"     {finding}")
    for reason in report.skipped:
        print(f"     skipped {reason}")


def run_checks(tree: Tree, names: list[str]):
    """One suite per check: the tree itself, what it skipped, and its planted faults."""
    top = ElementTree.Element("testsuites")
    for name in names:
        suite = ElementTree.SubElement(top, "testsuite", name=f"check.{name}")
        report = CHECKS[name].check(tree)
        show(name, report)
        add_case(suite, "tree", failure="; ".join(report.findings))
        for i, reason in enumerate(report.skipped):
            add_case(suite, f"skipped-{i}", skipped=reason)
        add_self_test(suite, name, self_test(CHECKS[name]))
    suite = ElementTree.SubElement(top, "testsuite", name="check.summary")
    add_self_test(suite, "summary", summary.self_test())
    return top


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="release", help="whose program the documents are checked against")
    parser.add_argument("--xml", type=Path, help="also write the results here, in GoogleTest's form")
    parser.add_argument("checks", nargs="*", help=f"default: all of {', '.join(CHECKS)}")
    args = parser.parse_args()
    if unknown := set(args.checks) - set(CHECKS):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    program = ROOT / "build" / args.preset / "apr"
    tree = Tree(ROOT, program if program.exists() else None)
    results = run_checks(tree, args.checks or list(CHECKS))
    if args.xml:
        ElementTree.ElementTree(results).write(args.xml)
    return 1 if results.find(".//failure") is not None else 0


if __name__ == "__main__":
    sys.exit(main())
