"""Pairs whose B is damaged as a file: cut off, a part missing, or an index that contradicts the bytes."""

import json
import struct
import subprocess

import gguf_side
import models
from case import Expect

SOURCE = "paiml/aprender#2535"
DOWNLOAD = "facebookresearch/metaseq#122"


def cut(path, at):
    """The file ends at byte `at`, or at that part of its length."""
    data = path.read_bytes()
    path.write_bytes(data[: at if isinstance(at, int) else int(len(data) * at)])


def folder_of(name, shards=1):
    def make(out):
        models.Model.load(models.folder(name)).save(out, shards)
        return out

    return make


def gguf_of(name, dtype="f32"):
    return lambda out: gguf_side.convert(models.Model.load(models.folder(name)), dtype).save(out)


def weights(out):
    return out / "model.safetensors"


def header_edit(change):
    """Rewrites the header of model.safetensors by change(header); the data stays where it is."""

    def apply(out):
        data = weights(out).read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        weights(out).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return apply


def gap(header):
    """One tensor's range begins where its neighbour's does."""
    names = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    first, second = names[3], names[4]
    begin, end = header[second]["data_offsets"]
    shift = header[first]["data_offsets"][0] - begin
    header[second]["data_offsets"] = [begin + shift, end + shift]


def grown(header):
    name = next(n for n in header if n.endswith("down_proj.weight") or n.endswith("c_proj.weight"))
    header[name]["shape"][0] += 1


def retyped(header):
    name = next(n for n in header if n != "__metadata__" and header[n]["dtype"] in ("F32", "BF16", "F16"))
    header[name]["dtype"] = "F64" if header[name]["dtype"] == "F32" else "F32"


def overwrite(at, data):
    def apply(out):
        path = weights(out) if out.is_dir() else out
        raw = bytearray(path.read_bytes())
        raw[at : at + len(data)] = data
        path.write_bytes(raw)

    return apply


def gguf_offset(out):
    """The last tensor's offset lies far behind the end of the file."""
    raw = bytearray(out.read_bytes())
    reader = gguf_side.gguf.GGUFReader(out)
    last = reader.tensors[-1]
    field = last.field.parts[-1]  # the offset, eight bytes
    at = last.field.offset + sum(part.nbytes for part in last.field.parts[:-1])
    del field
    raw[at : at + 8] = struct.pack("<Q", 1 << 40)
    out.write_bytes(raw)


def index_edit(change):
    def apply(out):
        path = out / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        change(index["weight_map"])
        path.write_text(json.dumps(index))

    return apply


def wrong_shard(where):
    """A tensor is listed under the shard of another."""
    one, other = sorted(where)[0], sorted(where)[1]
    where[one] = where[other] if where[other] != where[one] else next(f for f in set(where.values()) if f != where[one])


CUT, BAD = ["file_truncated"], ["file_corrupt"]
# name, how B is made, what is done to it, causes
FAULTS = [
    ("safetensors-half", "llama-mha", folder_of("llama-mha"), lambda out: cut(weights(out), 0.5), CUT),
    ("safetensors-last-byte", "qwen3", folder_of("qwen3"), lambda out: cut(weights(out), len(weights(out).read_bytes()) - 1), CUT),
    ("safetensors-in-header", "gpt2", folder_of("gpt2"), lambda out: cut(weights(out), 400), CUT),
    ("safetensors-shard-cut", "qwen2", folder_of("qwen2", 3), lambda out: cut(out / "model-00002-of-00003.safetensors", 0.7), CUT),
    ("shard-missing", "gemma2", folder_of("gemma2", 4), lambda out: (out / "model-00003-of-00004.safetensors").unlink(), CUT + BAD + ["missing_tensor"]),
    ("gguf-half", "mistral-window", gguf_of("mistral-window"), lambda out: cut(out, 0.6), CUT),
    ("gguf-last-tensor", "gemma", gguf_of("gemma", "q8_0"), lambda out: cut(out, len(out.read_bytes()) - 3000), CUT),
    ("gguf-in-tensor-list", "phi3", gguf_of("phi3"), lambda out: cut(out, 1500), CUT),
    ("gguf-in-metadata", "olmo2", gguf_of("olmo2"), lambda out: cut(out, 300), CUT),
    ("gguf-tokenizer-cut", "tiny-chat", gguf_of("tiny-chat"), lambda out: cut(out, 3000), CUT),
    ("safetensors-overlap", "starcoder2", folder_of("starcoder2"), header_edit(gap), BAD),
    ("safetensors-shape-too-large", "stablelm", folder_of("stablelm"), header_edit(grown), BAD),
    ("safetensors-type-too-wide", "olmoe", folder_of("olmoe"), header_edit(retyped), BAD),
    ("safetensors-header-length", "granite", folder_of("granite"), overwrite(0, struct.pack("<Q", 1 << 50)), BAD + CUT),
    ("safetensors-header-garbage", "cohere", folder_of("cohere"), overwrite(200, b"\x00\xff{{{"), BAD),
    ("index-wrong-shard", "llama-linear", folder_of("llama-linear", 2), index_edit(wrong_shard), BAD + ["missing_tensor"]),
    ("gguf-offset", "qwen3-moe", gguf_of("qwen3-moe"), gguf_offset, BAD + CUT),
    ("gguf-magic-version", "starcoder2", gguf_of("starcoder2"), overwrite(4, struct.pack("<I", 99)), BAD),
    ("gguf-tensor-count", "llama-mha", gguf_of("llama-mha"), overwrite(8, struct.pack("<Q", 1 << 48)), BAD + CUT),
    ("config-json-cut", "mixtral", folder_of("mixtral"), lambda out: cut(out / "config.json", 0.5), CUT + BAD),
]  # fmt: skip


def apr_pairs(bench):
    if not bench.writes("apr"):
        return
    for name, change, causes in (("apr-cut", lambda path: cut(path, 0.7), CUT), ("apr-header-bit", overwrite(40, b"\xff"), BAD)):
        identifier, base = f"file-{name}", models.folder("qwen2")
        if not bench.wants(identifier):
            continue
        b = bench.place(identifier, "b.apr")
        subprocess.run([bench.program, "export", base, "--format", "apr", "-o", b], check=True, capture_output=True)
        change(b)
        bench.add(identifier, "file", DOWNLOAD, base, b, Expect(phase=["file"], causes=causes))


def register(bench):
    for name, base, make, damage, causes in FAULTS:
        identifier = f"file-{name}"
        path = models.folder(base)
        if path is None or not bench.wants(identifier):
            continue
        b = bench.place(identifier, "b.gguf" if name.startswith("gguf") else "b")
        make(b)
        damage(b)
        bench.add(identifier, "file", SOURCE if "missing" in name or "index" in name else DOWNLOAD, path, b,
                  Expect(phase=["file", "weights"] if "missing_tensor" in causes else ["file"], causes=causes))
    try:
        apr_pairs(bench)
    except (subprocess.CalledProcessError, OSError) as error:
        bench.problems.append(f"file-apr: {error}")


