"""The Python tests of tools/ and bench/ pass, where what they import is installed."""

import re
import subprocess
import sys

from tree import Fault, Report, Tree

TIMEOUT_S = 600


def check(tree: Tree) -> Report:
    report = Report()
    folders = sorted({p.rpartition("/")[0] for p in tree.files(".py", under=("tools/", "bench/")) if "/test_" in p})
    count = 0
    for folder in folders:
        command = [sys.executable, "-m", "unittest", "discover", "-s", folder]
        done = subprocess.run(command, cwd=tree.root, capture_output=True, text=True, timeout=TIMEOUT_S)
        missing = re.search(r"ModuleNotFoundError: No module named '(\w+)'", done.stderr)
        if done.returncode == 0:
            count += int(re.search(r"^Ran (\d+) test", done.stderr, re.M).group(1))
        elif missing and not (tree.root / folder / f"{missing.group(1)}.py").exists():
            report.skipped.append(f"{folder}: needs the Python package {missing.group(1)}")
        else:
            report.findings.append(f"{folder}: {done.stderr.strip()[-2000:]}")
    report.looked_at = f"{count} tests in {len(folders)} folders"
    return report


_TEST = "import unittest\nclass T(unittest.TestCase):\n    def test_sum(self):\n        self.assertEqual(1 + 1, {})\n"
CLEAN = {"tools/a/test_a.py": _TEST.format(2), "tools/b/test_b.py": "import no_such_package_anywhere\n"}
FAULTS = [
    Fault("failing-test", {"tools/a/test_a.py": _TEST.format(3)}, "tools/a: "),
    Fault("failing-test-of-bench", {"bench/a/test_a.py": _TEST.format(3)}, "bench/a: "),
    Fault("broken-file", {"tools/a/test_a.py": "import unittest\nraise ValueError\n"}, "ValueError"),
]
