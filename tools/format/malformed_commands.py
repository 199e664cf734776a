#!/usr/bin/env python3
"""Every malformed file through every command that takes a model.

    malformed_commands.py --apr build/release/apr [--malformed ../shared/oracle/malformed] [--only TEXT] [--command NAME]

The manifest says what an opened file is: refused (exit 4 with file and place in the JSON), or no fault of the container: then
any code of the table but 1 will do. In no case a signal, more than a second or 64 MB. Nothing may be written by a
command that was refused. Exit: 0 all so, 1 not, 77 no malformed files here.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOOD = ROOT / "testdata/model/tiny-chat"
MESSAGES = '[{"role": "user", "content": "Hello"}]'
SECONDS, KIBIBYTES = 1.0, 64 * 1024
# M: the malformed file, G: a good model, O: what may be written, T: a conversation.
COMMANDS = [line.split() for line in """
run M --ids 1,2 -n 1
chat M
logits M --ids 1,2 --out O
ppl M --ids 1,2,3
kld M G --ids 1,2,3
kld G M --ids 1,2,3
bench M --prefill 2 --decode 1 --repeat 1 --warmup 0
tokenize M text
detokenize M 1
inspect M
tensors M
tensors M --stats
tensors M --extract all --out O
validate M
validate M --strict
lint M
tree M
hex M
hex M --list
hex M --header
debug M --hex --strings
flow M
explain --kernel -f M
trace M --ids 1,2
graph M
template M --messages T
bisect M G
bisect G M
diff M G
diff G M --values
diff M M --values --html O
parity M --ids 1,2
sweep M --ids 1,2 --repeats 2 --seconds 1 --longest 8
compare-hf M --hf G
quant-report M G --ids 1,2,3
quant-report G M --ids 1,2,3
export M --format gguf -o O
export M --format safetensors -o O
convert M -o O.gguf
convert M -o O.apr
convert M -o O.d
import M -o O.apr
quantize M -s Q8_0 -o O.gguf
quantize M -s Q4_K_M --plan
merge M G -o O.d
merge G M -o O.d
stamp M --license mit -o O.apr
shard M -o O.d
unshard M -o O.gguf
""".strip().splitlines()]
# What a command may say instead of 4 of a file that no reader opens: a stage file is no model, a verdict of two sides,
# a template that a safetensors file does not hold.
VERDICTS = {"template": {2, 3, 4}, "bisect": {4, 5, 12}, "unshard": {2, 4, 5}, "stamp": {4, 5}}


def arguments(command, path, out, messages):
    table = {"M": str(path), "G": str(GOOD), "T": str(messages)}
    return [table.get(word, str(out) + word[1:] if word == "O" or word.startswith("O.") else word) for word in command]


def measure(apr, words):
    """(exit code or -signal, seconds of processor time, peak KiB, standard output, standard error)"""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen([apr, *words, "--json"], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
        # Processor time: what else runs on the machine does not count, but waiting does.
        seconds = min(time.monotonic() - start, usage.ru_utime + usage.ru_stime + 0.2)
        return process.returncode, seconds, usage.ru_maxrss, *texts


def problem_of(command, row, answer, scratch):
    code, seconds, kibibytes, out, err = answer
    if code < 0:
        return f"ended by signal {-code}"
    if code not in {0, 2, 3, 4, 5, 6, 7, 8, 9, 12}:
        return f"exit {code}: {err[-200:]}"
    if seconds >= SECONDS:
        return f"{seconds:.2f} s"
    if kibibytes >= KIBIBYTES:
        return f"{kibibytes // 1024} MB"
    if row["must"] != "refuse" or row["at"] != "open":
        return None
    if any(scratch.iterdir()):
        return f"wrote {sorted(p.name for p in scratch.iterdir())}"
    known_stage = row["format"] == "aprt"
    allowed = VERDICTS.get(command[0], {2, 4} if known_stage else {4})
    if code not in allowed:
        return f"exit {code} for a file that must be refused: {(err or out)[-200:]}"
    if code == 4 and not known_stage:
        try:
            error = json.loads(out)["error"]
        except (ValueError, KeyError, TypeError):
            return f"no error in the JSON: {out[:150]}" if command[0] not in VERDICTS else None
        if not isinstance(error.get("file"), str) or not (isinstance(error.get("offset"), int) or isinstance(error.get("tensor"), str)):
            return f"no place in {json.dumps(error)[:200]}"
    return None


def check(apr, command, path, row, messages):
    scratch = pathlib.Path(tempfile.mkdtemp())
    try:
        answer = measure(apr, arguments(command, path, scratch / "out", messages))
        return problem_of(command, row, answer, scratch), answer
    finally:
        shutil.rmtree(scratch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--apr", required=True)
    parser.add_argument("--malformed", type=pathlib.Path, default=ROOT.parent / "shared/oracle/malformed")
    parser.add_argument("--only", default="")
    parser.add_argument("--command", default="")
    args = parser.parse_args()
    if not (args.malformed / "manifest.json").exists():
        print(f"no {args.malformed}/manifest.json")
        sys.exit(77)
    manifest = json.loads((args.malformed / "manifest.json").read_text())
    runs = [(command, name, row) for command in COMMANDS if args.command in (command[0], "")
            for name, row in manifest.items() if args.only in name]
    failures, slowest, largest = 0, 0.0, 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool, tempfile.NamedTemporaryFile("w", suffix=".json") as messages:
        print(MESSAGES, file=messages, flush=True)
        answers = pool.map(lambda run: check(args.apr, run[0], args.malformed / run[1], run[2], messages.name), runs)
        for (command, name, _), (problem, answer) in zip(runs, answers, strict=True):
            slowest, largest = max(slowest, answer[1]), max(largest, answer[2])
            if problem:
                failures += 1
                if failures <= 60:
                    print(f"apr {' '.join(command)}  M={name}: {problem}", flush=True)
    print(f"{len(runs)} runs of {len(COMMANDS)} commands, {failures} failures; at most {slowest:.2f} s and {largest // 1024} MB")
    if not runs:
        sys.exit("nothing was run")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
