#!/usr/bin/env python3
"""Runs `apr bisect --json` on the pairs that generate.py wrote, and scores the answers.

    score.py OUT [--split dev|held|all] [--program build/release/apr] [--only TEXT] [--kinds file,config,...]
                 [--limit-s 60] [--report FILE.json] [--failures N]

located: verdict, phase and every named place (layer, stage, tensor, key) are right; named: the cause is one of those that
describe the fault, and each further fault planted stands in "also". Every answer is checked against the schema. Exit code 5 when
something failed."""

import argparse
import collections
import dataclasses
import json
import math
import pathlib
import subprocess
import sys
import time

VERDICTS = {"same": 0, "rounding": 0, "different": 5, "inconclusive": 12}
PHASES = ("file", "config", "tokens", "weights", "ops", "logits")
NUMBER, TEXT, WHOLE, LIST, TABLE, ANY = "number", "text", "whole", "list", "object", "any"
FIRST = {"phase": TEXT, "layer": WHOLE, "stage": TEXT, "tensor": TEXT, "key": TEXT, "position": WHOLE, "coordinate": LIST, "a": NUMBER, "b": NUMBER,
         "error": NUMBER, "floor": NUMBER}
CAUSE = {"name": TEXT, "a": ANY, "b": ANY, "evidence": TEXT, "error_before": NUMBER, "error_after": NUMBER, "fix": TEXT}
COVERAGE = {"tensors": TABLE, "config_keys": TABLE, "stages": TABLE, "positions": WHOLE}
CAUSES = set(
    "file_truncated file_corrupt rope_theta rope_scaling rope_style rope_dim rope_layers norm_eps activation attention_scale attention_softcap "
    "logit_softcap sliding_window embedding_scale residual_scale logit_scale moe_top_k moe_norm_topk tie_word_embeddings head_count kv_head_count "
    "head_dim parallel_residual bos_missing bos_added double_bos eos_id vocabulary merges pretokenizer special_tokens space_prefix chat_template "
    "missing_tensor extra_tensor missing_bias wrong_shape transposed rope_permutation norm_offset fused_layout swapped_tensors layer_order shifted_rows "
    "scaled_tensor corrupt_values nan_values nan_block_scale zeroed_tensor overflow coarse_quantization missing_norm kv_head_mapping causal_mask "
    "position_offset moe_router_order moe_router_weights reduced_precision stale_cache".split())


@dataclasses.dataclass
class Answer:
    exit_code: int | None = None
    seconds: float = 0
    report: dict | None = None
    error: str = ""


def ask(program, case, limit):
    start = time.monotonic()
    answer = Answer()
    try:
        done = subprocess.run([program, "bisect", case["a"], case["b"], "--json", *case["args"]], capture_output=True, timeout=limit)
        answer.exit_code = done.returncode
        answer.error = done.stderr.decode(errors="replace").strip()[-300:]
        answer.report = json.loads(done.stdout, parse_constant=lambda name: f"bare {name}")
    except subprocess.TimeoutExpired:
        answer.error = f"no answer after {limit} s"
    except json.JSONDecodeError:
        answer.error = answer.error or "no JSON"
    answer.seconds = time.monotonic() - start
    return answer


# --- The schema ---


def _fits(value, kind):
    if kind == ANY or value is None:
        return not (isinstance(value, float) and not math.isfinite(value))
    if kind == NUMBER:
        return value in ("nan", "inf", "-inf") or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))
    if kind == WHOLE:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {TEXT: str, LIST: list, TABLE: dict}[kind])


def _fields(where, value, fields):
    if not isinstance(value, dict):
        return [f"{where} is no object"]
    return [f"{where}.{name}: {'absent' if name not in value else repr(value[name])[:40]}" for name, kind in fields.items()
            if name not in value or not _fits(value[name], kind)]


