"""The pages of `apr diff --html` in headless Chromium, of weights and of stages; skipped where it is not installed or the program not built.

    python3 -m unittest discover -s tools/format
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "check"))
import browser  # noqa: E402

PROGRAM = ROOT / "build" / "release" / "apr"
MODEL = ROOT / "testdata" / "model" / "llama"


def is_red(pixel):
    return pixel[0] > 130 and pixel[0] > pixel[1] + 60 and pixel[0] > pixel[2] + 60


def is_green(pixel):
    return pixel[1] > pixel[0] + 25 and pixel[1] > pixel[2] + 25


def share(picture, wanted):
    """Of the window's pixels."""
    return sum(wanted(pixel) for line in picture for pixel in line) / (len(picture) * len(picture[0]))


@unittest.skipUnless(browser.BROWSER and PROGRAM.exists(), "needs Chromium and build/release/apr")
class DiffPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.home = pathlib.Path(cls.folder.name)
        cls.apr("quantize", MODEL, "-s", "Q8_0", "-o", cls.home / "q8.gguf")
        cls.plant(cls.home / "q8.gguf", cls.home / "faulty.gguf")
        for name, model in (("sound", cls.home / "q8.gguf"), ("other", cls.home / "faulty.gguf")):
            cls.apr("trace", model, "--ids", "5,17,60,3,9", "--precision", "exact", "--save-tensor", "all", "--save-tensor-layers", "0..2",
                    "--save-tensor-dir", cls.home / name)
        cls.same = cls.diff("same.html", 0, "--values", MODEL, cls.home / "q8.gguf")
        cls.weights = cls.diff("weights.html", 5, "--values", MODEL, cls.home / "faulty.gguf")
        cls.stages = cls.diff("stages.html", 5, cls.home / "sound", cls.home / "other")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def apr(cls, *arguments):
        return subprocess.run([PROGRAM, *arguments], check=True, capture_output=True)

    @classmethod
    def diff(cls, name, code, *arguments):
        done = subprocess.run([PROGRAM, "diff", *arguments, "--html", cls.home / name], capture_output=True)
        if done.returncode != code:
            raise AssertionError((name, done.returncode, done.stderr))
        return cls.home / name

    @classmethod
    def plant(cls, source, target):
        """Turns around the sign of the first scales of one tensor."""
        text = cls.apr("tensors", source, "--json").stdout.decode()
        at = int(re.search(r'"name": *"blk\.0\.ffn_up\.weight".*?"offset": *(\d+)', text, re.S)[1])
        data = bytearray(source.read_bytes())
        for block in range(12):
            data[at + 34 * block + 1] ^= 0x80
        target.write_bytes(data)

    def test_names_the_tensor_and_the_kind_of_difference(self):
        text, probe = browser.seen(self.weights, 1200)
        for word in ("The weights differ.", "model.layers.0.mlp.up_proj.weight", "Q8_0", "explained", "different"):
            self.assertIn(word, text)
        self.assertGreater(probe["rows"], 20)
        self.assertEqual(probe["loads"], 0, "the page is to stand alone")
        self.assertIn("The same weights, as far as the storage types allow.", browser.seen(self.same, 1200)[0])

    def test_marks_the_first_stage_that_differs(self):
        text, probe = browser.seen(self.stages, 1200)
        self.assertIn("The runs differ.", text)
        self.assertEqual(probe["marked"], 1)
        self.assertGreater(probe["cells"], 20)
        self.assertEqual(probe["loads"], 0)

    def test_light_and_dark(self):
        for page in (self.weights, self.stages):
            _, light = browser.seen(page, 1200)
            _, dark = browser.seen(page, 1200, browser.DARK)
            self.assertGreater(browser.brightness(light["back"]), browser.brightness(light["text"]))
            self.assertLess(browser.brightness(dark["back"]), browser.brightness(dark["text"]))

    def test_fits_its_window(self):
        for page in (self.weights, self.stages):
            for width in (1200, 600):
                self.assertFalse(browser.seen(page, width)[1]["wide"], (page, width))

    def test_looks_as_it_should(self):
        same, differs, stages = (browser.screenshot(page, 1000) for page in (self.same, self.weights, self.stages))
        self.assertEqual(len(same[0]), 1000)
        for picture in (same, differs, stages):
            paper = max((line[0] for line in picture), key=[line[0] for line in picture].count)
            ink = share(picture, lambda pixel, paper=paper: sum(abs(a - b) for a, b in zip(pixel, paper)) > 150)
            self.assertTrue(0.005 < ink < 0.5, ink)
        self.assertEqual(share(same, is_red), 0, "nothing is wrong there")
        self.assertGreater(share(differs, is_red), 2e-4)
        self.assertGreater(share(stages, is_red), 2e-4)
        self.assertGreater(share(stages, is_green), 2e-4, "stages before the fault are sound")


if __name__ == "__main__":
    unittest.main()
