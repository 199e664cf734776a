"""Tests of the oracle tools; each checker is shown to find a planted fault.

    python3 -m unittest discover -s tools/oracle
"""

import contextlib
import io
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import types
import unittest

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import make_model_oracle
import make_tokenizers
import stages
import true_float64
from variants import VARIANTS

TESTDATA = HERE.parents[1] / "testdata" / "model"
IDS = [5, 40, 17, 88, 3, 61, 29, 70]

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def quiet(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


class TrueFloat64(unittest.TestCase):
    def test_guard_finds_a_cast_to_float32(self):
        model = true_float64.load(TESTDATA / "llama", "f32").double()
        with torch.no_grad(), self.assertRaisesRegex(TypeError, "float32 in a float64 run"):
            with true_float64.Float64Guard():
                model(input_ids=torch.tensor([IDS]), use_cache=False)

    def test_double_is_not_true_float64(self):
        plain = true_float64.load(TESTDATA / "llama", "f32").double()
        with torch.no_grad():
            naive = plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
        wide, _ = stages.run(true_float64.load(TESTDATA / "llama", "f64"), IDS, true_float64.true_float64())
        self.assertGreater(make_model_oracle.nmse(naive, wide), 1e-18)

    def test_every_spelling_of_a_cast_is_widened(self):
        with true_float64.true_float64():
            value = torch.ones(2, dtype=torch.float32)
            for cast in (value.float(), value.to(torch.bfloat16), value.type(torch.float32), value.half(),
                         torch.nn.functional.softmax(value, dim=-1, dtype=torch.float32), torch.arange(2).float(),
                         torch.tensor(0.1), torch.zeros(2, dtype=torch.float)):
                self.assertEqual(cast.dtype, torch.float64)
        self.assertEqual(torch.get_default_dtype(), torch.float32)
        self.assertEqual(torch.ones(1).float().dtype, torch.float32)


class Capture(unittest.TestCase):
    def test_taps_change_nothing(self):
        for name in ("llama", "gemma3"):
            model = true_float64.load(TESTDATA / name, "f32")
            with torch.no_grad():
                bare = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
            tapped, _ = stages.run(model, IDS)
            with torch.no_grad():
                after = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
            self.assertTrue(torch.equal(bare, tapped))
            self.assertTrue(torch.equal(bare, after))

    def test_attention_function_is_restored(self):
        from transformers.models.llama import modeling_llama

        before = modeling_llama.eager_attention_forward
        model = true_float64.load(TESTDATA / "llama", "f32")
        with self.assertRaises(ZeroDivisionError), stages.Capture(model):
            self.assertIsNot(modeling_llama.eager_attention_forward, before)
            raise ZeroDivisionError
        self.assertIs(modeling_llama.eager_attention_forward, before)

    def test_two_passes_in_one_capture_are_refused(self):
        model = true_float64.load(TESTDATA / "llama", "f32")
        with torch.no_grad(), stages.Capture(model):
            model(input_ids=torch.tensor([IDS]), use_cache=False)
            with self.assertRaisesRegex(RuntimeError, "computed twice"):
                model(input_ids=torch.tensor([IDS]), use_cache=False)

    def test_architecture_without_a_row(self):
        model = types.SimpleNamespace(config=types.SimpleNamespace(model_type="perceptron"))
        with self.assertRaisesRegex(ValueError, "no table row for model_type 'perceptron'"):
            stages.Capture(model)


class Rows(unittest.TestCase):
    """Every row of the table, by identities between the stages that hold in any sound capture."""

    SHAPE = dict(
        vocab_size=96, hidden_size=32, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, pad_token_id=None, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    # model_type: what the row says about layer 1 beyond a pre-norm llama's stages, and what it lacks.
    WITHOUT_FIXTURE = {
        "arcee": (set(), {"ffn_gate", "ffn_swigl"}),
        "glm": (set(), set()),
        "helium": (set(), set()),
        "ministral": (set(), set()),
        "nemotron": (set(), {"ffn_gate", "ffn_swigl"}),
        "olmo": (set(), set()),
        "olmo3": ({"q_norm", "k_norm", "post_attn_norm", "post_ffn_norm"}, {"attn_norm", "ffn_norm"}),
        "seed_oss": (set(), set()),
    }
    LLAMA = {
        "attn_norm", "qkv_matmul", "qkv_bias", "q_post_rope", "k_post_rope", "attn_scores", "attn_softmax",
        "attention", "attn_out", "post_attn_residual", "ffn_norm", "ffn_gate", "ffn_up", "ffn_silu", "ffn_swigl",
        "ffn_out", "post_ffn_residual",
    }  # fmt: skip

    def test_every_row_has_a_fixture_or_stands_here(self):
        fixtures = {json.loads(path.read_text())["model_type"] for path in TESTDATA.glob("*/expected.json")}
        self.assertEqual(fixtures | set(self.WITHOUT_FIXTURE), set(stages.TABLE))
        self.assertFalse(fixtures & set(self.WITHOUT_FIXTURE))

    def capture(self, kind):
        config = transformers.AutoConfig.for_model(kind, **self.SHAPE)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, **true_float64.EAGER)
        make_model_oracle.fill(model, 3, 0.15)
        return stages.run(true_float64.widen_model(model), IDS, true_float64.true_float64())[1]

    def require_sound(self, found):
        def near(one, other, what):
            self.assertLess(make_model_oracle.nmse(one, other), 1e-26, what)

        for layer in range(2):
            at = lambda stage: found[f"layer-{layer}/{stage}"]
            entry = at("embedding") if layer == 0 else found["layer-0/post_ffn_residual"]
            after_attn = found.get(f"layer-{layer}/post_attn_norm", at("attn_out"))
            after_ffn = found.get(f"layer-{layer}/post_ffn_norm", at("ffn_out"))
            near(at("post_attn_residual"), entry + after_attn, "attention residual")
            near(at("post_ffn_residual"), at("post_attn_residual") + after_ffn, "ffn residual")
            if f"layer-{layer}/ffn_gate" in found:
                near(at("ffn_swigl"), at("ffn_silu") * at("ffn_up"), "gate times up")
            weights = at("attn_softmax")
            self.assertEqual(float(weights.triu(1).abs().max()), 0.0)
            seen = at("attn_scores").masked_fill(weights == 0, float("-inf"))
            near(weights, seen.softmax(dim=-1), "softmax of the scores")
            value = at("qkv_bias")[:, -16:].view(-1, 2, 8).repeat_interleave(2, dim=1).transpose(0, 1)
            near(at("attention"), (weights @ value).transpose(0, 1).reshape(len(IDS), -1), "weights times values")

    def test_rows_without_a_fixture(self):
        for kind, (more, less) in self.WITHOUT_FIXTURE.items():
            with self.subTest(kind):
                found = self.capture(kind)
                self.assertEqual({name.split("/")[1] for name in found if name.startswith("layer-1/")},
                                 self.LLAMA - less | more)
                self.require_sound(found)

    def test_a_tap_at_the_wrong_place_is_found(self):
        found = self.capture("seed_oss")
        for stage, other, what in (("ffn_out", "ffn_norm", "ffn residual"), ("attn_out", "attn_norm", "attention res"),
                                   ("ffn_silu", "ffn_gate", "gate times up"), ("attention", "qkv_matmul", "")):
            wrong = dict(found)
            wrong[f"layer-1/{stage}"] = found[f"layer-1/{other}"]
            with self.assertRaisesRegex((AssertionError, RuntimeError), what):
                self.require_sound(wrong)
        wrong = dict(found)
        wrong["layer-1/attn_scores"] = found["layer-1/attn_scores"] * 1.001
        with self.assertRaisesRegex(AssertionError, "softmax of the scores"):
            self.require_sound(wrong)


class ScoreWatch(unittest.TestCase):
    """The scores after scale and soft cap, before the mask, in every order in which transformers writes them."""

    def setUp(self):
        torch.manual_seed(7)
        self.q, self.k = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)  # T == D: shapes alone cannot tell
        self.mask = torch.triu(torch.full((1, 1, 4, 6), -1e30), diagonal=1)

    def watch(self, function, mask):
        with stages._ScoreWatch((1, 2, 4, 4), mask) as watch:
            function(mask)
        return watch.scores

    def test_scale_cap_and_sliced_mask(self):
        def attention(mask):
            scores = torch.tanh(torch.matmul(self.q, self.k.transpose(2, 3)) * 0.5 / 3.0) * 3.0
            scores = scores + mask[:, :, :, :4]
            return torch.softmax(scores, dim=-1)

        expected = torch.tanh(self.q @ self.k.transpose(2, 3) * 0.5 / 3.0) * 3.0
        self.assertTrue(torch.equal(self.watch(attention, self.mask), expected))

    def test_mask_added_in_place(self):
        def attention(mask):
            scores = torch.matmul(self.q, self.k.transpose(2, 3)) * 0.5
            scores += mask[:, :, :, :4]
            return torch.softmax(scores, dim=-1)

        self.assertTrue(torch.equal(self.watch(attention, self.mask), self.q @ self.k.transpose(2, 3) * 0.5))

    def test_sinks_and_no_mask(self):
        def attention(mask):
            scores = torch.matmul(self.q, self.k.transpose(2, 3)) * 0.25
            joined = torch.cat([scores, torch.zeros(1, 2, 4, 1)], dim=-1)
            return torch.softmax(joined - joined.max(dim=-1, keepdim=True).values, dim=-1)

        self.assertTrue(torch.equal(self.watch(attention, None), self.q @ self.k.transpose(2, 3) * 0.25))


