"""Tests of capture_stages.py: against stored stages, in every precision, with fused attention.

    python3 -m unittest discover -s tools/oracle
"""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

import torch
import transformers
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import capture_stages
import stages
import true_float64

TESTDATA = HERE.parents[1] / "testdata" / "model"
SHARED = HERE.parents[2] / "shared" / "oracle" / "model"
IDS = [5, 40, 17, 88, 3, 61, 29, 70]

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def nmse(value, reference):
    value, reference = value.double(), reference.double()
    return float(((value - reference) ** 2).sum() / (reference**2).sum())


def read_aprt(path):
    data = path.read_bytes()
    return torch.frombuffer(bytearray(data[12:]), dtype=torch.float32)


class Tool(unittest.TestCase):
    def run_tool(self, folder, *arguments):
        """(exit code, what it said)."""
        words = ["capture_stages.py", str(TESTDATA / "qwen3"), "--ids", ",".join(map(str, IDS)), "--out", folder, *arguments]
        said = io.StringIO()
        with unittest.mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                capture_stages.main()
            except SystemExit as stop:
                return stop.code, said.getvalue()
        return 0, said.getvalue()

    def capture(self, folder, *arguments):
        self.assertEqual(self.run_tool(folder, *arguments)[0], 0)
        return json.loads((pathlib.Path(folder) / "stages.json").read_text())

    def test_precisions_and_their_manifest(self):
        wanted = load_file(TESTDATA / "qwen3" / "stages.safetensors")
        ids = load_file(TESTDATA / "qwen3" / "expected.safetensors")["ids.short"].tolist()
        for dtype, bound in (("f64", 1e-13), ("f32", 1e-11), ("bf16", 1e-3)):
            with self.subTest(dtype), tempfile.TemporaryDirectory() as folder:
                manifest = self.capture(folder, "--dtype", dtype, "--ids", ",".join(map(str, ids)))
                self.assertEqual(manifest["precision"]["activations"], dtype)
                self.assertEqual(manifest["architecture"], "qwen3")
                self.assertEqual({f"stage.{stage['name']}" for stage in manifest["stages"]}, set(wanted))
                errors = [nmse(read_aprt(pathlib.Path(folder) / f"{s['name']}.bin"), wanted[f"stage.{s['name']}"].flatten()) for s in manifest["stages"]]
                self.assertLess(max(errors), bound)
                if dtype != "f64":
                    self.assertGreater(max(errors), 1e-16)

    def test_fused_attention(self):
        with tempfile.TemporaryDirectory() as folder:
            manifest = self.capture(folder, "--attention", "sdpa")
        names = {stage["name"].split("/")[-1] for stage in manifest["stages"]}
        self.assertEqual(manifest["attention"], "sdpa")
        self.assertGreater(names, {"q_post_rope", "k_post_rope", "attention", "attn_out"})
        self.assertFalse(names & {"attn_scores", "attn_softmax"})

    def test_fused_float64_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            code, said = self.run_tool(folder, "--dtype", "f64", "--attention", "sdpa")
        self.assertEqual(code, 2)
        self.assertIn("eager attention only", said)


class FusedAttention(unittest.TestCase):
    def test_same_stages_and_the_function_is_restored(self):
        functions = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS
        before = functions["sdpa"]
        _, plain = stages.run(true_float64.load(TESTDATA / "gemma3", "f32"), IDS)
        _, fused = stages.run(true_float64.load(TESTDATA / "gemma3", "f32", "sdpa"), IDS)
        self.assertIs(functions["sdpa"], before)
        self.assertLess(set(fused), set(plain))
        for name, value in fused.items():
            self.assertLess(nmse(value, plain[name]), 1e-10, name)


@unittest.skipUnless(SHARED.is_dir(), "the larger models are not beside this checkout")
class SharedModels(unittest.TestCase):
    def test_float64_stages_are_the_stored_ones(self):
        for name in ("llama-mha", "gemma3", "qwen2-moe-shared", "phi3-longrope"):
            with self.subTest(name):
                wanted = load_file(SHARED / name / "stages.safetensors")
                ids = load_file(SHARED / name / "expected.safetensors")["ids.short"].tolist()
                _, found = stages.run(true_float64.load(SHARED / name, "f64"), ids, true_float64.true_float64())
                self.assertEqual({f"stage.{key}" for key in found}, set(wanted))
                for key, value in found.items():
                    self.assertLess(nmse(stages.to_f32(value), wanted[f"stage.{key}"]), 1e-15, key)


if __name__ == "__main__":
    unittest.main()
