#!/usr/bin/env python3
"""Wrong files, requests and peers: a clear error, the right exit code, no crash, no hang.

    bad_input.py [files|requests|workers|network|memory ...]
"""
import math
import os
import random
import resource
import signal
import socket
import struct
import sys
import time

import potluck
import zmtp
from gguf_edit import Gguf
from potluck import DEMO, Running, run, tiny

LIMIT = 10  # seconds for an error to come
FOREVER = ["--ignore-eos", "-n", 100000, "--ctx", 20000, "--temp", 0, "-p", "What is a bridge?"]


# ---------------------------------------------------------------------------- files


def edits():
    """(what is wrong, function that makes it so, words one of which must stand in the message)"""
    output, gate, norm = "output.weight", "blk.1.ffn_gate_exps.weight", "output_norm.weight"

    def overlap(g):
        g.set_field(norm, "offset", g.field(output, "offset"))

    def swap(g):
        a, b = g.field(gate, "dims"), g.field(gate, "dims", index=1)
        g.set_field(gate, "dims", b + 32)
        g.set_field(gate, "dims", a, index=1)

    def token_bytes(g, value):
        _, _, at = g.keys["tokenizer.ggml.tokens"]
        g.data[at + 12 + 8:at + 12 + 9] = value

    def dims(g, *values):
        for i, v in enumerate(values):
            g.set_field(gate, "dims", v, index=i)

    return [
        ("wrong magic", lambda g: g.put(0, "<4s", b"GGML"), ["GGUF"]),
        ("version 1", lambda g: g.put(4, "<I", 1), ["version"]),
        ("version 99", lambda g: g.put(4, "<I", 99), ["version"]),
        ("big-endian", lambda g: g.put(4, ">I", 3), ["endian", "version"]),
        ("2^60 tensors", lambda g: g.put(8, "<Q", 1 << 60), ["tensor"]),
        ("no tensors", lambda g: g.put(8, "<Q", 0), ["tensor"]),
        ("2^60 keys", lambda g: g.put(16, "<Q", 1 << 60), ["key", "metadata", "pair"]),
        ("a key of 2^63 bytes", lambda g: g.put(24, "<Q", 1 << 63), ["bytes", "length", "long", "end"]),
        ("a value of unknown type", lambda g: g.put(g.keys["general.file_type"][0], "<I", 77), ["type"]),
        ("tokens: 2^61 of them", lambda g: g.put(g.keys["tokenizer.ggml.tokens"][2] + 4, "<Q", 1 << 61), [""]),
        ("tokens: fewer than rows", lambda g: g.put(g.keys["tokenizer.ggml.token_type"][2] + 4, "<Q", 7), [""]),
        ("tensor offset out of range", lambda g: g.set_field(output, "offset", 1 << 40), [output, "offset"]),
        ("tensor offset 2^64-32", lambda g: g.set_field(output, "offset", (1 << 64) - 32), [output, "offset"]),
        ("tensor offset misaligned", lambda g: g.set_field(output, "offset", g.field(output, "offset") + 1), ["align"]),
        ("tensors overlap", overlap, ["overlap", "share", "behind", "before"]),
        ("dimensions overflow", lambda g: dims(g, 1 << 40, 1 << 40, 1 << 40), [gate]),
        ("a dimension of 0", lambda g: dims(g, 0), [gate]),
        ("a tensor of 77 dimensions", lambda g: g.set_field(gate, "n_dims", 77, "<I"), [gate, "dimension"]),
        ("a tensor of unknown type", lambda g: g.set_field(gate, "type", 9999, "<I"), [gate, "type"]),
        ("a tensor of type IQ2_XXS", lambda g: g.set_field(gate, "type", 16, "<I"), ["IQ2_XXS"]),
        ("a misshapen tensor", swap, [gate]),
        ("a missing tensor", lambda g: g.rename_tensor(norm), [norm]),
        ("a missing expert tensor", lambda g: g.rename_tensor(gate), [gate, "ffn_gate_exps"]),
        ("unknown architecture", lambda g: g.data.__setitem__(slice(g.keys["general.architecture"][2] + 8,
                                                                    g.keys["general.architecture"][2] + 15), b"zzzzzzz"),
         ["zzzzzzz"]),
        ("no block count", lambda g: g.rename_key(".block_count"), ["block_count"]),
        ("zero blocks", lambda g: g.set_key(".block_count", 0), ["block"]),
        ("2^32-1 blocks", lambda g: g.set_key(".block_count", 0xffffffff), ["block"]),
        ("zero heads", lambda g: g.set_key(".head_count", 0), ["head"]),
        ("2^31 heads", lambda g: g.set_key(".head_count", 1 << 31), ["head"]),
        ("zero key/value heads", lambda g: g.set_key(".head_count_kv", 0), ["head"]),
        ("heads not a multiple", lambda g: g.set_key(".head_count_kv", 3), ["head"]),
        ("key length 0", lambda g: g.set_key(".key_length", 0), [""]),
        ("key length 2^31", lambda g: g.set_key(".key_length", 1 << 31), [""]),
        ("rotary width beyond the head", lambda g: g.set_key(".rope.dimension_count", 4096), ["rope", "rot"]),
        ("rotary width odd", lambda g: g.set_key(".rope.dimension_count", 7), ["rope", "rot"]),
        ("rotary base NaN", lambda g: g.set_key(".rope.freq_base", math.nan), ["rope", "freq_base"]),
        ("rotary base 0", lambda g: g.set_key(".rope.freq_base", 0.0), ["rope", "freq_base"]),
        ("epsilon NaN", lambda g: g.set_key("_rms_epsilon", math.nan), ["eps"]),
        ("epsilon negative", lambda g: g.set_key("_rms_epsilon", -1.0), ["eps"]),
        ("width 0", lambda g: g.set_key(".embedding_length", 0), ["embedding"]),
        ("width 2^31", lambda g: g.set_key(".embedding_length", 1 << 31), [""]),
        ("FFN width 0", lambda g: g.set_key(".expert_feed_forward_length", 0), [""]),
        ("zero experts", lambda g: g.set_key(".expert_count", 0), ["expert"]),
        ("2^31 experts", lambda g: g.set_key(".expert_count", 1 << 31), ["expert"]),
        ("zero experts used", lambda g: g.set_key(".expert_used_count", 0), ["expert"]),
        ("more experts used than there are", lambda g: g.set_key(".expert_used_count", 9999), ["expert"]),
        ("expert weights scale NaN", lambda g: g.set_key(".expert_weights_scale", math.nan), [""]),
        ("unknown gating function", lambda g: g.set_key(".expert_gating_func", 77), ["gating"]),
        ("zero expert groups used", lambda g: (g.set_key(".expert_group_count", 2),
                                               g.set_key(".expert_group_used_count", 0)), [""]),
        ("more dense blocks than blocks", lambda g: g.set_key(".leading_dense_block_count", 99), [""]),
        ("more MTP blocks than blocks", lambda g: g.set_key(".nextn_predict_layers", 99), ["nextn"]),
        ("context length 0", lambda g: g.set_key(".context_length", 0), ["context"]),
        ("EOS id out of range, taken as none", lambda g: g.set_key(".eos_token_id", 1 << 30), None),
        ("no tokens", lambda g: g.rename_key("tokenizer.ggml.tokens"), ["tokenizer.ggml.tokens"]),
        ("a token that is no UTF-8", lambda g: token_bytes(g, b"\xff"), None),
    ]


