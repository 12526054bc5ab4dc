#!/usr/bin/env python3
"""Every tiny model against the logits, routes and MTP logits that a correct engine gives.

F32 files: largest difference below the stated goal with an F32 cache, below 3 times the stated error with
an F16 cache. Quantised files: KL divergence at most 2 times (mean) and 3 times (maximum) what 8-bit
activations cost. Routes equal. The same bits in batches of 1, 7 and 64. Architectures that `inspect` calls
unsupported: exit code 1 and a message that names what is supported.
"""
import glob
import json
import os
import sys

import potluck
from potluck import run, tiny

MUST_SUPPORT = ["llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "olmoe", "glm4moe"]


def evaluate(tally, name, facts, kv, batch=64, outputs=True):
    """Runs eval; the result, or None when it failed (and was counted)."""
    folder = potluck.scratch()
    args = ["eval", tiny(name), "--tokens", potluck.write_ids("ids.json", facts["tokens"]), "--kv", kv,
            "--batch", batch, "--threads", 2, "--json"]
    if outputs:
        args += ["--logits", os.path.join(folder, "logits.npy")]
        if "routes_file" in facts:
            args += ["--routes", os.path.join(folder, "routes.npy")]
        if "mtp_logits_file" in facts:
            args += ["--mtp-logits", os.path.join(folder, "mtp.npy")]
    result = run(*args)
    if not tally.check(result.code == 0 and not result.broke, f"{name}: eval runs ({result.broke})", result):
        return None
    return result.json()


def load(tally, name, facts, key, mine):
    """(expected, ours) as flat arrays of equal shape, or None."""
    shape, expected = potluck.read_npy(os.path.join(os.path.dirname(tiny(name)), facts[key]))
    my_shape, values = potluck.read_npy(os.path.join(potluck.scratch(), mine))
    if not tally.check(shape == my_shape, f"{name}: {mine} has the shape {shape}, not {my_shape}"):
        return None
    return expected, values


def compare_logits(tally, name, facts, kv, kind):
    """Compares the logits (kind '') or the MTP block's ('mtp_'); a text for the table."""
    pair = load(tally, name, facts, kind + "logits_file", "mtp.npy" if kind else "logits.npy")
    if pair is None:
        return "-"
    what = "MTP logits" if kind else "logits"
    if "max_abs_diff_goal" in facts:
        limit = facts["max_abs_diff_goal"]
        if kv == "f16":
            limit = 3 * facts["expected_error_f16_kv_cache"][kind + "max_abs_diff"]
        diff = potluck.max_abs_diff(*pair)
        tally.check(diff < limit, f"{name}, {kv} cache: {what} differ by {diff:.2g}, the bound is {limit:.2g}")
        return f"{diff:.1e} / {limit:.1e}"
    stated = facts["expected_error_int8_activations"]
    mean, worst = potluck.kl_rows(*pair, facts["vocab"])
    tally.check(mean <= 2 * stated[kind + "kl_mean"],
                f"{name}, {kv} cache: mean KL of the {what} is {mean:.2g}, stated {stated[kind + 'kl_mean']:.2g}")
    tally.check(worst <= 3 * stated[kind + "kl_max"],
                f"{name}, {kv} cache: largest KL of the {what} is {worst:.2g}, stated {stated[kind + 'kl_max']:.2g}")
    return f"{mean / stated[kind + 'kl_mean']:.2f}x {worst / stated[kind + 'kl_max']:.2f}x"


def check_model(tally, name, facts):
    """All comparisons of one model; its row for the table."""
    row = [name]
    for kv in ("f32", "f16"):
        result = evaluate(tally, name, facts, kv)
        if result is None:
            return row + ["failed"] * (6 - len(row))
        row.append(compare_logits(tally, name, facts, kv, ""))
        if kv == "f16":
            continue
        row.append(compare_logits(tally, name, facts, kv, "mtp_") if "mtp_logits_file" in facts else "")
        if "routes_file" in facts:
            pair = load(tally, name, facts, "routes_file", "routes.npy")
            same = pair is not None and pair[0] == pair[1]
            tally.check(same, f"{name}: the routes are equal")
            row.append("equal" if same else "differ")
        else:
            row.append("")
        shas = {64: result["logits_sha256"]}
        for batch in (1, 7):
            again = evaluate(tally, name, facts, kv, batch, outputs=False)
            shas[batch] = again and again["logits_sha256"]
        same = len(set(shas.values())) == 1
        tally.check(same, f"{name}: batches of 1, 7 and 64 give the same bits: {shas}")
        batches = "same bits" if same else "differ"
    return row + [batches]


def check_unsupported(tally, name, facts):
    """An architecture we lack must be refused by name, saying what there is."""
    ids = potluck.write_ids("ids.json", facts["tokens"])
    result = run("eval", tiny(name), "--tokens", ids, seconds=10)
    tally.check(result.code == 1 and not result.broke, f"{name} ({facts['arch']}): refused with exit code 1", result)
    named = facts["arch"] in result.err and all(arch in result.err for arch in MUST_SUPPORT)
    tally.check(named, f"{name}: the message names {facts['arch']} and every supported architecture", result)


def main():
    potluck.shared_or_skip("models", "tiny")
    tally = potluck.Tally("golden_tiny")
    exact, quantised, refused = [], [], []
    for path in sorted(glob.glob(tiny("*", ".json"))):
        name = os.path.basename(path)[:-5]
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        with open(path) as f:
            facts = json.load(f)
        about = run("inspect", tiny(name), "--json", seconds=10)
        if not tally.check(about.code == 0, f"{name}: inspect works", about):
            continue
        if not about.json()["supported"] and facts["arch"] not in MUST_SUPPORT:
            tally.check(facts["arch"] in about.json()["reason"], f"{name}: inspect says why it is not supported", about)
            check_unsupported(tally, name, facts)
            refused.append(name)
        else:
            (exact if "max_abs_diff_goal" in facts else quantised).append(check_model(tally, name, facts))

    columns = ["F32 cache", "MTP", "routes", "batches", "F16 cache"]
    order = (0, 1, 2, 3, 5, 4)
    if exact:
        print("\nF32 files: largest difference / bound")
        potluck.table(["model"] + columns, [[row[i] for i in order] for row in exact])
    if quantised:
        print("\nquantised files: mean and largest KL, in multiples of the stated ones (bounds: 2x, 3x)")
        potluck.table(["model"] + columns, [[row[i] for i in order] for row in quantised])
    print(f"\nrefused, as they should be: {', '.join(refused)}")
    tally.end()


if __name__ == "__main__":
    main()