class StageFiles(unittest.TestCase):
    def test_aprt_keeps_every_bit(self):
        value = torch.tensor([[0.0, -0.0, float("nan")], [float("inf"), 1e-45, -1.5]])
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "layer-3" / "attn_norm.bin"
            stages.write_aprt(path, 3, value)
            data = path.read_bytes()
        self.assertEqual(data[:12], b"APRT" + struct.pack("<II", 3, 6))
        self.assertEqual(data[12:], value.numpy().tobytes())

    def test_command_writes_a_directory_and_refuses_to_mix(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(HERE.parent / "capture_stages.py"), str(TESTDATA / "qwen3"), "--out", folder]
            self.assertEqual(subprocess.run([*command, "--ids", "5,40,17"], capture_output=True).returncode, 0)
            manifest = json.loads((pathlib.Path(folder) / "stages.json").read_text())
            for stage in manifest["stages"]:
                size = (pathlib.Path(folder) / f"{stage['name']}.bin").stat().st_size
                self.assertEqual(size, 12 + 4 * torch.Size(stage["shape"]).numel())
            self.assertEqual(manifest["ids"], [5, 40, 17])
            again = subprocess.run([*command, "--ids", "5"], capture_output=True, text=True)
            self.assertEqual(again.returncode, 2)
            self.assertIn("already holds stages", again.stderr)
            for bad in ("5;6", "", "-1", "96"):
                refused = subprocess.run([*command, "--force", f"--ids={bad}"], capture_output=True, text=True)
                self.assertEqual(refused.returncode, 2, bad)


