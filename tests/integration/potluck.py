"""What the integration tests share: running the built programs, reading their results, keeping a tally.

Standard library only. Surroundings, all with defaults for a run from the repository's root:

    POTLUCK_BIN       folder of the build (or installation) that holds the programs
    POTLUCK_SHARED    folder of the reference data
    POTLUCK_SLOW      factor on every time limit: sanitizers make things slow
    POTLUCK_SANITIZE  sanitizers the programs are built with, as -fsanitize= names them
"""
import array
import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SHARED = os.environ.get("POTLUCK_SHARED", os.path.join(ROOT, "..", "shared"))
SLOW = float(os.environ.get("POTLUCK_SLOW", "1"))
SANITIZE = os.environ.get("POTLUCK_SANITIZE", "")
DEMO = os.path.join(ROOT, "deploy", "demo", "potluck-demo.gguf")
SKIPPED = 77  # ctest's SKIP_RETURN_CODE
SANITIZER_EXIT = 99


def tiny(name, suffix=".gguf"):
    return os.path.join(SHARED, "models", "tiny", name + suffix)


def shared_or_skip(*parts):
    """A path in the reference data; ends the test as skipped when it is not there."""
    path = os.path.join(SHARED, *parts)
    if not os.path.exists(path):
        print(f"skipped: {path} is not here (POTLUCK_SHARED says where the reference data is)")
        sys.exit(SKIPPED)
    return path


def program(name="potluck"):
    """The path of a built program."""
    folder = os.environ.get("POTLUCK_BIN", os.path.join(ROOT, "build", "ci"))
    for place in ("", "bin", "coordinator/cli", "worker", "worker/host"):
        path = os.path.join(folder, place, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    sys.exit(f"there is no {name} in {folder}: build it, or say where it is with POTLUCK_BIN")


# ---------------------------------------------------------------------------- running


def environment():
    env = dict(os.environ)
    env["ASAN_OPTIONS"] = f"exitcode={SANITIZER_EXIT}:detect_leaks=1:" + env.get("ASAN_OPTIONS", "")
    env["UBSAN_OPTIONS"] = f"exitcode={SANITIZER_EXIT}:print_stacktrace=1:" + env.get("UBSAN_OPTIONS", "")
    env["TSAN_OPTIONS"] = f"exitcode={SANITIZER_EXIT}:" + env.get("TSAN_OPTIONS", "")
    return env


class Result:
    """How a program ended: code (negative: by that signal; None: it hung and was killed), out, err."""

    def __init__(self, command, code, out, err, seconds):
        self.command = command
        self.code = code
        self.out = out
        self.err = err
        self.seconds = seconds

    @property
    def broke(self):
        """Why this is a fault of the program's whatever was asked of it, or ''."""
        if self.code is None:
            return f"no end within {self.seconds:.0f} s"
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        if self.code == SANITIZER_EXIT or "ERROR: AddressSanitizer" in self.err or "runtime error:" in self.err \
                or "WARNING: ThreadSanitizer" in self.err or "ERROR: LeakSanitizer" in self.err:
            return "a sanitizer's report"
        return ""

    def json(self):
        return json.loads(self.out)

    def shown(self):
        """For a failure's report: what to type, and what came of it."""
        text = f"    $ {' '.join(quoted(word) for word in self.command)}\n    exit {self.code}, {self.seconds:.2f} s"
        for name, value in (("stdout", self.out), ("stderr", self.err)):
            if value.strip():
                tail = value.strip()[-1500:].replace("\n", "\n    | ")
                text += f", {name}:\n    | {tail}"
        return text


def quoted(word):
    return word if re.fullmatch(r"[\w./:,=@%+-]+", word) else "'" + word.replace("'", "'\\''") + "'"


class Running:
    """A program in the background. Its output goes to files, so that nothing blocks."""

    def __init__(self, *args, name="potluck", stdin=None, preexec=None):
        self.command = [program(name)] + [str(a) for a in args]
        self.out_file = tempfile.TemporaryFile()
        self.err_file = tempfile.TemporaryFile()
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=self.out_file, stderr=self.err_file, env=environment(), start_new_session=True,
            preexec_fn=preexec)
        if stdin is not None:
            try:
                self.process.stdin.write(stdin)
                self.process.stdin.close()
            except BrokenPipeError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.out_file.close()
        self.err_file.close()

    @property
    def pid(self):
        return self.process.pid

    def text(self, which="err"):
        f = self.err_file if which == "err" else self.out_file
        return os.pread(f.fileno(), 1 << 26, 0).decode("utf-8", "replace")

    def wait_for(self, pattern, which="err", seconds=20):
        """The match of a pattern in what was printed so far; None when it does not come."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            found = re.search(pattern, self.text(which))
            if found or time.monotonic() > deadline:
                return found
            if self.process.poll() is not None:
                return re.search(pattern, self.text(which))
            time.sleep(0.01)

    def signal(self, number):
        self.process.send_signal(number)

    def finish(self, seconds=60):
        """Waits for the end; kills when it does not come in time."""
        limit = seconds * SLOW
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        return Result(self.command, code, self.text("out"), self.text("err"), time.monotonic() - self.started)


def run(*args, seconds=60, stdin=None, name="potluck", preexec=None):
    with Running(*args, name=name, stdin=stdin, preexec=preexec) as running:
        return running.finish(seconds)


def children(pid):
    """{pid: command line} of a process's children."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as f:
                stat = f.read()
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                command = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        after = stat[stat.rindex(")") + 2:].split()
        if int(after[1]) == pid and after[0] != "Z":
            found[int(entry)] = command
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition, seconds=5):
    deadline = time.monotonic() + seconds * SLOW
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


