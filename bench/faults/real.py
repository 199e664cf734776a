#!/usr/bin/env python3
"""The fault bench on two real models, SmolLM2 135M (Q4_1) and Gemma 3 270M (Q4_K_M), which scripts/fetch-model gets.

    real.py OUT [--program build/release/apr] [--only TEXT] [--models smollm2,gemma3-270m] [--report FILE.json]

OUT takes an f32 folder of each model (0.5 and 1.1 GB, made by `apr export` once), a working copy in which the faults are
planted one after the other and taken back, and captures of PyTorch and, where llama-cpp-python is installed, of llama.cpp.
Skips a model that is not there. Exit code 5 when an answer was wrong."""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

import gguf
import numpy

import models
import score
from case import Expect

FILES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3-270m": "gemma-3-270m-q4_k_m.gguf"}
TEXT = "The capital of France is Paris. The three largest rivers of Europe are"
TOOLS = models.ROOT / "tools"


# --- Working copies: bytes changed in place, and put back ---


@contextlib.contextmanager
def patched(array, values):
    """A memory-mapped array holds `values` inside."""
    before = array.copy()
    array[...] = values
    try:
        yield
    finally:
        array[...] = before


class GgufCopy:
    def __init__(self, path):
        self.path = path
        self.reader = gguf.GGUFReader(path, "r+")
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}

    def number(self, key, value):
        field = self.reader.fields[key]
        return patched(field.parts[field.data[0]], value)

    def text(self, key, old, new):
        """Replaces text by other text of the same length."""
        field = self.reader.fields[key]
        part = field.parts[field.data[0]]
        changed = bytes(part).replace(old.encode(), new.encode())
        if len(changed) != len(part) or changed == bytes(part):
            raise ValueError(f"{key}: {old!r} cannot become {new!r}")
        return patched(part, numpy.frombuffer(changed, numpy.uint8))

    def rows(self, name):
        """The encoded rows of a tensor: [rows, bytes], or values of an f32 vector."""
        return self.tensors[name].data

    def blocks(self, name):
        """[blocks, bytes of one]."""
        tensor = self.tensors[name]
        return tensor.data.reshape(-1, gguf.GGML_QUANT_SIZES[tensor.tensor_type][1])

    def order(self, name, order):
        return patched(self.rows(name), self.rows(name)[order])

    def swap(self, pairs):
        stack = contextlib.ExitStack()
        for one, other in pairs:
            a, b = self.rows(one).copy(), self.rows(other).copy()
            stack.enter_context(patched(self.rows(one), b))
            stack.enter_context(patched(self.rows(other), a))
        return stack

    def scale(self, name, factor, places=slice(None), fields=(0,)):
        """Multiplies the f16 fields of blocks at those byte offsets."""
        changed = self.blocks(name).copy()
        for at in fields:
            values = changed[places, at : at + 2].copy().view(numpy.float16)
            changed[places, at : at + 2] = (values * numpy.float16(factor)).view(numpy.uint8)
        return patched(self.blocks(name), changed)


class FolderCopy:
    """config.json and the tensors of an f32 folder."""

    def __init__(self, path):
        self.path = path
        file = path / "model.safetensors"
        with open(file, "rb") as stream:
            size = struct.unpack("<Q", stream.read(8))[0]
            self.header = json.loads(stream.read(size))
        self.data = numpy.memmap(file, numpy.uint8, "r+", offset=8 + size)
        self.config = json.loads((path / "config.json").read_text())

    def tensor(self, name):
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        return self.data[begin:end].view(numpy.float32).reshape(entry["shape"])

    def edit(self, name, function):
        return patched(self.tensor(name), function(self.tensor(name).copy()))

    def swap(self, pairs):
        stack = contextlib.ExitStack()
        for one, other in pairs:
            a, b = self.tensor(one).copy(), self.tensor(other).copy()
            stack.enter_context(patched(self.tensor(one), b))
            stack.enter_context(patched(self.tensor(other), a))
        return stack

    @contextlib.contextmanager
    def settings(self, **values):
        before = (self.path / "config.json").read_text()
        changed = json.loads(before)
        for key, value in values.items():
            changed[key] = value
        (self.path / "config.json").write_text(json.dumps(changed, indent=2))
        try:
            yield
        finally:
            (self.path / "config.json").write_text(before)


