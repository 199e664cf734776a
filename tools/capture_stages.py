#!/usr/bin/env python3
"""Captures every stage of a transformers model on one sequence, as a stage directory for `apr bisect` and `apr diff`.

    capture_stages.py MODEL_DIR --ids 1,2,3 | --ids-file F | --text T  --out DIR
                      [--dtype f32|f64|bf16|f16] [--device cpu|cuda] [--attention eager|sdpa|...] [--executor-name NAME]
                      [--force]

f64 is true float64: the casts to float32 inside transformers are replaced, see oracle/true_float64.py. With another
attention than eager, the scores and weights inside it cannot be seen; all other stages are written. An architecture
needs a row in the table of oracle/stages.py. The model runs once, whole prompt at a time, batch 1, without a cache.

Then `apr bisect MODEL_DIR DIR` says whether PyTorch and apr agree on the model, and `apr bisect MODEL.gguf DIR` whether
its conversion does.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "oracle"))

import torch
import transformers

import stages
import true_float64
from aprt import EXIT_USAGE, parse_ids, prepare

LONG_NAMES = {"f64": "float64", "f32": "float32", "bf16": "bfloat16", "f16": "float16"}
# 16-bit products are summed in float32, on the CPU and in cuBLAS.
ACCUMULATE = {"f64": "f64", "f32": "f32", "bf16": "f32", "f16": "f32"}


def read_ids(arguments):
    if arguments.ids is not None:
        return parse_ids(arguments.ids)
    if arguments.ids_file is not None:
        return parse_ids(arguments.ids_file.read_text())
    ids = transformers.AutoTokenizer.from_pretrained(arguments.model)(arguments.text)["input_ids"]
    if not ids:
        raise ValueError("the text has no tokens")
    return ids


def capture(arguments):
    ids = read_ids(arguments)
    if arguments.dtype == "f64" and arguments.attention != "eager":
        raise ValueError("true float64 is computed with eager attention only")
    model = true_float64.load(arguments.model, arguments.dtype, arguments.attention).to(arguments.device)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if max(ids) >= vocabulary:
        raise ValueError(f"id {max(ids)} is outside the vocabulary of {vocabulary}")
    prepare(arguments.out, arguments.force)
    _, found = stages.run(model, ids, true_float64.precision_context(arguments.dtype))
    stages.write_directory(
        arguments.out,
        found,
        engine=f"transformers {transformers.__version__}",
        model=str(arguments.model),
        architecture=model.config.model_type,
        precision={"weights": arguments.dtype, "activations": arguments.dtype,
                   "accumulate": ACCUMULATE[arguments.dtype]},
        ids=ids,
        extra={"executor": arguments.executor_name or f"{LONG_NAMES[arguments.dtype]} {arguments.device}",
               "torch": torch.__version__, "attention": arguments.attention},
    )
    size = sum(value.numel() for value in found.values()) * 4
    print(f"{arguments.out}: {len(found)} stages of {len(ids)} tokens, {size:,} bytes, {arguments.dtype} on "
          f"{arguments.device}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL_DIR", help="as transformers saves it")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--ids", help="token ids, separated by commas")
    prompt.add_argument("--ids-file", type=pathlib.Path, help="token ids, separated by commas or white space")
    prompt.add_argument("--text", help="tokenised with the model's tokenizer, its special tokens added")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--dtype", choices=sorted(LONG_NAMES), default="f32", help="default f32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    parser.add_argument("--attention", default="eager", help='as transformers names it: eager (default), sdpa, flash_attention_2')
    parser.add_argument("--executor-name", help='"executor" in the manifest; default: precision and device')
    parser.add_argument("--force", action="store_true", help="replace the stages that DIR holds")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        capture(arguments)
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"capture_stages.py: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
