#!/usr/bin/env python3
"""The same bits, whoever computes them.

    same_bits.py [--full] [--seed N]

Each run of `potluck eval` or `potluck run` gets a configuration out of {model, command, KV cache, workers,
placement, replicas, threads, batch, instruction set, transport} and must give the SHA-256 over its
logits that the plain run gives: same model, command and cache, no worker, one thread, scalar kernels.

Without --full the configurations cover every pair of values; with it, every triple, and the whole product
for one quantised model.
"""
import argparse
import hashlib
import itertools
import json
import os
import random
import sys

import potluck
from potluck import DEMO, run, tiny

MODELS = ["demo", "glm4moe", "glm4moe-q4k", "glm4moe-iq4", "glm4moe-q4q5", "glm4moe-mxfp4", "glm4moe-q8",
          "qwen3moe-q4k", "qwen3moe-mxfp4", "qwen2moe", "olmoe", "minimax-m2", "mixtral", "qwen3"]
DENSE = {"qwen3"}
NO_Q8_CACHE = {"qwen2moe", "olmoe", "minimax-m2", "mixtral", "qwen3"}  # head widths that 32 does not divide
FULL_MODEL = "glm4moe-q4k"

# "one": a plan file puts all experts on the last worker. "away": round-robin, none here. "split": a plan
# file gives each expert to two workers chosen by number, and leaves the coordinator some.
FACTORS = {
    "model": MODELS,
    "command": ["eval", "run"],
    "kv": ["f16", "f32", "q8_0"],
    "workers": [0, 1, 2, 4],
    "place": ["auto", "spread", "seed:1", "seed:2", "seed:3", "one", "away", "split"],
    "replicas": [1, 2],
    "threads": [1, 2, 3],
    "batch": [1, 7, 64],
    "isa": [],  # what this machine has, and "mixed"
    "transport": ["inproc", "ipc", "tcp"],
}
NAMES = list(FACTORS)


def valid(c):
    """Whether a configuration, complete or not, can be run and says something of its own."""
    workers, transport, place = c.get("workers"), c.get("transport"), c.get("place")
    if workers == 0:
        if transport not in (None, "-") or place in ("one", "away", "split"):
            return False
        if c.get("replicas") == 2 or c.get("isa") == "mixed":
            return False
    if transport == "-" and workers not in (None, 0):
        return False
    if place in ("one", "split") and c.get("replicas") == 2:
        return False  # the plan file decides
    if place == "split" and workers == 1:
        return False
    if c.get("model") in NO_Q8_CACHE and c.get("kv") == "q8_0":
        return False
    return not (c.get("model") in DENSE and (place in ("one", "split") or c.get("replicas") == 2))


def complete(partial, rng):
    """A valid configuration that holds the given values, or None."""
    for _ in range(60):
        c = {name: partial.get(name, None) for name in NAMES}
        for name in rng.sample(NAMES, len(NAMES)):
            if c[name] is None:
                choices = [v for v in FACTORS[name] if valid({k: x for k, x in {**c, name: v}.items() if x is not None})]
                if not choices:
                    break
                c[name] = rng.choice(choices)
        else:
            if valid(c):
                return c
    return None


def tuples_of(c, strength):
    return {tuple((n, c[n]) for n in names) for names in itertools.combinations(NAMES, strength)}


def covering(strength, rng):
    """Configurations in which every possible combination of `strength` values occurs (greedy, repeatable)."""
    open_tuples = []
    for names in itertools.combinations(NAMES, strength):
        for values in itertools.product(*(FACTORS[n] for n in names)):
            t = tuple(zip(names, values))
            if valid(dict(t)):
                open_tuples.append(t)
    rng.shuffle(open_tuples)
    left, chosen = set(open_tuples), []
    for t in open_tuples:
        if t not in left:
            continue
        candidates = [c for c in (complete(dict(t), rng) for _ in range(12)) if c]
        if not candidates:
            left.discard(t)
            continue
        best = max(candidates, key=lambda c: len(tuples_of(c, strength) & left))
        chosen.append(best)
        left -= tuples_of(best, strength)
    return chosen


