#!/usr/bin/env python3
"""Writes the seed inputs of the model-file fuzz targets: tools/format/make_fuzz_seeds.py [FOLDER].

FOLDER defaults to testdata/fuzz. Every seed is a small valid file made here from nothing (those of packed weights: from
testdata/packed), so that the fuzzer starts behind the first checks.
"""
import json
import struct
import sys
import zlib
from pathlib import Path


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf(version=3, alignment=None, tensors=True):
    """All value types, two tensors (F32 [2, 3] and Q8_0 [1, 32])."""
    values = [("a.u8", 0, b"\x07"), ("a.i8", 1, b"\xf9"), ("a.u16", 2, struct.pack("<H", 7)),
              ("a.i16", 3, struct.pack("<h", -7)), ("a.u32", 4, struct.pack("<I", 7)),
              ("a.i32", 5, struct.pack("<i", -7)), ("a.f32", 6, struct.pack("<f", 0.5)),
              ("a.bool", 7, b"\x01"), ("a.str", 8, text("x")), ("a.u64", 10, struct.pack("<Q", 7)),
              ("a.i64", 11, struct.pack("<q", -7)), ("a.f64", 12, struct.pack("<d", 0.5)),
              ("t.tokens", 9, struct.pack("<IQ", 8, 2) + text("ab") + text("")),
              ("t.scores", 9, struct.pack("<IQff", 6, 2, 0.0, -1.0)),
              ("t.bools", 9, struct.pack("<IQ", 7, 2) + b"\x00\x01"),
              ("t.nested", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQI", 4, 1, 9))]
    if alignment:
        values.append(("general.alignment", 4, struct.pack("<I", alignment)))
    step = alignment or 32
    head = b"GGUF" + struct.pack("<IQQ", version, 2 if tensors else 0, len(values))
    for key, kind, payload in values:
        head += text(key) + struct.pack("<I", kind) + payload
    if not tensors:
        return head
    head += text("w") + struct.pack("<IQQIQ", 2, 3, 2, 0, 0)
    head += text("q") + struct.pack("<IQIQ", 1, 32, 8, step)
    head += bytes(-len(head) % step)
    return head + bytes(24).ljust(step, b"\0") + bytes(34).ljust(step, b"\0")


def safetensors(header, data_bytes, pad=0):
    raw = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(raw)) + raw + bytes(data_bytes)


def apr(entries, metadata, flags=0x0400, compress=None):
    """`entries`: (name, code, dims, size), sorted by name."""
    align = lambda raw: raw + bytes(-len(raw) % 64)
    index, data = b"", b""
    for name, code, dims, size in entries:
        index += struct.pack("<H", len(name)) + name.encode() + bytes([code, len(dims)])
        index += b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<QQ", len(data), size)
        data = align(data + bytes(size))
    meta = json.dumps(metadata).encode()
    body = align(meta) + align(index)
    head = b"APR\0" + struct.pack("<BBHIQIQQ", 2, 0, flags, len(entries), 64, len(meta),
                                  64 + len(align(meta)), 64 + len(body))
    head += struct.pack("<I", zlib.crc32(head + bytes(20))) + bytes(20)
    if compress:
        return head + compress(body + data)
    whole = head + body + data
    return whole + struct.pack("<I", zlib.crc32(whole))


def packed(folder):
    """A length, config.json, and the tensors without what they are expected to be."""
    config, raw = (folder / "config.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    begin = 8 + struct.unpack("<Q", raw[:8])[0]
    header, data = {}, b""
    for name, entry in json.loads(raw[8:begin]).items():
        if name == "expected":
            continue
        first, end = entry["data_offsets"]
        header[name] = entry | {"data_offsets": [len(data), len(data) + end - first]}
        data += raw[begin + first:begin + end]
    text = json.dumps(header).encode()
    return struct.pack("<H", len(config)) + config + struct.pack("<Q", len(text)) + text + data


def imatrix_dat(calls, values, name=b"blk.0.attn_q.weight", tail=b""):
    """The older form of an importance matrix with one entry."""
    return (struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", calls, len(values))
            + struct.pack(f"<{len(values)}f", *values) + tail)


def lz4_literals(raw):
    """One raw LZ4 block of literals alone, with the size in front."""
    rest, lengths = len(raw) - 15, b""
    while rest >= 255:
        lengths, rest = lengths + b"\xff", rest - 255
    return struct.pack("<I", len(raw)) + b"\xf0" + lengths + bytes([rest]) + raw


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "testdata/fuzz")
    f32 = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    f16 = {"dtype": "F16", "shape": [], "data_offsets": [24, 26]}
    meta = {"model_type": "llama", "license": None, "vocab_size": 4, "hidden_size": 8,
            "tokenizer.vocabulary": ["a", "b"], "s": [0.5, 1], "b": [True], "n": {"x": [1, None]}}
    entries = [("lm_head.weight", 0, [4, 8], 128), ("q", 12, [2, 300], 576), ("z", 129, [5], 9)]
    manifest = {"schema": "apr-stages-v1", "engine": "e", "precision": {"weights": "f32"},
                "ids": [1, 2], "stages": [{"name": "layer-0/embedding", "shape": [2, 4]},
                                          {"name": "lm_head"}]}
    index = {"metadata": {"total_size": 4}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    config = {"model_type": "llama", "rope_theta": 1e4, "rope_scaling": {"factor": 8.0}, "x": [1, None]}
    seeds = {
        "gguf": [gguf(), gguf(2, tensors=False), gguf(alignment=64)],
        "safetensors": [safetensors({"a": f32, "b": f16}, 26, 6),
                             safetensors({"__metadata__": {"format": "pt"}, "a": f32}, 24),
                             safetensors({}, 0)],
        "apr_container": [apr(entries, meta), apr([], {}), apr(entries, meta, 0x0401, lz4_literals),
                               apr(entries[:1], meta, 0x0401)],
        "stage": [b"\0APRT" + struct.pack("<IIff", 3, 2, 1.0, float("nan")),
                       b"\1" + json.dumps(manifest).encode()],
        "imatrix": [imatrix_dat(2, [1.0, 2.0, 3.0, 4.0], tail=struct.pack("<ii", 7, 4) + b"text"),
                    struct.pack("<ii", 1, -5),
                    struct.pack("<ii", 1, 1) + b"w" + struct.pack("<ii", 1, 2**31 - 1),
                    imatrix_dat(2, [1.0, 2.0, 3.0, 4.0])[:-3],
                    imatrix_dat(0, [float("nan")])],
        "json": [b"\0" + json.dumps(index).encode(), b"\1" + json.dumps(config).encode()],
    }
    folders = sorted(path.parent for path in Path(__file__).resolve().parents[2].glob("testdata/packed/*/config.json"))
    seeds["packed"] = [seed for seed in map(packed, folders) if len(seed) < 3072]
    for target, inputs in seeds.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        for i, raw in enumerate(inputs):
            (root / target / f"seed-{i}").write_bytes(raw)


if __name__ == "__main__":
    main()
