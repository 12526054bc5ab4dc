#!/usr/bin/env python3
"""How programs start, end and leave: Ctrl-C, SIGTERM, kill -9, local workers, potluck-worker, its memory.

    lifecycle.py [interrupt|locals|worker|memory|output ...]
"""
import os
import re
import signal
import sys
import time

import potluck
from potluck import DEMO, Running, alive, children, run, wait_until

LONG = ["--ignore-eos", "-n", 100000, "--ctx", 20000, "--temp", 0, "-p", "What is a bridge?", "--raw"]


def interrupt(tally):
    # before, during and after the answer: as text and as JSON
    for workers in (0, 2):
        what = f"Ctrl-C with {workers} local workers"
        with Running("run", DEMO, *LONG, "--local-workers", workers) as running:
            tally.check(running.wait_for(r"(?s)\w{3}.{40}", "out"), f"{what}: the answer begins", running)
            before = running.text("out")
            locals_ = children(running.pid)
            at = time.monotonic()
            running.signal(signal.SIGINT)
            result = running.finish(10)
            seconds = time.monotonic() - at
            tally.check(result.code == 0 and not result.broke, f"{what}: exit code 0 {result.broke}", result)
            tally.check(result.out.startswith(before) and before, f"{what}: what was printed stays")
            tally.check("interrupted" in result.err, f"{what}: the summary says so", result)
            tally.check(seconds < 2 * potluck.SLOW, f"{what}: ends at once ({seconds:.2f} s)")
            tally.check(len(locals_) == workers and not any(alive(p) for p in locals_), f"{what}: no worker is left")

        with Running("run", DEMO, *LONG, "--local-workers", workers, "--json") as running:
            time.sleep(1.0 * potluck.SLOW)
            running.signal(signal.SIGINT)
            result = running.finish(10)
            if tally.check(result.code == 0 and not result.broke, f"{what}, --json: exit code 0 {result.broke}", result):
                found = result.json()
                tally.check(found["stop"] == "interrupted" and found["token_ids"] and found["text"],
                            f"{what}, --json: stop is \"interrupted\" and the answer so far is there", result)

    with Running("run", DEMO, *LONG) as running:
        running.wait_for(r"\w{3}", "out")
        running.signal(signal.SIGTERM)
        result = running.finish(10)
        tally.check(result.code == 0 and "interrupted" in result.err, "SIGTERM ends a generation the same way", result)

    with Running("run", DEMO, "-p", "x", "--listen", "127.0.0.1:0", "--wait-workers", 1) as running:
        running.wait_for("listening on")
        running.signal(signal.SIGINT)
        result = running.finish(5)
        tally.check(result.code == 1 and not result.broke, f"Ctrl-C while waiting for workers: ends with 1 {result.broke}", result)

    with Running("bench", DEMO, "--pp", 0, "--tg", 100000, "--ctx", 100016) as running:
        time.sleep(0.5 * potluck.SLOW)
        running.signal(signal.SIGINT)
        result = running.finish(10)
        tally.check(result.code in (0, 1) and not result.broke, f"Ctrl-C ends bench {result.broke}", result)
    print("interrupt: done")


