"""Tests of the scorer: each way in which an answer can be wrong is planted and must be seen.

    python3 -m unittest discover -s bench/faults
"""

import copy
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import score

PLACE = dict.fromkeys(score.FIRST) | {"phase": "config", "layer": 3, "stage": "q_post_rope", "key": "rope_parameters.rope_theta", "error": 1.5, "floor": 1e-6}
CAUSE = {"name": "rope_theta", "a": 1e6, "b": 1e4, "evidence": "x", "error_before": 1.5, "error_after": 1e-7, "fix": "y"}
GOOD = {
    "schema": "apr-bisect-v1", "a": {}, "b": {}, "verdict": "different", "first": PLACE, "cause": CAUSE,
    "causes": [{"name": "rope_theta", "error_after": 1e-7}],
    "also": [{"first": PLACE | {"layer": 5}, "cause": CAUSE | {"name": "norm_eps"}}, {"first": PLACE, "effect": "none"}],
    "coverage": {"tensors": {}, "config_keys": {}, "stages": {}, "positions": 4}, "seconds": 0.2,
}  # fmt: skip
EXPECT = {"verdict": ["different"], "phase": ["config"], "layer": [3], "stage": ["q_post_rope"], "tensor": [], "key": ["rope_theta"], "causes": ["rope_theta"],
          "also": [{"causes": ["norm_eps"], "layer": 5}]}
CASE = {"id": "x", "kind": "config", "expect": EXPECT}


def answer(exit_code=5, **changes):
    return score.Answer(exit_code, 0.1, copy.deepcopy(GOOD) | changes)


class Score(unittest.TestCase):
    def test_a_right_answer(self):
        self.assertEqual(score.judge(CASE, answer()), (True, True, []))

    def test_wrong_places_are_not_located(self):
        for field, value in (("layer", 2), ("layer", None), ("stage", "k_post_rope"), ("phase", "ops"), ("key", "rope_scaling"), ("key", None)):
            located, named, problems = score.judge(CASE, answer(first=PLACE | {field: value}))
            self.assertFalse(located, field)
            self.assertTrue(named)
            self.assertTrue(problems)

    def test_wrong_causes_are_not_named(self):
        for change in ({"cause": None}, {"cause": CAUSE | {"name": "rope_scaling"}}, {"also": []}, {"also": [GOOD["also"][1]]},
                       {"also": [{"first": PLACE | {"layer": 4}, "cause": CAUSE | {"name": "norm_eps"}}]}):
            located, named, problems = score.judge(CASE, answer(**change))
            self.assertTrue(located)
            self.assertFalse(named, change)
            self.assertTrue(problems)

    def test_other_verdicts(self):
        for verdict, code in (("same", 0), ("rounding", 0), ("inconclusive", 12)):
            self.assertEqual(score.judge(CASE, answer(code, verdict=verdict, first=None, cause=None))[:2], (False, False))
        healthy = {"kind": "healthy", "expect": EXPECT | {"verdict": ["same", "rounding"], "also": []}}
        self.assertEqual(score.judge(healthy, answer(0, verdict="rounding", first=None, cause=None)), (True, True, []))
        self.assertFalse(score.judge(healthy, answer())[0])

    def test_no_answer(self):
        self.assertEqual(score.judge(CASE, score.Answer(None, 60, None, "no answer after 60 s"))[:2], (False, False))

    def test_tensors(self):
        self.assertTrue(score.tensor_matches("model.layers.1.mlp.up_proj.weight", ["model.layers.1"]))
        self.assertTrue(score.tensor_matches("a.weight", ["b", "a.weight"]))
        for found, wanted in ((None, ["a"]), ("model.layers.10.x.weight", ["model.layers.1.x.weight"]), ("a.bias", ["a.weight"])):
            self.assertFalse(score.tensor_matches(found, wanted))

    def test_schema(self):
        self.assertEqual(score.schema_problems(answer()), [])
        without = lambda table, name: {k: v for k, v in table.items() if k != name}
        broken = [{"schema": "apr-bisect-v2"}, {"first": without(PLACE, "floor")}, {"cause": without(CAUSE, "fix")}, {"first": None}, {"seconds": "fast"},
                  {"first": PLACE | {"error": "bare NaN"}}, {"first": PLACE | {"layer": 1.5}}, {"cause": CAUSE | {"name": "gremlins"}},
                  {"causes": [{"name": "x"}]}, {"also": [{"first": PLACE}]}, {"coverage": {"tensors": {}}}, {"verdict": "unsure"}]
        for change in broken:
            self.assertTrue(score.schema_problems(answer(**change)), change)
        self.assertTrue(score.schema_problems(answer(0)))
        for name in GOOD:
            self.assertTrue(score.schema_problems(score.Answer(5, 0.1, without(GOOD, name))), name)
        self.assertEqual(score.schema_problems(answer(first=PLACE | {"a": "nan", "b": "-inf"})), [])


if __name__ == "__main__":
    unittest.main()
