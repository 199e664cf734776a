"""Pairs that cannot be judged, or only in part: captures without ids, of other ids, broken, of another model."""

import json

import engines
import models
import numpy
from case import Expect

from aprt import write_aprt

NOT_JUDGED = ["inconclusive"]
EITHER = ["inconclusive", "different"]
SOURCE = "paiml/aprender#1105"


def sound(path, out, ids=None):
    model = engines.load(path)
    ids = ids or engines.sequence(path)
    engines.write(out, engines.run(model, ids), path, model.config.model_type, ids, engine="transformers 5.23.0")
    return out


def no_manifest(out, path):
    (out / "stages.json").unlink()


def only_unknown(out, path):
    """Nothing that the model computes."""
    manifest = json.loads((out / "stages.json").read_text())
    for stage in manifest["stages"]:
        (out / f"{stage['name']}.bin").unlink()
    write_aprt(out / "layer-0" / "attn_bias.bin", 0, numpy.zeros(4))
    manifest["stages"] = [{"name": "layer-0/attn_bias", "shape": [1, 4]}]
    (out / "stages.json").write_text(json.dumps(manifest))


def all_nan(out, path):
    for file in out.glob("**/*.bin"):
        data = bytearray(file.read_bytes())
        data[12:] = numpy.full((len(data) - 12) // 4, numpy.nan, "<f4").tobytes()
        file.write_bytes(data)


def wrong_shape(out, path):
    write_aprt(out / "layer-1" / "attn_out.bin", 1, numpy.zeros(7))


def file_missing(out, path):
    (out / "layer-1" / "ffn_norm.bin").unlink()


def ids_outside(out, path):
    manifest = json.loads((out / "stages.json").read_text())
    manifest["ids"][3] = 10**6
    (out / "stages.json").write_text(json.dumps(manifest))


def other_length(out, path):
    manifest = json.loads((out / "stages.json").read_text())
    manifest["ids"] = manifest["ids"][:-2]
    (out / "stages.json").write_text(json.dumps(manifest))


# name, model, what happens to the capture, verdicts, phases, causes
BROKEN = [
    ("no-ids", "qwen2", no_manifest, NOT_JUDGED, [], []),
    ("no-common-stage", "llama-mha", only_unknown, NOT_JUDGED, [], []),
    ("nan-everywhere", "gemma2", all_nan, ["different"], [], []),
    ("wrong-shape", "olmo2", wrong_shape, EITHER, [], []),
    ("file-missing", "qwen3", file_missing, EITHER + ["same", "rounding"], [], []),
    ("ids-outside", "gpt2", ids_outside, EITHER, [], []),
    ("ids-of-other-length", "phi3", other_length, EITHER, [], []),
]  # fmt: skip


def register(bench):
    for name, base, spoil, verdict, phase, causes in BROKEN:
        identifier, path = f"input-{name}", models.folder(base)
        if path is None or not bench.wants(identifier):
            continue
        b = bench.place(identifier, "b")
        sound(path, b)
        spoil(b, path)
        bench.add(identifier, "input", SOURCE, path, b, Expect(verdict=verdict, phase=phase, causes=causes))
    identifier, path = "input-other-ids", models.folder("llama-mha")
    if path is not None and bench.wants(identifier):
        a, b = bench.place(identifier, "a"), bench.place(identifier, "b")
        sound(path, a)
        sound(path, b, engines.sequence(path)[::-1])
        bench.add(identifier, "input", SOURCE, a, b, Expect(verdict=EITHER))
    one, other = models.folder("llama-mha"), models.folder("gpt2")
    if one is not None and other is not None and bench.wants("input-two-architectures"):
        bench.add("input-two-architectures", "input", "ggml-org/llama.cpp#22565", one, other, Expect(verdict=EITHER))