def locals_(tally):
    for transport in ("ipc", "tcp"):
        what = f"local workers over {transport}"
        with Running("run", DEMO, *LONG, "--local-workers", 3, "--transport", transport) as running:
            running.wait_for(r"\w{3}", "out")
            pids = children(running.pid)
            tally.check(len(pids) == 3, f"{what}: there are 3 processes: {pids}", running if len(pids) != 3 else None)
            running.signal(signal.SIGKILL)
            running.process.wait()
            gone = wait_until(lambda: not any(alive(p) for p in pids), 3)
            tally.check(gone, f"{what}: none outlives a coordinator that is killed")
            for pid in pids:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
    result = run("run", DEMO, "-p", "x", "-n", 2, "--local-workers", 2, "--transport", "ipc")
    tally.check(result.code == 0, "a run with ipc workers ends well", result)
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    left = [n for n in os.listdir(folder) if re.fullmatch(r"potluck-[A-Za-z0-9]{6}", n)
            and not os.path.exists(os.path.join(folder, n, "hub"))]
    tally.check(not left, f"no empty run folder is left in {folder}: {left}")

    # a name that stays: workers get the same experts each time
    results = [run("run", DEMO, "-p", "x", "-n", 2, "--temp", 0, "--local-workers", 3, "--json").json() for _ in range(2)]
    held = [[(w["name"], w["experts"], w["bytes"]) for w in r["workers"]] for r in results]
    tally.check(held[0] == held[1], f"the same placement twice: {held}")
    tally.check(sum(w["experts"] for w in results[0]["workers"]) == 80, f"80 experts are held in all: {held[0]}")
    print("local workers: done")


def worker(tally):
    # the lean program, started in an empty folder, without the model file and with an empty environment
    words = ["-p", "What is a bridge?", "-n", 64, "--temp", 0, "--ignore-eos", "--json"]
    plain = run("run", DEMO, *words)
    for name in ("potluck-worker", "potluck"):
        with potluck.Cluster("run", DEMO, *words, "--no-local-experts", "--wait-workers", 2, workers=[]) as cluster:
            for i in (1, 2):
                joined = cluster.join("--name", f"m{i}", "--once", name=name)
            result = cluster.finish(60)
            if tally.check(result.code == 0, f"{name} holds all experts over tcp", result):
                found = result.json()
                tally.check(found["logits_sha256"] == plain.json()["logits_sha256"], f"{name}: the same bits as alone")
                tally.check({w["name"] for w in found["workers"] if w["experts"]} == {"m1", "m2"},
                            f"{name}: the JSON says who holds the experts: {found['workers']}")
                tally.check(found["wire"]["messages_out"] > 0 and found["wire"]["bytes_in"] > 0, "and counts messages")
            end = joined.finish(10)
            tally.check(end.code in (0, 1) and not end.broke, f"{name} --once ends with its coordinator {end.broke}", end)
            tally.check("joined" in end.err, f"{name} says \"joined\"", end)

    # a worker that waits for the next coordinator (no --once), then leaves at SIGTERM
    with potluck.Cluster("run", DEMO, *words, "--wait-workers", 1, workers=[]) as cluster:
        stays = cluster.join("--name", "stays")
        tally.check(cluster.finish(60).code == 0, "a first coordinator runs and ends")
        port = cluster.address.rsplit(":", 1)[1]
        time.sleep(0.3)
        tally.check(stays.process.poll() is None, "the worker stays when the coordinator is gone", stays)
        again = run("run", DEMO, *words, "--listen", f"127.0.0.1:{port}", "--wait-workers", 1, "--wait-timeout", "20s")
        tally.check(again.code == 0 and any(w["name"] == "stays" and w["experts"] for w in again.json()["workers"]),
                    "and serves the next one at the same address", again)
        at = time.monotonic()
        stays.signal(signal.SIGTERM)
        end = stays.finish(10)
        tally.check(end.code == 0 and not end.broke, f"SIGTERM while it waits: exit code 0 {end.broke}", end)
        tally.check(time.monotonic() - at < 2 * potluck.SLOW, "and at once")

    # SIGTERM in mid-run: the worker drains and leaves, the coordinator names it
    with potluck.Cluster("run", DEMO, *LONG, workers=[("--name", "leaver")]) as cluster:
        cluster.coordinator.wait_for(r"\w{3}", "out")
        cluster.workers[0].signal(signal.SIGTERM)
        end = cluster.workers[0].finish(10)
        tally.check(end.code == 0 and not end.broke, f"SIGTERM in mid-run: the worker leaves with 0 {end.broke}", end)
        result = cluster.finish(10)
        tally.check(result.code == 1 and "leaver" in result.err and "experts" in result.err,
                    "and the coordinator says who left, and what with it", result)
    for args in (["--help"], ["--version"]):
        result = run(*args, name="potluck-worker")
        tally.check(result.code == 0 and "potluck" in result.out, f"potluck-worker {args[0]}", result)
    print("worker: done")


