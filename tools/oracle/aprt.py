"""Stage directories: the names of the stages in causal order, their files (APRT), the manifest; no PyTorch needed."""

import json
import pathlib
import re
import struct

import numpy

LAYER_STAGES = (
    "embedding", "attn_norm", "qkv_matmul", "qkv_bias", "q_norm", "k_norm", "q_post_rope", "k_post_rope",
    "attn_scores", "attn_softmax", "attention", "attn_out", "post_attn_norm", "post_attn_residual", "ffn_norm",
    "moe_router_logits", "moe_router", "moe_router_indices", "ffn_gate", "ffn_up", "ffn_silu", "ffn_swigl", "ffn_out",
    "moe_ffn_out", "post_ffn_norm", "post_ffn_residual",
)  # fmt: skip
MODEL_STAGES = ("final_norm", "lm_head")
WHOLE_MODEL = 0xFFFFFFFF
EXIT_USAGE = 2


def parse_ids(text):
    """Ids separated by commas or white space."""
    words = [word for word in re.split(r"[\s,]+", text) if word]
    if not words or not all(re.fullmatch(r"\d+", word) for word in words):
        raise ValueError(f"not a list of token ids: {text[:80]!r}")
    return [int(word) for word in words]


def prepare(out, force):
    """An output directory without stages: old ones beside new ones would be read as one capture."""
    old = [path for path in (*out.glob("layer-*/*.bin"), *out.glob("*.bin"), *out.glob("stages.json"))]
    if old and not force:
        raise ValueError(f"{out} already holds stages; --force replaces them")
    for path in sorted(old, key=lambda path: path.name != "stages.json"):  # the manifest first: it says "complete"
        path.unlink()


def write_aprt(path, layer, value):
    """An APRT file: "APRT", u32 layer (FFFFFFFF: whole model), u32 count, then count float32; all little-endian."""
    data = numpy.ascontiguousarray(value, dtype="<f4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"APRT" + struct.pack("<II", layer, len(data) // 4) + data)


def write_directory(out, stages, *, engine, model, architecture, precision, ids, extra=None):
    """Writes <out>/layer-<N>/<stage>.bin, <out>/<stage>.bin and <out>/stages.json (the manifest last: a directory with
    a manifest is complete)."""
    out = pathlib.Path(out)
    for name, value in stages.items():
        layer = int(name.split("/")[0].removeprefix("layer-")) if "/" in name else WHOLE_MODEL
        write_aprt(out / f"{name}.bin", layer, value)
    manifest = {
        "schema": "apr-stages-v1",
        "engine": engine,
        "model": model,
        "architecture": architecture,
        "precision": precision,
        **(extra or {}),
        "ids": list(ids),
        "stages": [{"name": name, "shape": list(value.shape)} for name, value in stages.items()],
    }
    (out / "stages.json").write_text(json.dumps(manifest, indent=1) + "\n")