def schema_problems(answer):
    r = answer.report
    if r is None:
        return [f"no answer (exit {answer.exit_code}): {answer.error}"]
    out = _fields("answer", r, {"schema": TEXT, "a": TABLE, "b": TABLE, "verdict": TEXT, "first": TABLE, "cause": TABLE, "causes": LIST, "also": LIST,
                                "coverage": TABLE, "seconds": NUMBER})
    if out:
        return out
    if r["schema"] != "apr-bisect-v1":
        out.append(f"schema {r['schema']}")
    if VERDICTS.get(r["verdict"]) != answer.exit_code:
        out.append(f"verdict {r['verdict']}, exit code {answer.exit_code}")
    if (r["verdict"] == "different") != (r["first"] is not None):
        out.append(f"verdict {r['verdict']} with first {'null' if r['first'] is None else 'set'}")
    if r["first"] is None and r["cause"] is not None:
        out.append("a cause without a place")
    places = [("first", r["first"])] + [(f"also[{i}].first", x.get("first")) for i, x in enumerate(r["also"])]
    for where, place in places:
        if place is not None:
            out += _fields(where, place, FIRST)
            if place.get("phase") not in PHASES:
                out.append(f"{where}.phase {place.get('phase')}")
    for where, cause in [("cause", r["cause"])] + [(f"also[{i}].cause", x.get("cause")) for i, x in enumerate(r["also"])]:
        if cause is not None:
            out += _fields(where, cause, CAUSE)
            if cause.get("name") not in CAUSES:
                out.append(f"{where}.name {cause.get('name')} is no cause of the table")
    for i, item in enumerate(r["also"]):
        if "first" not in item or ("cause" not in item and item.get("effect") != "none"):
            out.append(f"also[{i}] has neither cause nor effect")
    for i, item in enumerate(r["causes"]):
        out += _fields(f"causes[{i}]", item, {"name": TEXT, "error_after": NUMBER})
    out += _fields("coverage", r["coverage"], COVERAGE)
    return out


# --- The score ---


def last_part(key):
    return None if key is None else key.split(".")[-1]


def tensor_matches(found, wanted):
    return any(found is not None and (found == w or found.startswith(w + ".") or (not w.endswith((".weight", ".bias")) and found.startswith(w))) for w in wanted)


def place_problems(place, expect):
    out = []
    if place is None:
        return ["nothing located"]
    for field in ("phase", "layer", "stage"):
        if expect[field] and place.get(field) not in expect[field]:
            out.append(f"{field} {place.get(field)} not in {expect[field]}")
    if expect["tensor"] and not tensor_matches(place.get("tensor"), expect["tensor"]):
        out.append(f"tensor {place.get('tensor')} not in {expect['tensor']}")
    if expect["key"] and last_part(place.get("key")) not in map(last_part, expect["key"]):
        out.append(f"key {place.get('key')} not in {expect['key']}")
    return out


def also_problems(report, wanted):
    """Further faults that are neither in also nor, where that is allowed, the first."""
    out = []
    found = list(report["also"])
    for item in wanted:
        if item.get("anywhere") and report["cause"]:
            found = [{"first": report["first"], "cause": report["cause"]}, *found]
        hits = [x for x in found if (x.get("cause") or {}).get("name") in item["causes"] or (item.get("effect") and x.get("effect") == item["effect"])]
        if "layer" in item:
            hits = [x for x in hits if x["first"].get("layer") == item["layer"]]
        if not hits:
            out.append(f"also lacks {'/'.join(item['causes'])}")
    return out


def judge(case, answer):
    """(located, named, problems)."""
    expect, r = case["expect"], answer.report
    problems = schema_problems(answer)
    if r is None or "verdict" not in r:
        return False, False, problems
    if r["verdict"] not in expect["verdict"]:
        first, cause = r.get("first") or {}, r.get("cause") or {}
        place = " ".join(f"{k}={first[k]}" for k in ("phase", "layer", "stage", "tensor", "key") if first.get(k) is not None)
        return False, False, problems + [f"verdict {r['verdict']} ({place or r.get('reason')}; cause {cause.get('name')}), expected {'/'.join(expect['verdict'])}"]
    if "different" not in expect["verdict"]:
        return True, True, problems
    if r["verdict"] != "different":
        missing = also_problems(r, expect["also"])
        return True, not missing, problems + missing
    wrong = place_problems(r["first"], expect)
    name = (r["cause"] or {}).get("name")
    misnamed = [f"cause {name}, expected {'/'.join(expect['causes'])}"] if expect["causes"] and name not in expect["causes"] else []
    misnamed += also_problems(r, expect["also"])
    findings = 1 + sum(item.get("effect") != "none" for item in r["also"])
    if 0 < expect.get("most", 0) < findings:
        misnamed.append(f"{findings} findings for one fault: " + ", ".join(sorted({(x.get("cause") or {}).get("name") or "null" for x in r["also"]})))
    return not wrong, not misnamed, problems + wrong + misnamed