# --- The faults ---


@dataclasses.dataclass
class Fault:
    name: str
    side: str  # which copy is changed and stands as B: "gguf" or "folder"
    plant: object
    expect: Expect
    args: tuple = ()


def config(causes, stage, key=(), layer=(0,)):
    return Expect(phase=["config"], causes=list(causes), stage=list(stage), layer=list(layer), key=list(key))


def weights(causes, tensor, stage, layer):
    return Expect(phase=["weights"], causes=list(causes), tensor=list(tensor), stage=list(stage), layer=[layer])


def name(layer, rest):
    return f"model.layers.{layer}.{rest}.weight"


def halves_again(rows, heads):
    """The order that undoes GGUF's permutation of q and k."""
    return numpy.argsort(models.swap_pairs_to_halves(heads, rows))


def other_heads(rows, right, wrong):
    return halves_again(rows, right)[models.swap_pairs_to_halves(wrong, rows)]


def smollm2_faults():
    down, up, gate = "mlp.down_proj", "mlp.up_proj", "mlp.gate_proj"
    return [
        Fault("theta", "gguf", lambda g: g.number("llama.rope.freq_base", 10000.0), config(["rope_theta"], ["q_post_rope"], ["rope_theta"])),
        Fault("eps", "gguf", lambda g: g.number("llama.attention.layer_norm_rms_epsilon", 1e-3), config(["norm_eps"], ["attn_norm"], ["rms_norm_eps"])),
        Fault("k-heads", "gguf", lambda g: g.order("blk.0.attn_k.weight", other_heads(192, 3, 1)), weights(["rope_permutation"], [name(0, "self_attn.k_proj")], ["qkv_matmul"], 0)),
        Fault("q-unpermuted", "gguf", lambda g: g.order("blk.7.attn_q.weight", halves_again(576, 9)), weights(["rope_permutation"], [name(7, "self_attn.q_proj")], ["qkv_matmul"], 7)),
        Fault("nan-scale", "gguf", lambda g: g.scale("blk.5.ffn_up.weight", float("nan"), slice(100, 120)), weights(["nan_block_scale"], [name(5, up)], ["ffn_up"], 5)),
        Fault("zeroed", "gguf", lambda g: patched(g.rows("blk.3.attn_v.weight"), 0), weights(["zeroed_tensor"], [name(3, "self_attn.v_proj")], ["qkv_matmul"], 3)),
        Fault("scaled", "gguf", lambda g: g.scale("blk.10.ffn_down.weight", 2, fields=(0, 2)), weights(["scaled_tensor"], [name(10, down)], ["ffn_out"], 10)),
        Fault("gate-up", "gguf", lambda g: g.swap([("blk.2.ffn_gate.weight", "blk.2.ffn_up.weight")]), weights(["swapped_tensors"], [name(2, gate), name(2, up)], ["ffn_gate"], 2)),
        Fault("layer-order", "gguf", lambda g: g.swap([(n, n.replace("blk.4.", "blk.5.")) for n in g.tensors if n.startswith("blk.4.")]),
              weights(["layer_order"], ["model.layers.4"], ["attn_norm"], 4)),
        Fault("corrupt", "gguf", lambda g: g.scale("blk.12.attn_q.weight", 300, [5, 777, 4001]), weights(["corrupt_values"], [name(12, "self_attn.q_proj")], ["qkv_matmul"], 12)),
        Fault("final-norm", "gguf", lambda g: patched(g.rows("output_norm.weight"), g.rows("output_norm.weight") - 1),
              Expect(phase=["weights"], causes=["norm_offset"], tensor=["model.norm.weight"], stage=["final_norm"], layer=[None])),
        Fault("eos", "gguf", lambda g: g.number("tokenizer.ggml.eos_token_id", 0), Expect(phase=["tokens"], causes=["eos_id"], key=["eos_token_id"])),
        Fault("template", "gguf", lambda g: g.text("tokenizer.chat_template", "<|im_end|>", "<|im_stop|"), Expect(phase=["tokens"], causes=["chat_template"], key=["chat_template"])),
        Fault("bos", "gguf", lambda g: g.number("tokenizer.ggml.add_bos_token", 1), Expect(phase=["tokens"], causes=["bos_added"])),
        Fault("scaling", "folder", lambda f: f.settings(rope_scaling={"rope_type": "linear", "factor": 2.0}), config(["rope_scaling"], ["q_post_rope"])),
        Fault("activation", "folder", lambda f: f.settings(hidden_act="gelu"), config(["activation"], ["ffn_silu"], ["hidden_act"])),
        Fault("embedding-rows", "folder", lambda f: f.edit("model.embed_tokens.weight", lambda t: numpy.roll(t, 1, 0)),
              weights(["shifted_rows"], ["model.embed_tokens.weight"], ["embedding"], 0)),
        Fault("transposed", "folder", lambda f: f.edit(name(8, "self_attn.o_proj"), lambda t: t.T.copy()), weights(["transposed"], [name(8, "self_attn.o_proj")], ["attn_out"], 8)),
        Fault("kv-heads", "folder", lambda f: f.settings(num_key_value_heads=9), config(["kv_head_count"], ["qkv_matmul"], ["num_key_value_heads"])),
        Fault("k-v", "folder", lambda f: f.swap([(name(20, "self_attn.k_proj"), name(20, "self_attn.v_proj"))]),
              weights(["swapped_tensors"], [name(20, "self_attn.k_proj"), name(20, "self_attn.v_proj")], ["qkv_matmul"], 20)),
        Fault("theta-and-scaled", "folder", two(lambda f: f.settings(rope_theta=10000.0), lambda f: f.edit(name(15, down), lambda t: t * 3)),
              dataclasses.replace(config(["rope_theta"], ["q_post_rope"], ["rope_theta"]), also=[{"causes": ["scaled_tensor"], "layer": 15}])),
    ]  # fmt: skip


