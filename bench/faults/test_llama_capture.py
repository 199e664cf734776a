"""Tests of tools/capture_llama_cpp.py against PyTorch, on tiny models in GGUF; skipped where no llama.cpp is installed.

    python3 -m unittest discover -s bench/faults
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "oracle"))
TOOL = ROOT / "tools" / "capture_llama_cpp.py"
try:
    import libllama

    LIBRARY = libllama.find_library(None)[0][-1]
    import engines
    import gguf_side
    import models
    import numpy
except (ValueError, ModuleNotFoundError):
    LIBRARY = None


@unittest.skipUnless(LIBRARY, "no llama.cpp: pip install xllamacpp gguf")
class AgainstPyTorch(unittest.TestCase):
    def capture(self, folder, name, *arguments):
        file = gguf_side.convert(models.Model.load(models.TESTDATA / name))
        file.meta["tokenizer.ggml.model"] = "none"
        gguf = file.save(pathlib.Path(folder) / f"{name}.gguf")
        out = pathlib.Path(folder) / name
        ids = engines.sequence(models.TESTDATA / name)
        done = subprocess.run([sys.executable, TOOL, gguf, "--ids", ",".join(map(str, ids)), "--out", out, *arguments], capture_output=True, text=True)
        return done, out, ids

    def test_every_stage_that_both_have(self):
        for name, stages_of_both in (("llama", 34), ("qwen3", 38), ("granite", 34), ("olmo2", 34)):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                done, out, ids = self.capture(folder, name)
                self.assertEqual(done.returncode, 0, done.stderr)
                wanted = engines.run(engines.load(models.TESTDATA / name), ids)
                compared = 0
                for stage in json.loads((out / "stages.json").read_text())["stages"]:
                    reference = wanted[stage["name"]].float().numpy().astype(numpy.float64)
                    self.assertEqual(list(reference.shape), stage["shape"], stage["name"])
                    mine = numpy.fromfile(out / f"{stage['name']}.bin", "<f4", offset=12).reshape(reference.shape)
                    self.assertLess(((mine - reference) ** 2).sum() / (reference**2).sum(), 1e-9, stage["name"])
                    compared += 1
                self.assertGreaterEqual(compared, stages_of_both)

    def test_refusals(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, said in ((["--ids", "4000"], "outside the vocabulary"), (["--ids", "x"], "not a list of token ids"),
                                    (["--library", "/nonexistent.so"], "nonexistent")):
                done, _, _ = self.capture(folder, "llama", *arguments)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