class Oracle(unittest.TestCase):
    def test_committed_weights_come_from_the_seed(self):
        for name in ("llama", "qwen2", "gemma3"):
            variant = VARIANTS[name]
            config = transformers.AutoConfig.for_model(variant.model_type, **variant.config)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            make_model_oracle.fill(model, variant.seed, variant.table_scale)
            mine = model.to(getattr(torch, variant.dtype)).state_dict()
            stored = {}
            for path in (TESTDATA / name).glob("model*.safetensors"):
                stored |= load_file(path)
            self.assertTrue(stored)
            for key, value in stored.items():
                self.assertTrue(torch.equal(value, mine[key]), f"{name} {key}")

    def test_check_accepts_the_committed_models(self):
        folders = sorted(TESTDATA.iterdir())
        self.assertGreaterEqual({folder.name for folder in folders}, {"llama", "qwen3", "gemma3", "tiny-chat"})
        for folder in folders:
            self.assertEqual(quiet(make_model_oracle.check, folder), [])

    def test_check_finds_planted_faults(self):
        def logit(tensors, shown):
            tensors["logits_f64.one"][0, 3] += 1e-9

        def long_logit(tensors, shown):
            tensors["logits_f64.long"][7, 3] += 1e-3

        def greedy_id(tensors, shown):
            tensors["ids.greedy"][-1] ^= 1

        def stage(tensors, shown):
            shown["stage.layer-1/k_post_rope"][2, 5] += 1e-3

        def nan(tensors, shown):
            shown["stage.layer-0/ffn_norm"][0, 0] = float("nan")

        def absent(tensors, shown):
            del shown["stage.layer-0/attn_scores"]

        def nothing(tensors, shown):
            shown.clear()
            shown["other"] = torch.zeros(1)

        for fault in (logit, long_logit, greedy_id, stage, nan, absent, nothing):
            with self.subTest(fault.__name__), tempfile.TemporaryDirectory() as folder:
                copy = pathlib.Path(folder) / "llama"
                shutil.copytree(TESTDATA / "llama", copy)
                tensors, shown = load_file(copy / "expected.safetensors"), load_file(copy / "stages.safetensors")
                fault(tensors, shown)
                save_file(tensors, copy / "expected.safetensors")
                save_file(shown, copy / "stages.safetensors")
                self.assertTrue(quiet(make_model_oracle.check, copy))

    def test_a_constant_without_effect_is_refused(self):
        expected = json.loads((TESTDATA / "llama" / "expected.json").read_text())
        make_model_oracle.require_useful("llama", expected)
        expected["constants"]["rms_norm_eps"] = 1e-14
        with self.assertRaisesRegex(RuntimeError, "without a visible effect.*rms_norm_eps"):
            make_model_oracle.require_useful("llama", expected)

    def test_a_near_tie_is_refused(self):
        expected = json.loads((TESTDATA / "llama" / "expected.json").read_text())
        expected["checks"]["greedy"]["min_top2_gap"] = 1e-6
        with self.assertRaisesRegex(RuntimeError, "another seed"):
            make_model_oracle.require_useful("llama", expected)


