"""The report page of `apr bisect` opened in headless Chromium, light and dark; skipped where it is not installed or the program not built.

    python3 -m unittest discover -s bench/faults
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "check"))
import browser  # noqa: E402

PROGRAM = ROOT / "build" / "release" / "apr"
@unittest.skipUnless(browser.BROWSER and PROGRAM.exists(), "needs Chromium and build/release/apr")
class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        home = pathlib.Path(cls.folder.name)
        source, faulty = ROOT / "testdata" / "model" / "llama", home / "faulty"
        shutil.copytree(source, faulty)
        config = json.loads((faulty / "config.json").read_text())
        config["rms_norm_eps"] = 0.01
        (faulty / "config.json").write_text(json.dumps(config))
        cls.run_of(home, [faulty, "--ids", "5,17,60,3,9"], "stages")
        cls.page = home / "page.html"
        done = subprocess.run([PROGRAM, "bisect", source, home / "stages", "--html", cls.page], capture_output=True)
        if done.returncode != 5:
            raise AssertionError(done.stderr)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @staticmethod
    def run_of(home, model, name):
        subprocess.run([PROGRAM, "trace", *model, "--precision", "exact", "--save-tensor", "all", "--save-tensor-layers", "0..2", "--save-tensor-dir", home / name],
                       check=True, capture_output=True)

    def seen(self, width, *flags):
        return browser.seen(self.page, width, *flags)

    def test_says_what_was_found(self):
        text, probe = self.seen(1200)
        for word in ("Different", "norm_eps", "attn_norm", "First difference", "Hypotheses", "What was looked at"):
            self.assertIn(word, text)
        self.assertGreater(probe["cells"], 30)
        self.assertEqual(probe["marked"], 1)
        self.assertEqual(probe["loads"], 0, "the page is to stand alone")

    def test_light_and_dark(self):
        _, light = self.seen(1200)
        _, dark = self.seen(1200, browser.DARK)
        self.assertGreater(browser.brightness(light["back"]), browser.brightness(light["text"]))
        self.assertLess(browser.brightness(dark["back"]), browser.brightness(dark["text"]))

    def test_fits_its_window(self):
        for width in (1200, 600):
            self.assertFalse(self.seen(width)[1]["wide"], width)


if __name__ == "__main__":
    unittest.main()
