"""Model folders in memory: read, changed, written; the tiny models that the fault bench starts from."""

import copy
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "oracle"))

import numpy
import torch
from safetensors.torch import load_file, save_file

SHARED = ROOT.parent / "shared" / "oracle" / "model"
TESTDATA = ROOT / "testdata" / "model"
EXTRAS = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
# What stands for a model of the larger set where only the smaller one is there.
STAND_INS = {
    "cohere": "cohere-qk-norm", "gpt-neox": "gpt-neox-serial", "gpt2": "gpt2-inverse-layer", "llama-mha": "llama",
    "llama3-scaled-tied": "llama", "mistral-window": "mistral", "phi3-longrope": "phi3-partial-longrope",
    "qwen2-moe-shared": "qwen2-moe-sparse-step", "smollm3-nope": "smollm3", "stablelm": "stablelm-parallel",
    "deepseek-v2": "deepseek-v2-q-lora", "qwen3-moe": "qwen3-moe-mlp-only",
}  # fmt: skip
ROPE_INSIDE = ("rope_theta", "partial_rotary_factor")


def folder(name):
    """Where the tiny model of that name lies, or None."""
    for path in (SHARED / name, TESTDATA / name, TESTDATA / STAND_INS.get(name, name)):
        if (path / "config.json").exists():
            return path
    return None


def activation_key(config):
    """The key that transformers reads: Gemma has both, and only its successors read the other one."""
    names = ("hidden_act",) if config.get("model_type") == "gemma" else ("hidden_activation", "hidden_act", "activation_function")
    return next((k for k in names if config.get(k)), None)


class Model:
    """config.json, tensors and the other files of a model folder."""

    def __init__(self, config, tensors, extras=None):
        self.config, self.tensors, self.extras = config, tensors, extras or {}

    @classmethod
    def load(cls, path):
        path = pathlib.Path(path)
        tensors = {}
        for file in sorted(path.glob("model*.safetensors")):
            tensors |= load_file(file)
        extras = {name: (path / name).read_text() for name in EXTRAS if (path / name).exists()}
        return cls(json.loads((path / "config.json").read_text()), dict(sorted(tensors.items())), extras)

    def copy(self):
        return Model(copy.deepcopy(self.config), {k: v.clone() for k, v in self.tensors.items()}, dict(self.extras))

    def save(self, out, shards=1):
        out = pathlib.Path(out)
        out.mkdir(parents=True)
        (out / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        for name, text in self.extras.items():
            (out / name).write_text(text)
        names = list(self.tensors)
        if shards == 1:
            save_file({n: self.tensors[n].contiguous() for n in names}, out / "model.safetensors", {"format": "pt"})
            return out
        where = {}
        for number in range(shards):
            file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
            part = {n: self.tensors[n].contiguous() for n in names[number::shards]}
            save_file(part, out / file, {"format": "pt"})
            where |= dict.fromkeys(part, file)
        size = sum(t.numel() * t.element_size() for t in self.tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
        return out

    def to(self, dtype):
        self.tensors = {k: v.to(dtype) for k, v in self.tensors.items()}
        for key in ("dtype", "torch_dtype"):
            if key in self.config:
                self.config[key] = str(dtype).removeprefix("torch.")
        return self

    def f32(self, name):
        return self.tensors[name].float().numpy()

    def edit(self, name, function):
        """Applies `function` to the f32 values of a tensor; the stored type stays."""
        old = self.tensors[name]
        self.tensors[name] = function(old.float().clone()).to(old.dtype)

    # --- What the configuration says, in either style ---

    @property
    def layers(self):
        return self.config.get("num_hidden_layers") or self.config["n_layer"]

    @property
    def heads(self):
        return self.config.get("num_attention_heads") or self.config["n_head"]

    @property
    def kv_heads(self):
        return self.config.get("num_key_value_heads") or self.heads

    @property
    def hidden(self):
        return self.config.get("hidden_size") or self.config["n_embd"]

    @property
    def head_dim(self):
        return self.config.get("head_dim") or self.hidden // self.heads

    @property
    def vocabulary(self):
        return self.config["vocab_size"]

    def rope(self, key=None, default=None):
        """A rope parameter; without `key` all of them, the kind as "rope_type"."""
        new = self.config.get("rope_parameters")
        if new is not None:
            found = dict(new)
        else:
            found = dict(self.config.get("rope_scaling") or {})
            for name in ("rope_theta",):
                if self.config.get(name) is not None:
                    found[name] = self.config[name]
        if "type" in found:
            found.setdefault("rope_type", found.pop("type"))
        found.setdefault("rope_type", "default")
        return found if key is None else found.get(key, self.config.get(key, default))

    def set_rope(self, **values):
        """Changes rope parameters where this file keeps them; None removes one, rope_type None the whole scaling."""
        config = self.config
        if "rope_parameters" in config:
            rope = config["rope_parameters"]
            if values.get("rope_type", "") is None:
                config["rope_parameters"] = {k: v for k, v in rope.items() if k in ROPE_INSIDE} | {"rope_type": "default"}
                return
        else:
            for name in ROPE_INSIDE:
                if name in values:
                    config[name] = values.pop(name)
            if values.get("rope_type", "") is None:
                config["rope_scaling"] = None
                return
            rope = config["rope_scaling"] = config.get("rope_scaling") or ({} if values else None)
        for name, value in values.items():
            if value is None:
                rope.pop(name, None)
            else:
                rope[name] = value


def restyle(config):
    """The other spelling of the rope settings: transformers 4's keys for version 5's, or the reverse."""
    config = copy.deepcopy(config)
    if "rope_parameters" in config:
        rope = config.pop("rope_parameters")
        if "full_attention" in rope:
            config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
            rope = rope["full_attention"]
        rope = dict(rope)
        for name in ROPE_INSIDE:
            if name in rope:
                config[name] = rope.pop(name)
        config["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    elif "rope_theta" in config:
        rope = dict(config.pop("rope_scaling", None) or {"rope_type": "default"})
        rope.setdefault("rope_type", rope.pop("type", "default"))
        rope["rope_theta"] = config.pop("rope_theta")
        if "partial_rotary_factor" in config:
            rope["partial_rotary_factor"] = config.pop("partial_rotary_factor")
        local = config.pop("rope_local_base_freq", None)
        if local is not None:
            rope = {"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": local}}
        config["rope_parameters"] = rope
    if "torch_dtype" in config:
        config["dtype"] = config.pop("torch_dtype")
    elif "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    return config


def swap_pairs_to_halves(heads, rows):
    """Order in which GGUF's llama family stores the rows of q or k: element i and i + D/2 of a head side by side
    (ggml-org/llama.cpp convert_hf_to_gguf.py, LlamaModel.permute)."""
    return numpy.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)


def spm_chat_model(seed=9101):
    """A tiny llama with the sentencepiece-style tokenizer of testdata: BOS added, a space in front."""
    import make_model_oracle
    import transformers

    config = transformers.AutoConfig.for_model(
        "llama", vocab_size=400, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False, rms_norm_eps=1e-5,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    make_model_oracle.fill(model, seed, 0.15)
    source = ROOT / "testdata" / "tokenizer" / "spm-bpe"
    extras = {name: (source / name).read_text() for name in EXTRAS if (source / name).exists()}
    settings = config.to_diff_dict() | {"architectures": ["LlamaForCausalLM"]}
    settings = {k: v for k, v in json.loads(config.to_json_string(use_diff=False)).items() if v is not None} | settings
    settings["architectures"] = ["LlamaForCausalLM"]
    return Model(json.loads(json.dumps(settings, default=str)), dict(sorted(model.state_dict().items())), extras)