def table(title, rows):
    print(f"\n{title:26s} pairs  located    named")
    for name, counts in sorted(rows.items()):
        n = counts["pairs"]
        print(f"{name:26s} {n:5d}  {counts['located']:3d} {100 * counts['located'] / n:3.0f}%  {counts['named']:3d} {100 * counts['named'] / n:3.0f}%")


def summarise(results, failures):
    faults = [r for r in results if r["case"]["kind"] != "healthy"]
    healthy = [r for r in results if r["case"]["kind"] == "healthy"]
    by_kind, by_cause = (collections.defaultdict(collections.Counter) for _ in range(2))
    for r in faults:
        names = r["case"]["expect"]["causes"] or ["(none asked)"]
        for rows, key in ((by_kind, r["case"]["kind"]), (by_cause, names[0])):
            rows[key].update(pairs=1, located=r["located"], named=r["named"])
    if faults:
        table("kind", by_kind)
        table("cause", by_cause)
    shown = [r for r in results if r["problems"]]
    for r in shown[:failures]:
        print(f"\n{r['case']['id']}  ({r['seconds']:.1f} s)\n  apr bisect {r['case']['a']} {r['case']['b']} {' '.join(r['case']['args'])}")
        for problem in r["problems"][:6]:
            print(f"  {problem}")
    if len(shown) > failures:
        print(f"\n... and {len(shown) - failures} more")
    count = lambda key: sum(r[key] for r in faults)
    alarms = sum(not r["located"] for r in healthy)
    broken = sum(bool(r["schema"]) for r in results)
    times = sorted(r["seconds"] for r in results)
    figures = {"faults": len(faults), "located": count("located"), "named": count("named"), "healthy": len(healthy), "false_alarms": alarms,
               "schema_problems": broken, "median_s": times[len(times) // 2], "slowest_s": times[-1]}
    part = lambda n: f"{n} of {len(faults)} ({100 * n / max(1, len(faults)):.1f} %)"
    print(f"\nlocated {part(figures['located'])}, named {part(figures['named'])}; false alarms {alarms} of {len(healthy)}; answers that break the schema {broken}; "
          f"{figures['median_s']:.2f} s a pair, slowest {figures['slowest_s']:.1f} s")
    return figures, len(shown)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--split", choices=("dev", "held", "all"), default="dev")
    parser.add_argument("--program", default=str(pathlib.Path(__file__).resolve().parents[2] / "build" / "release" / "apr"))
    parser.add_argument("--only", default="")
    parser.add_argument("--kinds", default="")
    parser.add_argument("--limit-s", type=float, default=60)
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--failures", type=int, default=1000, help="how many failing pairs are shown")
    arguments = parser.parse_args()
    pairs = [p for p in json.loads((arguments.out / "pairs.json").read_text())
             if arguments.only in p["id"] and (not arguments.kinds or p["kind"] in arguments.kinds.split(","))
             and (arguments.split == "all" or p["held"] == (arguments.split == "held"))]
    if not pairs:
        sys.exit("no pair fits")
    results = []
    for number, case in enumerate(pairs):
        if sys.stderr.isatty():
            print(f"\r{number + 1}/{len(pairs)} {case['id'][:60]:60s}", end="", file=sys.stderr)
        answer = ask(arguments.program, case, arguments.limit_s)
        located, named, problems = judge(case, answer)
        results.append({"case": case, "located": located, "named": named, "problems": problems, "schema": schema_problems(answer), "seconds": answer.seconds,
                        "answer": answer.report})
    figures, failed = summarise(results, arguments.failures)
    if arguments.report:
        arguments.report.write_text(json.dumps({"split": arguments.split, "figures": figures, "results": results}, indent=1) + "\n")
    sys.exit(5 if failed else 0)


if __name__ == "__main__":
    main()
