#!/usr/bin/env python3
"""Compares `apr ppl` with the loop of transformers' documentation page "Perplexity of fixed-length models".

    perplexity.py --apr build/release/apr MODEL_FOLDER --text FILE [--window N] [--stride N] [--precision exact]

MODEL_FOLDER is one that transformers loads (make it with `apr export`). Both tokenise and score the same text;
transformers computes in f32 on the CPU. Prints both perplexities and their relative difference as JSON; exits 1 if
it exceeds --most, 2 if nothing was compared. transformers' loss sums in f32, which moves it by up to 1e-5 (it is too
small by 8e-6 on a vocabulary of 49,152); what its logits give with the logarithms taken in f64 is printed too. --plant N drops N tokens of the text for transformers, to show that
the comparison fails.
"""
import argparse
import json
import math
import subprocess
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def page(model, ids, max_length, stride):
    """The loop of docs/source/en/perplexity.md in huggingface/transformers: (its perplexity, that of an f64 loss)."""
    seq_len = ids.size(1)
    nll_sum, f64_sum, n_tokens, prev_end = 0.0, 0.0, 0, 0
    for begin in range(0, seq_len, stride):
        end = min(begin + max_length, seq_len)
        trg_len = end - prev_end
        window = ids[:, begin:end]
        target = window.clone()
        target[:, :-trg_len] = -100
        with torch.no_grad():
            out = model(window, labels=target)
        count = int((target != -100).sum()) - target.size(0)
        nll_sum += float(out.loss.double()) * count
        f64_sum += float(torch.nn.functional.cross_entropy(out.logits[0, :-1].double(), target[0, 1:], ignore_index=-100, reduction="sum"))
        n_tokens += count
        prev_end = end
        if end == seq_len:
            break
    return math.exp(nll_sum / n_tokens), math.exp(f64_sum / n_tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--apr", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--stride", type=int, default=512)
    parser.add_argument("--precision", default="exact")
    parser.add_argument("--most", type=float, default=1e-5)
    parser.add_argument("--plant", type=int, default=0)
    args = parser.parse_args()

    command = [args.apr, "ppl", args.model, "--text", args.text, "--window", str(args.window), "--stride", str(args.stride),
               "--precision", args.precision, "--json"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    with open(args.text, encoding="utf-8", newline="") as file:
        ids = tokenizer(file.read(), return_tensors="pt", verbose=False).input_ids
    if ids.size(1) != ours["tokens"]:
        print(f"{ids.size(1)} tokens in transformers, {ours['tokens']} here", file=sys.stderr)
        return 1
    start = time.time()
    theirs, theirs_f64 = page(model, ids[:, args.plant:], args.window, args.stride)
    difference = abs(ours["ppl"] / theirs - 1)
    print(json.dumps({"apr": ours["ppl"], "transformers": theirs, "relative_difference": difference,
                      "transformers_f64_loss": theirs_f64, "relative_difference_f64_loss": abs(ours["ppl"] / theirs_f64 - 1), "tokens": ids.size(1),
                      "scored": ours["num_tokens"], "seconds_apr": ours["seconds"], "seconds_transformers": time.time() - start}))
    if ours["num_tokens"] < 1:
        return 2
    return 0 if difference <= args.most else 1


if __name__ == "__main__":
    sys.exit(main())