def memory(tally):
    """A lean worker beside its experts stays under 40 MB."""
    if potluck.SANITIZE:
        return
    words = [*LONG, "--no-local-experts", "--wait-workers", 1]
    with potluck.Cluster("run", DEMO, *words, workers=[]) as cluster:
        lean = cluster.join("--name", "lean", "--threads", 1, "--once")
        cluster.coordinator.wait_for(r"(?s)\w{3}.{200}", "out")
        with open(f"/proc/{lean.pid}/status") as f:
            status = f.read()
        rss = int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024
        cluster.coordinator.signal(signal.SIGINT)
        cluster.finish(10)
    about = run("run", DEMO, "-p", "x", "-n", 1, "--no-local-experts", "--local-workers", 1, "--json").json()
    held = next(w["bytes"] for w in about["workers"] if w["name"] == "w1")
    tally.check(rss - held < 40e6, f"a worker holding {held / 1e6:.1f} MB takes {rss / 1e6:.1f} MB")
    tally.check(peak - held < 60e6, f"a worker holding {held / 1e6:.1f} MB took {peak / 1e6:.1f} MB at its peak")
    print(f"a lean worker: {rss / 1e6:.1f} MB resident with {held / 1e6:.1f} MB of experts (peak {peak / 1e6:.1f} MB): "
          f"{(rss - held) / 1e6:.1f} MB beside them")
    binary = os.path.getsize(potluck.program("potluck-worker"))
    print(f"potluck-worker is a file of {binary / 1e3:.0f} kB")