def check_bad_file(tally, what, path, words, may_run=False):
    """eval must refuse (or, where the change may be harmless, survive); inspect must survive."""
    ids = potluck.write_ids("ids.json", [1, 2, 3])
    for command in (["eval", path, "--tokens", ids, "--ctx", 64, "--threads", 1], ["inspect", path, "--json"]):
        result = run(*command, seconds=LIMIT)
        if not tally.check(not result.broke, f"{what}: {command[0]} {result.broke}", result):
            return result.broke
        if command[0] == "inspect" or may_run:
            tally.check(result.code in (0, 1), f"{what}: {command[0]} ends with 0 or 1", result)
            tally.check(result.code == 0 or result.err.strip(), f"{what}: {command[0]} says why", result)
            continue
        refused = tally.check(result.code == 1, f"{what}: eval ends with 1", result)
        said = result.err.strip()
        tally.check(not refused or os.path.basename(path) in said, f"{what}: the message names the file", result)
        tally.check(not refused or any(w.lower() in said.lower() for w in words),
                    f"{what}: the message has one of {words}", result)
        tally.check(len(said) < 3000, f"{what}: the message is short", result)
    return ""


def files(tally):
    source = potluck.shared_or_skip("models", "tiny", "glm4moe.gguf")
    path = os.path.join(potluck.scratch(), "broken.gguf")
    whole = Gguf(source)
    size, head = len(whole.data), whole.head_bytes

    cuts = sorted({0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 31, 32, 60, size - 1, size - 33, head, head - 1}
                  | {head * i // 17 for i in range(1, 17)} | {head + (size - head) * i // 5 for i in range(1, 5)})
    for cut in cuts:
        with open(path, "wb") as f:
            f.write(whole.data[:cut])
        check_bad_file(tally, f"cut to {cut} bytes", path, [""])

    for what, edit, words in edits():
        g = Gguf(source)
        edit(g)
        check_bad_file(tally, what, g.save(path), words or [""], may_run=words is None)

    rng = random.Random(1)
    for i in range(60):
        g = Gguf(source)
        for _ in range(1 + i % 3):
            at = rng.randrange(24, head)
            g.data[at] = rng.choice([0, 1, 0x7f, 0x80, 0xff, g.data[at] ^ 1 << rng.randrange(8)])
        check_bad_file(tally, f"damage {i} in the head", g.save(path), [""], may_run=True)

    g = Gguf(source)  # weights that are not numbers: the result may be nonsense, the program must live
    at = g.head_bytes + 31 & ~31
    for i in range(at, at + 4096, 4):
        g.put(i, "<f", math.nan if i % 8 else math.inf)
    check_bad_file(tally, "weights NaN and infinite", g.save(path), [""], may_run=True)

    for what, wrong in (("a file that is not there", path + ".none"), ("a folder", potluck.scratch()),
                        ("a device", "/dev/null"), ("a text", __file__)):
        result = run("eval", wrong, "--tokens", potluck.write_ids("ids.json", [1]), seconds=LIMIT)
        tally.check(result.code == 1 and not result.broke and os.path.basename(wrong) in result.err,
                    f"{what}: refused with 1, naming it {result.broke}", result)
    print(f"files: {len(cuts)} cut, {len(edits())} wrong in one way, 61 damaged")


# ---------------------------------------------------------------------------- requests


def refused(tally, what, code, words, *args, stdin=None):
    result = run(*args, seconds=LIMIT, stdin=stdin)
    tally.check(not result.broke, f"{what}: {result.broke}", result)
    tally.check(result.code == code, f"{what}: exit code {code}", result)
    said = result.err.lower()
    tally.check(said.strip() and any(w in said for w in words), f"{what}: the message has one of {words}", result)
    return result


def requests(tally):
    ids = lambda text: write("some.ids", text)

    def write(name, text):
        path = os.path.join(potluck.scratch(), name)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return path

    good = ids("[1, 2, 3]")
    many = " ".join(["bridge"] * 600)
    refused(tally, "prompt longer than the context", 1, ["context", "ctx"], "run", DEMO, "-p", many, "--ctx", 64)
    refused(tally, "prompt that fills the context", 1, ["context", "ctx"], "eval", DEMO, "--ctx", 8, "--tokens",
            write("nine.ids", "1 2 3 4 5 6 7 8 9"))
    refused(tally, "empty prompt, raw", 1, ["empty", "nothing", "no token", "prompt"], "run", DEMO, "-p", "", "--raw")
    for text in ("4096", "2147483647", "99999999999999999999", "-1", "[1, 2", "1 2 x", "", "[1]]", "1.5", "\xff\xfe"):
        path = write("bad.ids", text.encode("latin-1"))
        refused(tally, f"token ids {text!r}", 1, ["id", "nothing", "]", "range"], "eval", DEMO, "--tokens", path)
    refused(tally, "ids file not there", 1, ["nowhere"], "eval", DEMO, "--tokens", "nowhere.ids")
    refused(tally, "decode an id out of range", 1, ["id", "range"], "tokenize", DEMO, "--decode", "4096")
    refused(tally, "output in no folder", 1, ["nowhere"], "eval", DEMO, "--tokens", good, "--logits", "/nowhere/x.npy")
    refused(tally, "routes of a dense model", 1, ["expert"], "eval", tiny("qwen3"), "--tokens", good, "--routes",
            os.path.join(potluck.scratch(), "r.npy"))
    refused(tally, "MTP logits of a model without", 1, ["mtp", "nextn"], "eval", tiny("qwen3"), "--tokens", good,
            "--mtp-logits", os.path.join(potluck.scratch(), "m.npy"))

    refused(tally, "q8_0 cache with a head width of 24", 1, ["32"], "eval", tiny("qwen3"), "--tokens", good, "--kv", "q8_0")

    for text in (b"\xff\xfe\x80 what", b"\xc3", b"nul \0 inside", "ünïcödé 🜁 \u202e".encode()):
        result = run("run", DEMO, "-f", write("p.txt", text), "-n", 2, "--temp", 0, seconds=LIMIT)
        tally.check(not result.broke and result.code in (0, 1), f"prompt {text!r}: lives {result.broke}", result)

    for what, words, args in (
            ("no command", ["usage", "command"], []),
            ("unknown command", ["dance"], ["dance"]),
            ("unknown option", ["--dance"], ["run", DEMO, "--dance"]),
            ("no model", ["model"], ["run", "-p", "x"]),
            ("no text to evaluate", ["--text", "--tokens"], ["eval", DEMO]),
            ("two models", ["model"], ["eval", DEMO, DEMO, "--tokens", good]),
            ("an option without its value", ["--ctx"], ["run", DEMO, "-p", "x", "--ctx"]),
            ("threads: no number", ["threads"], ["run", DEMO, "-p", "x", "--threads", "many"]),
            ("threads: too many", ["threads"], ["run", DEMO, "-p", "x", "--threads", "99999999999"]),
            ("negative count", ["-n", "n-predict"], ["run", DEMO, "-p", "x", "-n", "-5"]),
            ("unknown cache type", ["kv"], ["run", DEMO, "-p", "x", "--kv", "f8"]),
            ("unknown transport", ["transport"], ["run", DEMO, "-p", "x", "--transport", "pigeon"]),
            ("unknown placement", ["place"], ["run", DEMO, "-p", "x", "--place", "anywhere"]),
            ("malformed address", ["listen", "host:port"], ["run", DEMO, "-p", "x", "--listen", "one:two:three:x"]),
            ("batch 0 or beyond", ["batch"], ["run", DEMO, "-p", "x", "--batch", "1000000"]),
            ("temperature below 0", ["temp"], ["run", DEMO, "-p", "x", "--temp", "-1"]),
            ("temperature NaN", ["temp"], ["run", DEMO, "-p", "x", "--temp", "nan"]),
            ("top-p above 1", ["top-p", "top_p"], ["run", DEMO, "-p", "x", "--top-p", "1.5"]),
            ("prompt given twice", ["-p", "-f"], ["run", DEMO, "-p", "x", "-f", good]),
            ("too many local workers", ["local-workers"], ["run", DEMO, "-p", "x", "--local-workers", "5000"]),
    ):
        refused(tally, what, 2, words, *args)

    result = run("run", DEMO, "-p", "x", "--isa", "z80", seconds=LIMIT)
    tally.check(result.code in (1, 2) and "z80" in result.err, "unknown instruction set: an error naming it", result)
    result = run("run", DEMO, "-p", "x", "--place", "file:/nowhere/plan.json", seconds=LIMIT)
    tally.check(result.code == 1 and "plan.json" in result.err, "plan file not there: 1, naming it", result)
    for text in ("{", "[]", '{"experts": 3}', '{"experts": []}', '{"experts": [{"layer": -1, "expert": 0, "workers": ["local"]}]}',
                 '{"experts": [{"layer": "*", "expert": "*", "workers": ["nobody"]}]}',
                 '{"experts": [{"layer": 1, "expert": 0, "workers": ["local"]}]}', "[" * 100000):
        result = run("run", DEMO, "-p", "x", "--place", "file:" + write("plan.json", text), seconds=LIMIT)
        tally.check(result.code == 1 and not result.broke and "plan.json" in result.err,
                    f"plan {text[:40]}: 1, naming the file {result.broke}", result)
    result = run("run", DEMO, "--config", write("c.ini", "threads = many\n[x\n= 3\n"), "-p", "x", seconds=LIMIT)
    tally.check(result.code in (1, 2) and "c.ini" in result.err, "wrong configuration file: an error naming it", result)
    print("requests: done")


# ---------------------------------------------------------------------------- workers


def workers(tally):
    # a port in use
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        result = run("run", DEMO, "-p", "x", "--listen", f"127.0.0.1:{port}", seconds=LIMIT)
        tally.check(result.code == 1 and not result.broke and str(port) in result.err and "in use" in result.err,
                    "a port in use: 1, naming it", result)
    result = run("run", DEMO, "-p", "x", "--listen", "192.0.2.1:7000", seconds=LIMIT)
    tally.check(result.code == 1 and "192.0.2.1" in result.err, "an address that is not ours: 1, naming it", result)
    result = run("run", DEMO, "-p", "x", "--listen", "127.0.0.1:0", "--wait-workers", 1, "--wait-timeout", "300ms",
                 seconds=LIMIT)
    tally.check(result.code == 1 and "0 of 1" in result.err, "workers that do not come: 1, with the numbers", result)
    result = run("127.0.0.1:1", "--once", name="potluck-worker", seconds=30)
    tally.check(result.code == 1 and not result.broke, "a worker with --once and no coordinator: 1", result)
    result = run("127.0.0.1:1:x:", name="potluck-worker", seconds=LIMIT)
    tally.check(result.code == 2 and not result.broke, "a worker with a malformed address: 2", result)
    result = run("run", DEMO, "-p", "x", "--local-workers", 2, "--local-worker-args", "--dance", seconds=LIMIT)
    tally.check(result.code in (1, 2) and not result.broke, "local workers with wrong options: an error", result)

    # two workers of one name
    options = ["-p", "What is a bridge?", "-n", 8, "--temp", 0, "--ignore-eos"]
    with potluck.Cluster("run", DEMO, *options, "--wait-workers", 2, workers=[]) as cluster:
        first = cluster.join("--name", "twin", "--once")
        tally.check(first.wait_for("joined"), "the first twin joins", first)
        second = cluster.join("--name", "twin", "--once")
        refused_twin = second.finish(10)
        tally.check(refused_twin.code == 1 and "twin" in refused_twin.err and "--name" in refused_twin.err,
                    "the second is refused, told why and what to do", refused_twin)
        cluster.join("--name", "other", "--once")
        result = cluster.finish(30)
        tally.check(result.code == 0 and result.out.strip(), "the run goes on with the first and another", result)

    # a worker dies in the middle, by each way to talk
    for transport in ("ipc", "tcp"):
        killed_mid_run(tally, transport, signal.SIGKILL)
    killed_mid_run(tally, "ipc", signal.SIGSTOP)
    killed_while_loading(tally)
    print("workers: done")


def killed_mid_run(tally, transport, number):
    what = f"{'stopped' if number == signal.SIGSTOP else 'killed'} in mid-run over {transport}"
    with Running("run", DEMO, *FOREVER, "--local-workers", 2, "--transport", transport) as running:
        if not tally.check(running.wait_for(r"\w{3}.*\w{3}", "out"), f"{what}: the answer begins", running):
            return
        victims = {pid: command for pid, command in potluck.children(running.pid).items() if "--name w2" in command}
        if not tally.check(len(victims) == 1, f"{what}: there is one local worker w2: {victims}"):
            return
        at = time.monotonic()
        os.kill(next(iter(victims)), number)
        result = running.finish(30)
        seconds = time.monotonic() - at
        tally.check(result.code == 1 and not result.broke, f"{what}: exit code 1 {result.broke}", result)
        tally.check("w2" in result.err and "expert" in result.err, f"{what}: names the worker and its experts", result)
        tally.check(seconds < 2 * potluck.SLOW, f"{what}: {seconds:.2f} s until the end", result)
        tally.check(result.out.strip(), f"{what}: what was printed stays", result)
        tally.check(potluck.wait_until(lambda: not any(potluck.alive(p) for p in victims), 3), f"{what}: no worker is left")
        print(f"{what}: error after {seconds:.2f} s")


def killed_while_loading(tally):
    with potluck.Cluster("run", DEMO, "-p", "x", "--wait-workers", 2, workers=[]) as cluster:
        first = cluster.join("--name", "early", "--once")
        first.wait_for("joined")
        first.signal(signal.SIGKILL)
        first.process.wait()
        cluster.join("--name", "later", "--once")
        result = cluster.finish(30)
        tally.check(not result.broke and (result.code == 0 or "early" in result.err or "joined" in result.err),
                    f"a worker that vanishes before the start: an error naming it, or a replacement {result.broke}", result)


# ---------------------------------------------------------------------------- network


def garbage(rng):
    """(what, function that sends it to an address)"""

    def raw(data, linger=0.0):
        def send(address):
            host, port = address.replace("tcp://", "").rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=5) as s:
                s.sendall(data)
                time.sleep(linger)
        return send

    def peer(*messages, kind=b"DEALER"):
        def send(address):
            p = zmtp.Peer(address, kind)
            for frames in messages:
                p.send(*frames)
            time.sleep(0.05)
            p.close()
        return send

    def wrong_version(address):
        p = zmtp.Peer(address)
        p.send(zmtp.hello(b"future", version=zmtp.VERSION + 1))
        p.socket.settimeout(5)
        answer = p.receive()
        p.close()
        if b"version" not in b"".join(answer):
            raise AssertionError(f"the answer to another version does not say so: {answer}")

    noise = [bytes(rng.randrange(256) for _ in range(n)) for n in (1, 3, 64, 1000, 70000)]
    hello = zmtp.hello(b"stranger")
    return [
        ("nothing", raw(b"")),
        *((f"{len(n)} random bytes", raw(n)) for n in noise),
        ("a web request", raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0.1)),
        ("half a greeting", raw(zmtp.greeting()[:20], 0.1)),
        ("a greeting alone", raw(zmtp.greeting(), 0.1)),
        ("a frame of 2^62 bytes", raw(zmtp.greeting() + zmtp.command(b"READY", zmtp.prop(b"Socket-Type", b"DEALER"))
                                      + struct.pack(">BQ", 2, 1 << 62) + b"x" * 1000, 0.1)),
        ("a peer of another kind", lambda a: raw(zmtp.greeting() + zmtp.command(
            b"READY", zmtp.prop(b"Socket-Type", b"PUB")), 0.1)(a)),
        ("an empty message", peer([b""])),
        ("many empty frames", peer([b""] * 500)),
        ("random frames", peer(*[[n] for n in noise], *[[n, n] for n in noise])),
        ("a cut hello", peer(*[[hello[:n]] for n in range(len(hello))])),
        ("a hello with a frame too many", peer([hello, b"more"])),
        ("a name that steers terminals", peer([zmtp.hello(b"\x1b[2J\xff\n")])),
        ("a name of 100000 bytes", peer([zmtp.hello(b"x" * 100000)])),
        ("an empty name", peer([zmtp.hello(b"")])),
        ("a beat for nobody", peer([zmtp.hello(b"nobody", beat=True)], [zmtp.header(10)])),
        ("replies from a stranger", peer(*[[zmtp.header(kind)] for kind in range(0, 40)])),
        ("a reply for a dispatch of others", peer([hello], [zmtp.header(8, body=zmtp.field(3, 1) + zmtp.field(
            23, zmtp.field(1, 1) + zmtp.field(2, 1) + zmtp.field(3, 256))), b"\0" * 64, b"\0"])),
        ("2000 hellos", peer(*[[zmtp.hello(b"s%d" % i)] for i in range(2000)])),
        ("another version", wrong_version),
    ]