def two(*plants):
    def plant(copy):
        stack = contextlib.ExitStack()
        for one in plants:
            stack.enter_context(one(copy))
        return stack

    return plant


def gemma3_faults():
    down, up, gate = "mlp.down_proj", "mlp.up_proj", "mlp.gate_proj"
    o, k, q, v = (f"self_attn.{part}_proj" for part in "okqv")
    tokens = lambda causes, key: Expect(phase=["tokens"], causes=causes, key=key)
    layers = ["full_attention" if i in (2, 5, 11, 17) else "sliding_attention" for i in range(18)]
    return [
        Fault("theta", "gguf", lambda g: g.number("gemma3.rope.freq_base", 10000.0), config(["rope_theta"], ["q_post_rope"], ["rope_theta"], layer=[5])),
        Fault("window", "gguf", lambda g: g.number("gemma3.attention.sliding_window", 256), config(["sliding_window"], ["attn_softmax"], ["sliding_window"])),
        Fault("eps", "gguf", lambda g: g.number("gemma3.attention.layer_norm_rms_epsilon", 1e-3), config(["norm_eps"], ["attn_norm"], ["rms_norm_eps"])),
        Fault("norms", "gguf", lambda g: patched(g.rows("blk.3.attn_norm.weight"), g.rows("blk.3.attn_norm.weight") - 1),
              weights(["norm_offset"], [name(3, "input_layernorm")], ["attn_norm"], 3)),
        Fault("q-norm", "gguf", lambda g: patched(g.rows("blk.0.attn_q_norm.weight"), g.rows("blk.0.attn_q_norm.weight") + 1),
              weights(["norm_offset"], [name(0, "self_attn.q_norm")], ["q_norm"], 0)),
        Fault("post-norm", "gguf", lambda g: patched(g.rows("blk.14.post_ffw_norm.weight"), g.rows("blk.14.post_ffw_norm.weight") - 1),
              weights(["norm_offset"], [name(14, "post_feedforward_layernorm")], ["post_ffn_norm"], 14)),
        Fault("zeroed", "gguf", lambda g: patched(g.rows("blk.9.ffn_down.weight"), 0), weights(["zeroed_tensor"], [name(9, down)], ["ffn_out"], 9)),
        Fault("scaled", "gguf", lambda g: g.scale("blk.11.attn_output.weight", 0.5, fields=(0, 2)), weights(["scaled_tensor"], [name(11, o)], ["attn_out"], 11)),
        Fault("nan-scale", "gguf", lambda g: g.scale("blk.7.ffn_up.weight", float("nan"), slice(640, 660)), weights(["nan_block_scale"], [name(7, up)], ["ffn_up"], 7)),
        Fault("corrupt", "gguf", lambda g: g.scale("blk.2.attn_q.weight", 300, [5, 777, 4001]), weights(["corrupt_values"], [name(2, q)], ["qkv_matmul"], 2)),
        Fault("gate-up", "gguf", lambda g: g.swap([("blk.16.ffn_gate.weight", "blk.16.ffn_up.weight")]),
              weights(["swapped_tensors"], [name(16, gate), name(16, up)], ["ffn_gate"], 16)),
        Fault("rows", "gguf", lambda g: g.order("blk.13.ffn_gate.weight", numpy.roll(numpy.arange(2048), 1)), weights(["shifted_rows"], [name(13, gate)], ["ffn_gate"], 13)),
        Fault("eos", "gguf", lambda g: g.number("tokenizer.ggml.eos_token_id", 3), tokens(["eos_id"], ["eos_token_id"])),
        Fault("bos", "gguf", lambda g: g.number("tokenizer.ggml.add_bos_token", 0), tokens(["bos_missing"], ["bos_token_id", "add_bos_token"])),
        Fault("scale", "folder", lambda f: f.settings(query_pre_attn_scalar=128), config(["attention_scale"], ["attn_scores"], ["query_pre_attn_scalar"])),
        Fault("softcap", "folder", lambda f: f.settings(attn_logit_softcapping=50.0), config(["attention_softcap"], ["attn_scores"], ["attn_logit_softcapping"])),
        Fault("logit-softcap", "folder", lambda f: f.settings(final_logit_softcapping=30.0), config(["logit_softcap"], ["lm_head"], ["final_logit_softcapping"], layer=[None])),
        Fault("local-theta", "folder", lambda f: f.settings(rope_local_base_freq=1000000.0), config(["rope_theta"], ["q_post_rope"])),
        Fault("window-layers", "folder", lambda f: f.settings(layer_types=layers),
              config(["sliding_window", "rope_theta", "rope_layers"], ["q_post_rope", "attn_softmax"], ["layer_types"], layer=[2])),
        Fault("activation", "folder", lambda f: f.settings(hidden_activation="gelu", hidden_act="gelu"), config(["activation"], ["ffn_silu"])),
        Fault("kv-heads", "folder", lambda f: f.settings(num_key_value_heads=4), config(["kv_head_count"], ["qkv_matmul"], ["num_key_value_heads"])),
        Fault("permuted", "folder", lambda f: f.edit(name(2, k), lambda t: t[models.swap_pairs_to_halves(1, len(t))]), weights(["rope_permutation"], [name(2, k)], ["qkv_matmul"], 2)),
        Fault("transposed", "folder", lambda f: f.edit(name(8, o), lambda t: numpy.ascontiguousarray(t.T).reshape(t.shape)), weights(["transposed"], [name(8, o)], ["attn_out"], 8)),
        Fault("k-v", "folder", lambda f: f.swap([(name(12, k), name(12, v))]), weights(["swapped_tensors"], [name(12, k), name(12, v)], ["qkv_matmul"], 12)),
        Fault("layer-order", "folder", lambda f: f.swap([(n, n.replace("layers.6.", "layers.7.")) for n in f.header if "layers.6." in n]),
              weights(["layer_order"], ["model.layers.6"], ["attn_norm"], 6)),
        Fault("eps-and-scaled", "folder", two(lambda f: f.settings(rms_norm_eps=1e-3), lambda f: f.edit(name(15, down), lambda t: t * 3)),
              dataclasses.replace(config(["norm_eps"], ["attn_norm"], ["rms_norm_eps"]), also=[{"causes": ["scaled_tensor"], "layer": 15}])),
    ]  # fmt: skip