def output(tally):
    # a reader that goes away, a full disk
    with Running("run", DEMO, *LONG) as running:
        running.wait_for(r"\w{3}", "out")
    os.makedirs(os.path.join(potluck.scratch(), "o"), exist_ok=True)
    script = f"{potluck.quoted(potluck.program())} run {potluck.quoted(DEMO)} -p bridge --raw --ignore-eos -n 3000 --ctx 4096 -q | head -c 20"
    at = time.monotonic()
    code = os.system(f"timeout {60 * potluck.SLOW:.0f} sh -c {potluck.quoted(script)} > {potluck.scratch()}/o/out 2>&1")
    tally.check(code == 0 and time.monotonic() - at < 30 * potluck.SLOW, "a reader that goes away ends the run")
    if os.path.exists("/dev/full"):
        code = os.system(f"{potluck.quoted(potluck.program())} run {potluck.quoted(DEMO)} -p bridge -n 5 -q > /dev/full 2> {potluck.scratch()}/o/err")
        with open(f"{potluck.scratch()}/o/err") as f:
            said = f.read()
        tally.check(os.waitstatus_to_exitcode(code) == 1 and "write" in said, f"a full disk: exit code 1 and a message: {said}")

    # every command helps; results are one JSON object; stdin and files are prompts
    for command in ("run", "eval", "bench", "inspect", "tokenize", "join"):
        result = run(command, "--help")
        tally.check(result.code == 0 and "example" in result.out and not result.err, f"{command} --help has examples", result)
    result = run("--version")
    tally.check(result.code == 0 and re.fullmatch(r"potluck \d+\.\d+\.\d+\n", result.out), "--version", result)
    same = []
    path = os.path.join(potluck.scratch(), "prompt.txt")
    with open(path, "wb") as f:
        f.write(b"What is a bridge?\n")
    for args, stdin in ((["-p", "What is a bridge?"], None), (["-f", path], None), ([], b"What is a bridge?\n"),
                        (["--config", config({"temp": "0", "n-predict": "8"}), "-p", "What is a bridge?"], None)):
        result = run("run", DEMO, *args, "--temp", 0, "-n", 8, "--json", stdin=stdin)
        if tally.check(result.code == 0 and result.out.count("\n") == 1, f"run {args}: one JSON object on a line", result):
            same.append(result.json()["logits_sha256"])
    tally.check(len(set(same)) == 1, "-p, -f, standard input and a configuration file ask the same")

    found = run("run", DEMO, "-p", "What is a bridge?", "--temp", 0, "-n", 8, "--ignore-eos", "--json",
                "--local-workers", 1).json()
    wanted = {"": ["prompt_token_ids", "token_ids", "text", "stop", "seed", "logits_sha256", "timing", "step_ms",
                   "speculation", "workers", "wire"],
              "timing": ["prefill_tokens", "prefill_seconds", "decode_tokens", "decode_seconds", "first_token_seconds"],
              "step_ms": ["attention", "dense", "dispatch", "wait", "merge", "head", "draft", "other"],
              "speculation": ["kind", "steps", "drafted", "accepted", "tokens_per_step", "length_histogram"],
              "wire": ["messages_out", "messages_in", "bytes_out", "bytes_in"]}
    for part, keys in wanted.items():
        missing = [k for k in keys if k not in (found[part] if part else found)]
        tally.check(not missing, f"run --json has the keys of cli.md; missing in \"{part}\": {missing}")
    keys = ["name", "transport", "isa", "experts", "bytes", "rows", "expert_calls", "busy_seconds", "rtt_us", "lost"]
    tally.check(all(k in w for w in found["workers"] for k in keys), f"workers have the keys of cli.md: {found['workers']}")
    tally.check(found["stop"] == "length" and len(found["token_ids"]) == 8, "-n ends the answer")

    found = run("inspect", DEMO, "--json").json()
    keys = ["architecture", "name", "parameters", "active_parameters", "file_bytes", "layers", "moe_layers", "experts",
            "experts_used", "mtp_layers", "expert_bytes", "context_length", "vocab_size", "tokenizer", "tensor_types",
            "chat_template", "supported", "reason"]
    tally.check(not [k for k in keys if k not in found], f"inspect --json has the keys of cli.md: {sorted(found)}")
    tally.check((found["architecture"], found["experts"], found["experts_used"], found["mtp_layers"], found["moe_layers"])
                == ("glm4moe", 16, 2, 1, 5), f"inspect says what the demo model is: {found}")
    found = run("bench", DEMO, "--pp", 16, "--tg", 4, "--reps", 1, "--rows", "1,4", "--json", seconds=120).json()
    keys = ["results", "logits_sha256", "isa", "threads", "workers", "peak_rss_bytes", "bytes_per_token_read", "read_bandwidth"]
    tally.check(not [k for k in keys if k not in found], f"bench --json has the keys of cli.md: {sorted(found)}")
    tally.check([r["test"] for r in found["results"]] == ["pp16", "tg4", "rows1", "rows4"], f"bench's tests: {found['results']}")
    found = run("tokenize", DEMO, "--text", "<|im_start|>a bridge", "--special", "--json").json()
    tally.check(found["token_ids"][0] == 1 and len(found["pieces"]) == len(found["token_ids"]), f"tokenize --json: {found}")
    found = run("eval", DEMO, "--tokens", potluck.write_ids("e.json", [1, 2, 3]), "--json").json()
    tally.check(not [k for k in ("tokens", "nll", "perplexity", "logits_sha256", "seconds") if k not in found],
                f"eval --json has the keys of cli.md: {sorted(found)}")
    print("output: done")


def config(options):
    path = os.path.join(potluck.scratch(), "c.ini")
    with open(path, "w") as f:
        f.write("# a comment\n" + "".join(f"{k} = {v}\n" for k, v in options.items()))
    return path


def main():
    tally = potluck.Tally("lifecycle")
    parts = {"interrupt": interrupt, "locals": locals_, "worker": worker, "memory": memory, "output": output}
    for name in sys.argv[1:] or parts:
        parts[name](tally)
        sys.stdout.flush()
    tally.end()


if __name__ == "__main__":
    main()