class Tokenizers(unittest.TestCase):
    FOLDER = TESTDATA.parent / "tokenizer"

    def test_training_is_reproducible(self):
        for name, train in (("byte-bpe", make_tokenizers.byte_bpe), ("spm-bpe", make_tokenizers.spm_bpe)):
            committed = json.loads((self.FOLDER / name / "tokenizer.json").read_text())
            self.assertEqual(json.loads(train().to_str()), committed)

    def test_texts_reach_what_they_are_for(self):
        for name in ("byte-bpe", "spm-bpe"):
            text = (self.FOLDER / name / "expected.jsonl").read_text()
            lines = [json.loads(line) for line in text.splitlines()]
            self.assertEqual({line["group"] for line in lines},
                             {"hand", "alphabet", "corpus", "splice", "special", "add_special", "random_ids"})
            model = json.loads((self.FOLDER / name / "tokenizer.json").read_text())["model"]
            used = {number for line in lines for number in line["ids"]}
            merged = {model["vocab"]["".join(pair)] for pair in model["merges"]}
            self.assertGreater(len(used & merged), 0.9 * len(merged))


class Chat(unittest.TestCase):
    def test_greedy_answers(self):
        folder = TESTDATA / "tiny-chat"
        wide = true_float64.load(folder, "f64")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        chat = json.loads((folder / "expected.json").read_text())["chat"]
        self.assertEqual(len(chat), 10)
        for turn in chat:
            prompt = tokenizer.apply_chat_template(turn["messages"], tokenize=False, add_generation_prompt=True)
            self.assertEqual(prompt, turn["prompt"])
            # One pass over prompt and answer: at each place the next id must be the best one.
            path = turn["prompt_ids"] + turn["answer_ids"]
            with torch.no_grad(), true_float64.true_float64():
                logits = wide(input_ids=torch.tensor([path]), use_cache=False).logits[0]
            best = torch.topk(logits[len(turn["prompt_ids"]) - 1 : -1], 2)
            self.assertEqual(best.indices[:, 0].tolist(), turn["answer_ids"])
            gap = float((best.values[:, 0] - best.values[:, 1]).min())
            self.assertEqual(tokenizer.decode(turn["answer_ids"], skip_special_tokens=True), turn["answer"])
            self.assertGreater(gap, 1.0)  # wide enough for a 4-bit version to give the same text


if __name__ == "__main__":
    unittest.main()