def network(tally):
    """Strangers may send what they like: before the start it must not hinder, in mid-run not disturb."""
    rng = random.Random(1)
    n_tokens = 500 if potluck.SANITIZE else 2000
    plain = run("run", DEMO, "-p", "What is a bridge?", "--temp", 0, "-n", n_tokens, "--ignore-eos", "--ctx", 4096,
                "--json", seconds=120)
    tally.check(plain.code == 0, "the run without disturbance", plain)
    words = ["-p", "What is a bridge?", "--temp", 0, "-n", n_tokens, "--ignore-eos", "--ctx", 4096, "--json"]

    with potluck.Cluster("run", DEMO, *words, "--wait-workers", 1, workers=[]) as cluster:
        sent = send_all(tally, cluster, rng, "before the start", zmtp_names=False)
        cluster.join("--name", "friend", "--once")
        result = cluster.finish(120)
        tally.check(result.code == 0 and not result.broke, f"garbage before the start: the run works {result.broke}", result)
        if result.code == 0:
            tally.check(result.json()["logits_sha256"] == plain.json()["logits_sha256"], "and gives the same bits")

    with potluck.Cluster("run", DEMO, *words, workers=[("--name", "friend")]) as cluster:
        friend = cluster.workers[0]
        friend.wait_for("joined")
        time.sleep(0.3)
        sent = send_all(tally, cluster, rng, "in mid-run")
        tally.check(cluster.coordinator.process.poll() is None, "the run outlasts the garbage", cluster.coordinator)
        result = cluster.finish(120)
        tally.check(result.code == 0 and not result.broke, f"garbage in mid-run: the run goes on {result.broke}", result)
        if result.code == 0:
            tally.check(result.json()["logits_sha256"] == plain.json()["logits_sha256"], "and gives the same bits")
    print(f"network: {sent} kinds of garbage, twice")

    # a member that misbehaves: the run ends with an error that names it
    for what, frames in (("garbage", [b"\xff" * 50]), ("a reply to nothing", [zmtp.header(8)]),
                         ("a message only coordinators send", [zmtp.header(2)])):
        with potluck.Cluster("run", DEMO, "-p", "x", "--wait-workers", 2, workers=[]) as cluster:
            rogue = zmtp.Peer(cluster.address)
            rogue.send(zmtp.hello(b"rogue"))
            rogue.receive()
            rogue.send(*frames)
            cluster.join("--name", "friend", "--once")
            result = cluster.finish(30)
            tally.check(not result.broke and result.code == 1 and "rogue" in result.err,
                        f"a member sends {what}: an error that names it {result.broke}", result)
            rogue.close()
    with potluck.Cluster("run", DEMO, "-p", "x", "--wait-workers", 1, workers=[]) as cluster:
        rogue = zmtp.Peer(cluster.address)
        rogue.send(zmtp.hello(b"silent"))
        result = cluster.finish(30)
        tally.check(not result.broke and result.code == 1 and "silent" in result.err,
                    f"a member that never answers: an error that names it {result.broke}", result)
        print(f"a member that never answers: error after {result.seconds:.1f} s")
        rogue.close()


