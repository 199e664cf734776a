#!/usr/bin/env python3
"""Compares the greedy answers of `apr run` with transformers' generate, prompt by prompt.

    greedy.py --apr build/release/apr MODEL_FOLDER [--tokens N] [--precision exact] [--prompts FILE.json]
    greedy.py --apr build/release/apr MODEL_FOLDER --slide CONTEXT KEEP    past a full context

MODEL_FOLDER is one that transformers loads (make it with `apr export`). A prompt is a message where the model has a
chat template, else the beginning of a text. Token ids must be equal up to the end of the answer. Where they part,
the gap between the two best logits of transformers there is printed: rounding can decide a near tie. Exits 1 if an
answer differs at a gap of more than --tie, 2 if nothing was compared. With --slide transformers computes each token from
what `apr run --on-full slide` holds then: the first KEEP tokens and, each time CONTEXT is full, the newer half of the others.
"""
import argparse
import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["What is 2+2?", "Name three colours.", "Write a haiku about the sea.", "Who wrote Hamlet?", "Explain gravity to a child.",
           "Translate 'good morning' into French.", "List the planets.", "What is the boiling point of water?",
           "Give me a recipe for pancakes.", "def add(a, b):"]


def slid(model, ids, count, context, keep):
    """The most probable tokens, and how far the second was behind."""
    held, out = list(ids), []
    for _ in range(count):
        with torch.no_grad():
            top = torch.topk(model(torch.tensor([held])).logits[0, -1], 2)
        out.append((int(top.indices[0]), float(top.values[0] - top.values[1])))
        if len(held) >= context:
            behind = held[keep:]
            held = held[:keep] + behind[(len(behind) + 1) // 2:]
        held.append(out[-1][0])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--apr", required=True)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--precision", default="exact")
    parser.add_argument("--tie", type=float, default=1e-3)
    parser.add_argument("--prompts")
    parser.add_argument("--slide", nargs=2, type=int, metavar=("CONTEXT", "KEEP"))
    args = parser.parse_args()
    prompts = json.load(open(args.prompts, encoding="utf-8")) if args.prompts else PROMPTS
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    equal, bad = 0, 0
    for prompt in prompts:
        command = [args.apr, "run", args.model, "-p", prompt, "-n", str(args.tokens), "--precision", args.precision, "--json"]
        if args.slide:
            command += ["--context", str(args.slide[0]), "--on-full", "slide", "--keep", str(args.slide[1]), "--ignore-eos"]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ids = torch.tensor([ours["prompt_ids"]])
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
            theirs_ids = tokenizer(text, add_special_tokens=False).input_ids
        else:
            theirs_ids = tokenizer(prompt).input_ids
        if theirs_ids != ours["prompt_ids"]:
            print(f"{prompt!r}: the prompts' ids differ")
            bad += 1
            continue
        if args.slide:
            said = slid(model, ours["prompt_ids"], args.tokens, *args.slide)
            wrong = [gap for (token, gap), our in zip(said, ours["tokens"], strict=True) if token != our][:1]
            equal, bad = equal + (not wrong), bad + sum(gap > args.tie for gap in wrong)
            if wrong:
                print(f"{prompt!r}: differs where the two best logits are {wrong[0]:.2g} apart")
            continue
        with torch.no_grad():
            made = model.generate(ids, max_new_tokens=args.tokens, do_sample=False, attention_mask=torch.ones_like(ids))[0, ids.size(1):].tolist()
        if made == ours["tokens"]:
            equal += 1
            continue
        at = next((i for i, (x, y) in enumerate(zip(made, ours["tokens"])) if x != y), min(len(made), len(ours["tokens"])))
        with torch.no_grad():
            logits = model(torch.tensor([ours["prompt_ids"] + made[:at]])).logits[0, -1]
        top = torch.topk(logits, 2).values
        gap = float(top[0] - top[1])
        print(f"{prompt!r}: differs at token {at}, where the two best logits are {gap:.2g} apart")
        bad += gap > args.tie
    print(json.dumps({"prompts": len(prompts), "equal": equal, "different": bad}))
    return 1 if bad else 0 if equal else 2


if __name__ == "__main__":
    sys.exit(main())