def whole_product():
    """Everything for one model, with its default cache and with eval."""
    fixed = {"model": FULL_MODEL, "command": "eval", "kv": "f16"}
    free = [n for n in NAMES if n not in fixed]
    for values in itertools.product(*(FACTORS[n] for n in free)):
        c = {**fixed, **dict(zip(free, values))}
        if c["place"] not in ("seed:2", "seed:3") and valid(c):
            yield c


class Bench:
    """Knows the inputs of each model and the results of the plain runs."""

    def __init__(self, isas):
        self.isas = isas
        self.inputs = {}
        self.plain = {}

    def path(self, model):
        return DEMO if model == "demo" else tiny(model)

    def input(self, model):
        """(ids file, text file, has an MTP block, number of experts)"""
        if model not in self.inputs:
            if model == "demo":
                with open(potluck.shared_or_skip("models", "demo", "expected.json"), encoding="utf-8") as f:
                    expected = json.load(f)
                ids, text = expected["text_token_ids"][:96], expected["text"][:160]
            else:
                with open(tiny(model, ".json"), encoding="utf-8") as f:
                    facts = json.load(f)
                ids, text = facts["tokens"], facts["text"]
            text_path = os.path.join(potluck.scratch(), model + ".txt")
            with open(text_path, "w", encoding="utf-8") as f:
                f.write(text)
            about = run("inspect", self.path(model), "--json").json()
            self.inputs[model] = (potluck.write_ids(model + ".ids", ids), text_path, about["mtp_layers"] > 0,
                                  about["experts"])
        return self.inputs[model]

    def words(self, c):
        """The command line up to the workers, and where the MTP logits go."""
        ids, text, mtp, _ = self.input(c["model"])
        mtp_path = os.path.join(potluck.scratch(), "mtp.npy") if mtp and c["command"] == "eval" else None
        if c["command"] == "eval":
            words = ["--tokens", ids] + (["--mtp-logits", mtp_path] if mtp_path else [])
        else:  # drawn at random with a fixed seed, so that one differing bit has chances to show
            words = ["-f", text, "--raw", "-n", 12, "--ignore-eos", "--seed", 7, "--temp", 1.2]
        return words + ["--json", "--kv", c["kv"], "--ctx", 256, "--batch", c["batch"], "--threads", c["threads"]], mtp_path

    def result(self, c, outcome, mtp_path):
        """What must be equal: the logits' hash, the tokens, the hash of the MTP logits."""
        if outcome.code != 0 or outcome.broke:
            return None
        found = outcome.json()
        mtp = None
        if mtp_path:
            with open(mtp_path, "rb") as f:
                mtp = hashlib.sha256(f.read()).hexdigest()[:16]
            os.unlink(mtp_path)
        return found["logits_sha256"], found.get("token_ids"), mtp

    def expected(self, c):
        key = (c["model"], c["command"], c["kv"])
        if key not in self.plain:
            plain = {**c, "threads": 1, "batch": 64}
            words, mtp_path = self.words(plain)
            outcome = run(c["command"], self.path(c["model"]), *words, "--isa", "scalar", seconds=180)
            self.plain[key] = self.result(plain, outcome, mtp_path), outcome
        return self.plain[key]

    def plan_file(self, c, names):
        """--place words for the placements that need a plan."""
        n_experts = self.input(c["model"])[3]
        if c["place"] == "one":
            plan = [{"layer": "*", "expert": "*", "workers": [names[-1]]}]
        else:
            holders = ["local"] + names
            plan = [{"layer": "*", "expert": e,
                     "workers": sorted({holders[e % len(holders)], holders[(e // 2 + 1) % len(holders)]})}
                    for e in range(n_experts)]
        path = os.path.join(potluck.scratch(), "plan.json")
        with open(path, "w") as f:
            json.dump({"experts": plan}, f)
        return ["--place", "file:" + path]

    def run(self, c):
        """Runs a configuration; (what must be equal, outcome)."""
        words, mtp_path = self.words(c)
        n = c["workers"]
        by_hand = c["isa"] == "mixed" and c["transport"] in ("tcp", "ipc")
        names = [f"hand{i + 1}" if by_hand else f"w{i + 1}" for i in range(n)]
        if c["place"] in ("one", "split"):
            words += self.plan_file(c, names)
        else:
            words += ["--place", "spread" if c["place"] == "away" else c["place"]]
        if c["place"] == "away":
            words += ["--no-local-experts"]
        words += ["--replicas", c["replicas"]]

        here, there = self.isa_pair(c)
        words += ["--isa", here]
        if n == 0:
            outcome = run(c["command"], self.path(c["model"]), *words, seconds=180)
        elif by_hand:
            listen = "127.0.0.1:0" if c["transport"] == "tcp" else f"ipc://{potluck.scratch()}/hub"
            workers = [("--isa", self.isas[(i + c["batch"]) % len(self.isas)], "--threads", 1 + i % 3)
                       for i in range(n)]
            with potluck.Cluster(c["command"], self.path(c["model"]), *words, workers=workers,
                                 listen=listen) as cluster:
                outcome = cluster.finish(180)
        else:
            outcome = run(c["command"], self.path(c["model"]), *words, "--local-workers", n, "--transport",
                          c["transport"], "--local-worker-args", f"--threads {4 - c['threads']} --isa {there}",
                          seconds=180)
        return self.result(c, outcome, mtp_path), outcome

    def isa_pair(self, c):
        """The coordinator's instruction set and the local workers'."""
        if c["isa"] != "mixed":
            return c["isa"], c["isa"]
        i = (c["workers"] + c["threads"]) % len(self.isas)
        return self.isas[i], self.isas[(i + 1) % len(self.isas)]


def shown(c):
    return ", ".join(f"{name} {c[name]}" for name in NAMES)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    potluck.shared_or_skip("models", "tiny")
    found = potluck.isas()
    if potluck.SANITIZE:  # they look for races and overruns, which every type of tensor shows alike
        FACTORS["model"] = ["demo", "glm4moe-q4k", "qwen2moe", "mixtral", "qwen3"]
    FACTORS["isa"] = found + ["mixed"] if len(found) > 1 else found
    FACTORS["transport"] = ["-"] + FACTORS["transport"]
    rng = random.Random(options.seed)
    configurations = covering(3 if options.full else 2, rng)
    if options.full:
        configurations += list(whole_product())
    print(f"instruction sets here: {' '.join(found)}; {len(configurations)} configurations")
    sys.stdout.flush()

    tally = potluck.Tally("same_bits")
    bench = Bench(found)
    seen = {name: {} for name in NAMES}
    for i, c in enumerate(configurations):
        want, plain_outcome = bench.expected(c)
        if not tally.check(want is not None, f"the plain run of {c['model']} works", plain_outcome):
            continue
        got, outcome = bench.run(c)
        if got and c["workers"] and c["model"] not in DENSE and c["place"] != "auto":
            away = [w for w in outcome.json()["workers"] if w["name"] != "local" and w["experts"] and w["rows"]]
            tally.check(away, f"{shown(c)}: no worker had anything to do", outcome)
        same = tally.check(got == want, f"{shown(c)}: {'other bits than the plain run' if got else 'does not run'}",
                           outcome)
        for name in NAMES:
            good, bad = seen[name].get(c[name], (0, 0))
            seen[name][c[name]] = (good + same, bad + (not same))
        if (i + 1) % 100 == 0:
            print(f"{i + 1} of {len(configurations)}")
            sys.stdout.flush()

    print()
    rows = [[name, "  ".join(f"{v}: {seen[name][v][0]}" + (f" ({seen[name][v][1]} differ)" if seen[name][v][1] else "")
                             for v in FACTORS[name] if v in seen[name])] for name in NAMES]
    for name, cells in rows:
        print(f"{name:10s}{cells}")
    tally.end()


if __name__ == "__main__":
    main()
