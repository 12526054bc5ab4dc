#!/usr/bin/env python3
"""An x86-64 and an aarch64 build give the same logits, alone and as one cluster.

    tests/arm/mixed_cluster.py NATIVE ARM

Two folders with the programs; those of ARM run under an emulator (tests/arm/run makes both). For every
model: the native hash of the logits; then an emulated run with each table; then a native coordinator
with two emulated workers, and an emulated coordinator with a native worker.
"""
import glob
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import potluck  # noqa: E402
from potluck import DEMO, Running, run  # noqa: E402

TABLES = ["neon", "neon-plain"]
IDS = [1 + 7 * i % 90 for i in range(40)]


class Places:
    """Says which of the two builds a program is started from."""

    def __init__(self, native, arm):
        self.folders = {"native": native, "arm": arm}

    def use(self, place):
        os.environ["POTLUCK_BIN"] = self.folders[place]


def words(model, ids, *more):
    return ["eval", model, "--tokens", ids, "--json", *more]


def hash_of(result):
    return result.json().get("logits_sha256") if result.code == 0 else None


def cluster_hash(places, model, ids, coordinator, workers):
    """The hash and the isas of the workers that computed experts. workers: (place, --isa)."""
    places.use(coordinator)
    started = [Running(*words(model, ids, "--listen", "127.0.0.1:0", "--wait-workers", len(workers),
                              "--wait-timeout", "60s"))]
    try:
        found = started[0].wait_for(r"listening on (\S+)", seconds=60)
        if not found:
            return None, [], started[0].finish(1)
        for i, (place, isa) in enumerate(workers):
            places.use(place)
            started.append(Running(found.group(1), "--name", f"hand{i}", "--once", "--isa", isa,
                                   name="potluck-worker"))
        result = started[0].finish(120)
        busy = [w["isa"] for w in result.json()["workers"] if w["expert_calls"]] if result.code == 0 else []
        return hash_of(result), busy, result
    finally:
        for running in started:
            running.__exit__()


def check_model(tally, places, model, ids):
    name = os.path.basename(model)
    places.use("native")
    facts = run("inspect", model, "--json")
    if facts.code != 0 or not facts.json()["supported"]:
        return
    native = run(*words(model, ids))
    want = hash_of(native)
    if not tally.check(want is not None, f"{name}: runs natively", native):
        return
    places.use("arm")
    for isa in TABLES:
        result = run(*words(model, ids, "--isa", isa), seconds=120)
        tally.check(hash_of(result) == want, f"{name}: emulated, {isa}: the same logits", result)
    if facts.json()["moe_layers"] == 0:
        print(f"{name}: {want[:16]}")
        return
    got, busy, result = cluster_hash(places, model, ids, "native", [("arm", isa) for isa in TABLES])
    tally.check(got == want, f"{name}: native coordinator, emulated workers: the same logits", result)
    tally.check(sum(isa.startswith("neon") for isa in busy) == 2, f"{name}: both workers computed, not {busy}")
    got, _, result = cluster_hash(places, model, ids, "arm", [("native", "auto")])
    tally.check(got == want, f"{name}: emulated coordinator, native worker: the same logits", result)
    print(f"{name}: {want[:16]}, also as a cluster")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    places = Places(*map(os.path.abspath, sys.argv[1:]))
    tally = potluck.Tally("mixed_cluster")
    ids = potluck.write_ids("ids.json", IDS)
    for model in [DEMO] + sorted(glob.glob(os.path.join(potluck.SHARED, "models", "tiny", "*.gguf"))):
        check_model(tally, places, model, ids)
    tally.end()


if __name__ == "__main__":
    main()