# --- Running ---


class Real:
    def __init__(self, arguments):
        self.out, self.program, self.only = arguments.out.resolve(), arguments.program, arguments.only
        self.results = []

    def wants(self, identifier):
        return self.only in identifier

    def judge(self, identifier, kind, a, b, expect, args=()):
        case = {"id": identifier, "kind": kind, "a": str(a), "b": str(b), "args": list(args), "expect": dataclasses.asdict(expect)}
        answer = score.ask(self.program, case, 600)
        located, named, problems = score.judge(case, answer)
        self.results.append({"case": case, "located": located, "named": named, "problems": problems, "schema": score.schema_problems(answer),
                             "seconds": answer.seconds, "answer": answer.report})
        print(f"{identifier:44s} {'right' if located and named else 'WRONG':6s} {answer.seconds:6.1f} s  {'; '.join(problems)[:150]}", flush=True)

    def model(self, kind, file):
        folder, copy, work = self.out / kind, self.out / f"{kind}-copy", self.out / f"{kind}.gguf"
        if not (folder / "config.json").exists():
            subprocess.run([self.program, "export", file, "--format", "safetensors", "--dtype", "f32", "--max-shard-size", "20000", "-o", folder], check=True, stdout=subprocess.DEVNULL)
        fine = Expect(verdict=["same", "rounding"])
        for identifier, a, b in ((f"{kind}-folder-gguf", folder, file), (f"{kind}-gguf-folder", file, folder)):
            if self.wants(identifier):
                self.judge(identifier, "healthy", a, b, fine)
        self.planted(kind, file, folder, copy, work)
        self.captured(kind, file, folder, fine)

    def planted(self, kind, file, folder, copy, work):
        faults = [f for f in (smollm2_faults() if kind == "smollm2" else gemma3_faults()) if self.wants(f"{kind}-{f.name}")]
        copies = {}
        if any(f.side == "gguf" for f in faults):
            shutil.copyfile(file, work)
            copies["gguf"] = GgufCopy(work)
        if any(f.side == "folder" for f in faults):
            if not copy.exists():
                shutil.copytree(folder, copy)
            copies["folder"] = FolderCopy(copy)
        for fault in faults:
            with fault.plant(copies[fault.side]):
                sides = (folder, work) if fault.side == "gguf" else (file, copy)
                self.judge(f"{kind}-{fault.name}", "weights" if "weights" in fault.expect.phase else "config", *sides, fault.expect, fault.args)
        if self.wants(f"{kind}-truncated"):
            shutil.copyfile(file, work)
            os.truncate(work, file.stat().st_size * 2 // 3)
            self.judge(f"{kind}-truncated", "file", folder, work, Expect(phase=["file"], causes=["file_truncated"]))
        work.unlink(missing_ok=True)
        shutil.rmtree(copy, ignore_errors=True)

    def captured(self, kind, file, folder, fine):
        engines = [f for f in engine_faults(kind) if self.wants(f"{kind}-torch-{f[0]}")]
        if engines or self.wants(f"{kind}-torch"):
            self.torch(kind, file, folder, fine, engines)
        identifier = f"{kind}-llama-cpp"
        if not self.wants(identifier):
            return
        stages = self.out / identifier
        shutil.rmtree(stages, ignore_errors=True)
        done = subprocess.run([sys.executable, TOOLS / "capture_llama_cpp.py", file, "--text", TEXT, "--out", stages], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{identifier:44s} skipped: {done.stderr.strip()[-150:]}")
            return
        self.judge(identifier, "healthy", file, stages, fine)

    def torch(self, kind, file, folder, fine, faults):
        import engines

        ids = json.loads(subprocess.run([self.program, "tokenize", file, TEXT, "--json"], capture_output=True, text=True, check=True).stdout)
        ids = [token["id"] if isinstance(token, dict) else token for token in ids.get("ids", ids.get("tokens"))]
        for name, dtype in (("f32", "f32"), ("bf16", "bf16")):
            if self.wants(f"{kind}-torch-{name}"):
                stages = self.out / f"{kind}-torch-{name}"
                shutil.rmtree(stages, ignore_errors=True)
                engines.write(stages, engines.run(engines.load(folder, dtype), ids, dtype), folder, config_of(folder)["model_type"], ids, dtype)
                self.judge(f"{kind}-torch-{name}", "healthy", file, stages, fine)
        for name, change, inside, expect in faults:
            stages = self.out / f"{kind}-torch-{name}"
            shutil.rmtree(stages, ignore_errors=True)
            found = engines.run(engines.load(folder, "f32", change), ids, inside=inside)
            engines.write(stages, found, folder, config_of(folder)["model_type"], ids)
            self.judge(f"{kind}-torch-{name}", "engine", folder, stages, expect)
            shutil.rmtree(stages)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def engine_faults(kind):
    """(name, change of the configuration, patches, what must be answered)."""
    import torch

    import engines

    def ops(causes, stage, layer=0):
        return Expect(phase=["ops", "logits"], causes=list(causes), stage=list(stage), layer=[layer])

    def setting(**values):
        return lambda config: [setattr(config, key, value) for key, value in values.items()]

    common = [
        ("eps", setting(rms_norm_eps=1e-3), (), ops(["norm_eps"], ["attn_norm"])),
        ("norm-offset", None, (engines.shifted_norms("model.norm", 1),), ops(["norm_offset"], ["final_norm"], None)),
        ("no-mask", None, (engines.with_mask(engines.no_mask),), ops(["causal_mask"], ["attn_softmax"])),
    ]
    if kind == "smollm2":
        return [*common,
                ("theta", lambda c: c.rope_parameters.update(rope_theta=10000.0), (), ops(["rope_theta"], ["q_post_rope"])),
                ("style", None, (engines.function("apply_rotary_pos_emb", engines.adjacent),), ops(["rope_style"], ["q_post_rope"])),
                ("kv-mapping", None, (engines.function("repeat_kv", engines.tiled_heads),), ops(["kv_head_mapping"], ["attn_scores"])),
                ("bf16-angles", None, (engines.narrow_angles(torch.bfloat16),), ops(["reduced_precision"], ["q_post_rope"]))]
    return [*common,
            ("theta", lambda c: c.rope_parameters["sliding_attention"].update(rope_theta=500000.0), (), ops(["rope_theta"], ["q_post_rope"])),
            ("softcap", None, (engines.attention(lambda f: lambda *a, **k: f(*a, **(k | {"softcap": 5.0}))),), ops(["attention_softcap"], ["attn_scores"])),
            ("logit-softcap", setting(final_logit_softcapping=30.0), (), ops(["logit_softcap"], ["lm_head"], None)),
            ("window", setting(sliding_window=6), (), ops(["sliding_window"], ["attn_softmax"])),
            ("scale", setting(query_pre_attn_scalar=200), (), ops(["attention_scale"], ["attn_scores"])),
            ("activation", setting(hidden_activation="gelu"), (), ops(["activation"], ["ffn_silu"]))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--program", default=str(models.ROOT / "build" / "release" / "apr"))
    parser.add_argument("--only", default="")
    parser.add_argument("--models", default=",".join(FILES))
    parser.add_argument("--report", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "apr" / "models"
    home = pathlib.Path(os.environ.get("APR_REAL_MODELS") or cache)
    real = Real(arguments)
    for kind in arguments.models.split(","):
        if (home / FILES[kind]).exists():
            real.model(kind, home / FILES[kind])
        else:
            print(f"{FILES[kind]} is not in {home}; scripts/fetch-model {kind} gets it", file=sys.stderr)
    if not real.results:
        sys.exit("nothing was run")
    figures, failed = score.summarise(real.results, 1000)
    if arguments.report:
        arguments.report.write_text(json.dumps({"figures": figures, "results": real.results}, indent=1) + "\n")
    sys.exit(5 if failed else 0)


if __name__ == "__main__":
    main()