def send_all(tally, cluster, rng, when, zmtp_names=True):
    sent = 0
    for what, send in garbage(rng):
        if not zmtp_names and what in ("2000 hellos", "a reply for a dispatch of others"):
            continue  # these say hello well and become members that would have to work
        try:
            send(cluster.address)
        except (ConnectionError, TimeoutError, socket.timeout):
            pass  # being cut off is a fair answer
        except AssertionError as e:
            tally.check(False, f"{what} {when}: {e}")
        sent += 1
        if not tally.check(cluster.coordinator.process.poll() is None or "mid" in when and cluster.coordinator.process.poll() == 0,
                           f"{what} {when}: the coordinator lives", cluster.coordinator):
            break
    return sent


# ---------------------------------------------------------------------------- memory


def memory(tally):
    refused(tally, "a context beyond all memory", 1, ["gib", "memory"], "run", DEMO, "-p", "x", "--ctx", 400000000)
    result = run("run", DEMO, "-p", "x", "--ctx", 4294967295, seconds=LIMIT)
    tally.check(result.code in (1, 2) and not result.broke, f"the largest context: an error {result.broke}", result)
    if potluck.SANITIZE:
        return  # they take address space by the terabyte
    for mib in (40, 60, 80, 100, 120, 160, 200, 300):
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
        result = run("run", DEMO, "-p", "What is a bridge?", "-n", 4, "--temp", 0, "--threads", 1, "--ctx", 32768,
                     "--kv", "f32", seconds=LIMIT, preexec=limit)
        tally.check(result.code in (0, 1) and not result.broke,
                    f"{mib} MiB of address space: runs, or says that memory is short {result.broke}", result)
        tally.check(result.code == 0 or "memory" in result.err or "map" in result.err,
                    f"{mib} MiB of address space: the message speaks of memory", result)
    result = run("run", DEMO, "-p", "x", "--local-workers", 2, "--no-local-experts", "--local-worker-args", "--ram 1M",
                 seconds=LIMIT)
    tally.check(result.code == 1 and not result.broke and ("room" in result.err or "fit" in result.err or "need" in result.err),
                "workers without room for the experts: said before loading", result)
    print("memory: done")


def main():
    tally = potluck.Tally("bad_input")
    parts = {"files": files, "requests": requests, "workers": workers, "network": network, "memory": memory}
    for name in sys.argv[1:] or parts:
        parts[name](tally)
        sys.stdout.flush()
    tally.end()


if __name__ == "__main__":
    main()