def isas():
    """Names for --isa that this machine can run, slowest first."""
    names = ["scalar", "avx2-plain", "avx2", "avx512-plain", "avx512", "neon"]
    ids = os.path.join(scratch(), "isa.ids")
    with open(ids, "w") as f:
        f.write("1")
    return [n for n in names
            if run("eval", DEMO, "--tokens", ids, "--isa", n, "--threads", 1, "--ctx", 16, "-q").code == 0]


_scratch = None


def scratch():
    """A folder that goes when the test ends."""
    global _scratch
    if _scratch is None:
        import atexit
        _scratch = tempfile.mkdtemp(prefix="potluck-test-")
        atexit.register(shutil.rmtree, _scratch, True)
    return _scratch


def write_ids(name, ids):
    path = os.path.join(scratch(), name)
    with open(path, "w") as f:
        json.dump(ids, f)
    return path


class Cluster:
    """A coordinator that listens, and workers started by hand, each with options of its own."""

    def __init__(self, command, model, *args, workers, listen="127.0.0.1:0", wait=60):
        self.coordinator = Running(command, model, "--listen", listen, "--wait-workers", len(workers),
                                   "--wait-timeout", f"{int(wait * SLOW)}s", *args)
        self.workers = []
        found = self.coordinator.wait_for(r"listening on (\S+)")
        self.address = found.group(1) if found else None
        if not found:
            return
        for i, options in enumerate(workers):
            self.join("--name", f"hand{i + 1}", "--once", *options)

    def join(self, *options, name="potluck-worker"):
        first = ["join"] if name == "potluck" else []
        worker = Running(*first, self.address, *options, name=name)
        self.workers.append(worker)
        return worker

    def finish(self, seconds=60):
        return self.coordinator.finish(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for running in [self.coordinator] + self.workers:
            running.__exit__()


# ---------------------------------------------------------------------------- results


def read_npy(path):
    """(shape, flat array) of a float32 or int16 array file."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:6] != b"\x93NUMPY":
        raise ValueError(f"{path} is not an array file")
    if data[6] == 1:
        n_header, at = struct.unpack_from("<H", data, 8)[0], 10
    else:
        n_header, at = struct.unpack_from("<I", data, 8)[0], 12
    header = data[at:at + n_header].decode("latin-1")
    if "'fortran_order': False" not in header:
        raise ValueError(f"{path} is not in C order")
    kind = re.search(r"'descr': '([^']+)'", header).group(1)
    shape = tuple(int(n) for n in re.search(r"'shape': \(([^)]*)\)", header).group(1).split(",") if n.strip())
    values = array.array({"<f4": "f", "<i2": "h"}[kind])
    values.frombytes(data[at + n_header:])
    if sys.byteorder == "big":
        values.byteswap()
    if len(values) != math.prod(shape):
        raise ValueError(f"{path} has {len(values)} numbers, its shape {shape} wants {math.prod(shape)}")
    return shape, values


def max_abs_diff(a, b):
    """The largest difference; infinite when one is not a number."""
    worst = 0.0
    for x, y in zip(a, b):
        d = abs(x - y)
        if not d <= worst:
            if d != d:
                return math.inf
            worst = d
    return worst


def log_softmax(row):
    top = max(row)
    norm = top + math.log(math.fsum(math.exp(x - top) for x in row))
    return [x - norm for x in row]


def kl(expected_row, row):
    """KL(expected || row) of two rows of logits, natural logarithm."""
    p, q = log_softmax(expected_row), log_softmax(row)
    value = math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q))
    return math.inf if value != value else value


def kl_rows(expected, values, n_columns):
    """(mean, max) over the rows."""
    all_kl = [kl(expected[i:i + n_columns], values[i:i + n_columns])
              for i in range(0, len(expected), n_columns)]
    return sum(all_kl) / len(all_kl), max(all_kl)


# ---------------------------------------------------------------------------- tally


class Tally:
    """Counts what held and what did not, and says so at the end."""

    def __init__(self, title):
        self.title = title
        self.n_good = 0
        self.n_bad = 0
        self.started = time.monotonic()

    def check(self, good, what, result=None):
        """result: a Result, or a Running (ended when the check fails), shown with the failure."""
        if good:
            self.n_good += 1
        else:
            self.n_bad += 1
            print(f"FAILED  {what}")
            if isinstance(result, Running):
                result = result.finish(0.2)
            if result is not None:
                print(result.shown())
            sys.stdout.flush()
        return good

    def end(self):
        print(f"\n{self.title}: {self.n_good + self.n_bad} checks, {self.n_bad} failed, "
              f"{time.monotonic() - self.started:.1f} s")
        sys.exit(1 if self.n_bad or not self.n_good else 0)


def table(head, rows):
    """Prints columns, numbers to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head] + rows) for i in range(len(head))]
    for row in [head] + rows:
        cells = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
    sys.stdout.flush()
