#!/usr/bin/env python3
"""Small wrong changes of the engine that cargo-mutants makes up: each must make a test fail.

`make mutants` has those that a person chose, most of which need two threads to be wrong. Called by
make; `table` writes the table of docs/proof.md from the files that were run whole. FILES: what to
change, of the engine, or "src/time/chan"; MUTANTS: only those with this in their names; KNOWN=no:
not those that survivors.txt explains, which take longest; RESUME=1: goes on where the last run was
ended; C_TESTS=no: without the C tests; CASES: sequences of the property test; JOBS: at a time;
CARGO, CC and B (the build directory) are make's.

cargo-mutants only lists the changes; they are applied here, to a copy that is built without
optimisation, part by part, and as no more than one library: a second instead of fifteen. The tests
come in the order in which they are quick to fail, each built when it is needed: the property test
with few sequences, those in the sources, the property test with many, the C tests. All have fixed
seeds.

A change that nothing notices must be in survivors.txt, with the reason; one that is new there, or
of which there are more, fails this.
"""

import collections
import json
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
B = os.path.abspath(os.environ.get("B") or "build")
CARGO = os.environ.get("CARGO") or "cargo"
JOBS = int(os.environ.get("JOBS") or "2")
CASES = os.environ.get("CASES") or "2000"
OUT = os.path.join(B, "cargo-mutants")
TOOL = os.path.join(B, "tools", "bin", "cargo-mutants")
LOG = os.path.join(OUT, "log")
SURVIVORS = os.path.join(HERE, "survivors.txt")
FIGURES = os.path.join(OUT, "figures.json")
PROOF = os.path.join(ROOT, "docs", "proof.md")
ALL = """lifetime modtimer movetimers heap heap/lag timer timer/locked timers timers/held adjust sweep fast run
slab tables pool cache counters writer verify argbox"""
# The files with tests of their own in src/, and which those are.
UNIT_TESTS = {"heap": "heap_test", "lag": "heap_test", "timer": "timer_test scan_test::short", "locked": "timer_test", "adjust": "scan_test", "sweep": "scan_test"}
UNIT_TESTS.update(lifetime="scan_test::frees", fast="scan_test::short", verify="scan_test::verified")
UNIT_TESTS.update(timers="scan_test::published", held="scan_test::p scan_test::short scan_test::repairs")
UNIT_TESTS.update(run="scan_test::p scan_test::a_pass", modtimer="scan_test::short scan_test::published")
UNIT_TESTS.update(pool="pool_test", cache="pool_test")
UNIT_TESTS.update({f: f"{f}::tests" for f in ("slab", "tables", "counters")})
# C tests that take longer are left out: most of them play threads against each other.
QUICK = 1.1  # seconds
SLOW = ("ploop_random_", "gotest_multi_wakeup_ticker")
PROFILE = """
[profile.mutants]
inherits = "dev"
debug = 0
incremental = true

[profile.mutants.package."*"]
opt-level = 2
"""


def fail(text):
    sys.exit("cargo-mutants: " + text)


def install():
    if os.path.exists(TOOL):
        return
    print("cargo-mutants: installing it into", os.path.join(B, "tools"), flush=True)
    root = os.path.join(B, "tools")
    if subprocess.run([CARGO, "install", "--quiet", "--locked", "--root", root, "cargo-mutants"]).returncode:
        fail("it cannot be installed: cargo install --locked cargo-mutants")


class Mutant:
    def __init__(self, m):
        self.file, self.genre, self.new = m["file"], m["genre"], m["replacement"]
        self.place = re.sub(r": .*", "", m["name"])
        self.name = re.sub(r":\d+:\d+: ", ": ", m["name"])
        with open(os.path.join(ROOT, self.file), encoding="utf-8") as f:
            self.text = f.read()
        lines = self.text.splitlines(keepends=True)
        self.begin, self.end = (
            sum(map(len, lines[: at["line"] - 1])) + at["column"] - 1
            for at in (m["span"]["start"], m["span"]["end"])
        )
        if self.genre != "FnValue":
            # Lines move; what stands in them does not.
            self.name += ": `" + lines[m["span"]["start"]["line"] - 1].strip() + "`"

    def changed(self):
        return self.text[: self.begin] + self.new + self.text[self.end :]


def path(name):
    """Of a file by its name in FILES: one of the engine, or "src/time/chan"."""
    return f"{name}.rs" if name.startswith("src/") else f"src/engine/{name}.rs"


def mutants(files, part):
    args = [TOOL, "mutants", "--list", "--json"]
    for f in files:
        args += ["--file", path(f)]
    listed = subprocess.run(args, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        fail("cannot list:\n" + listed.stderr)
    order = [path(f) for f in files]
    found = [Mutant(m) for m in json.loads(listed.stdout)]
    # Neither the checked build nor the tests' own code is what is tested here.
    found = [m for m in found if not re.search(r"(checked|tests)::", m.name)]
    return [m for m in sorted(found, key=lambda m: order.index(m.file)) if part in m.name]


def limit_memory():
    """A change that takes memory for ever ends before the machine's does."""
    resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))


RUNNING = set()  # the tests' process groups


def end(*_):
    for pid in RUNNING.copy():
        os.killpg(pid, signal.SIGKILL)
    os._exit(1)


class Tree:
    """A copy of the sources, in which one change at a time is made and tested."""

    def __init__(self, n):
        self.at = os.path.join(OUT, f"tree-{n}")
        self.env = dict(os.environ, GOTIMER_SEED="1", GOTIMER_SHRINK="0", PROPTEST_MAX_SHRINK_ITERS="0")
        self.env.update(RUST_BACKTRACE="0", MAKEFLAGS="", GT_TEST_SLOW="8")
        for part in ("src", "tests", "include", "docs"):
            shutil.rmtree(os.path.join(self.at, part), ignore_errors=True)
            shutil.copytree(os.path.join(ROOT, part), os.path.join(self.at, part))
        shutil.copy(os.path.join(ROOT, "Cargo.lock"), self.at)
        with open(os.path.join(ROOT, "Cargo.toml"), encoding="utf-8") as f:
            toml = f.read()
        # One kind of library, and no header.
        toml = re.sub(r"(?m)^crate-type = .*", 'crate-type = ["rlib"]', toml)
        toml = re.sub(r"(?ms)^\[build-dependencies\]\n.*?\n(?=\[)", "", toml)
        toml = re.sub(r"(?m)^header = .*\n", "", toml)
        self.write("Cargo.toml", toml + PROFILE)
        self.write("build.rs", 'fn main() {\n    println!("cargo:rerun-if-changed=build.rs");\n}\n')
        # The C tests find the library by their own place.
        self.c = os.path.join(self.at, "c")
        shutil.rmtree(self.c, ignore_errors=True)
        os.makedirs(os.path.join(self.c, "lib"))
        shutil.copy(os.path.join(B, "ctests"), self.c)
        self.c_tests = []

    def write(self, path, text):
        path = os.path.join(self.at, path)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        # Two changes within one tick of the file system's clock must not look the same to cargo.
        now = time.time()
        os.utime(path, (now, now))

    def cargo(self, *args):
        done = subprocess.run([CARGO, *args, "--profile", "mutants", "--message-format", "json", "--quiet"],
                              cwd=self.at, env=self.env, capture_output=True, text=True)
        if done.returncode:
            return None
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def build(self, *what):
        """The program of these tests; None: it does not build."""
        for m in self.cargo("test", "--no-run", *what) or []:
            if m.get("executable"):
                return m["executable"]
        return None

    def run(self, args, seconds, **env):
        """None if it passes; else why not."""
        p = subprocess.Popen(args, cwd=self.at, env=dict(self.env, **env), stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
                             preexec_fn=limit_memory)
        RUNNING.add(p.pid)
        over = []
        timer = threading.Timer(seconds, lambda: (over.append(1), os.killpg(p.pid, signal.SIGKILL)))
        timer.start()
        failed = None
        for line in p.stdout:
            # The first C test that fails is enough.
            if line.startswith("FAIL "):
                failed = line.split()[1]
                os.killpg(p.pid, signal.SIGKILL)
                break
        p.stdout.close()
        status = p.wait()
        RUNNING.discard(p.pid)
        timer.cancel()
        if over:
            return "hangs"
        return failed or (f"status {status}" if status else None)

    def test(self, unit):
        """What notices the change that was made; None: nothing."""
        engine = self.build("--test", "engine")
        stages = [("property test", 10, "50"), ("unit test", 30, ""), ("property test, long", 60, CASES)]
        for what, seconds, cases in stages if unit else stages[::2]:
            args = [self.build("--lib"), *unit.split()] if what == "unit test" else [engine]
            if not args[0]:
                return "does not build"
            why = self.run(args, seconds, GOTIMER_CASES=cases)
            if why:
                return "hangs" if why == "hangs" else what
        return self.test_c()

    def quick_c_tests(self):
        """The C tests that are quick when nothing was changed; measured once for these tests."""
        if not self.build_c():
            fail("the library of the C tests does not build")
        run = [os.path.join(self.c, "ctests"), "--seed", "1", "--jobs", str(JOBS)]
        names = subprocess.run(run + ["--list"], capture_output=True, text=True, env=self.env).stdout.split()
        cache = os.path.join(OUT, "quick.json")
        if os.path.exists(cache):
            with open(cache, encoding="utf-8") as f:
                measured, quick = json.load(f)
            if measured == names:
                return quick
        done = subprocess.run(run + [n for n in names if not n.startswith(SLOW)],
                              capture_output=True, text=True, env=self.env)
        if done.returncode:
            fail("without any change C tests fail:\n" + done.stdout)
        times = re.findall(r"(?m)^ok +(\S+) \((.*) s\)", done.stdout)
        quick = [name for name, seconds in times if float(seconds) <= QUICK]
        with open(cache, "w", encoding="utf-8") as f:
            json.dump([names, quick], f)
        return quick

    def build_c(self):
        built = self.cargo("rustc", "--lib", "--crate-type", "cdylib")
        for m in built or []:
            for f in m.get("filenames") or []:
                if f.endswith("libgotimer.so"):
                    shutil.copy(f, os.path.join(self.c, "lib", "libgotimer.so.0"))
        return built is not None

    def test_c(self):
        if not self.c_tests:
            return None
        if not self.build_c():
            return "does not build"
        # They wait more than they work.
        args = [os.path.join(self.c, "ctests"), "--seed", "1", "--jobs", "8"]
        why = self.run(args + self.c_tests, 120)
        return why and (why if why == "hangs" else "C test " + why)


def read_survivors():
    with open(SURVIVORS, encoding="utf-8") as f:
        return collections.Counter(line.rstrip("\n") for line in f if line.strip() and line[0] not in " #")


def last_results(todo):
    """What the last run, which somebody ended, has found of these. Lines may have moved since."""
    places = {}
    with open(LOG, encoding="utf-8") as f:
        for line in f:
            place, name, why = re.match(r" *[0-9.]+ s  (\S+): (.*): ([^:]*)\n", line).groups()
            places[place, name] = None if why == "NOTHING" else why
    last = collections.defaultdict(list)
    for (place, name), why in places.items():
        last[place.partition(":")[0], name].append(why)
    now = collections.defaultdict(list)
    for m in todo:
        now[m.file, m.name.partition(": ")[2]].append(m)
    return [found for k, ms in now.items() if len(ms) == len(last[k]) for found in zip(ms, last[k])]


def keep_figures(files, results):
    """For `table`: of each file that was run whole, how many changes did what."""
    figures = {}
    if os.path.exists(FIGURES):
        with open(FIGURES, encoding="utf-8") as f:
            figures = json.load(f)
    for name in files:
        mine = [why for m, why in results if m.file == path(name)]
        rest = [mine.count("hangs"), mine.count("does not build"), mine.count(None)]
        figures[name] = [len(mine), len(mine) - sum(rest), *rest]
        print("cargo-mutants: {}.rs: {} changes, {} fail a test, {} hang, {} do not build, nothing notices {}"
              .format(name, *figures[name]))
    with open(FIGURES, "w", encoding="utf-8") as f:
        json.dump(figures, f)


def table():
    """Puts the figures that there are into docs/proof.md; rows of other files stay."""
    with open(FIGURES, encoding="utf-8") as f:
        figures = json.load(f)
    with open(PROOF, encoding="utf-8") as f:
        text = f.read()
    begin, end = "<!-- changes: begin -->\n", "<!-- changes: end -->\n"
    before, _, rest = text.partition(begin)
    old, _, after = rest.partition(end)
    for row in old.splitlines():
        cells = row.strip("| ").split(" | ")
        if cells[0].endswith(".rs"):
            figures.setdefault(cells[0][:-3], [int(c) for c in cells[1:]])
    rows = ["| src/engine | changes | fail a test | hang | do not build | nothing notices |", "|---|---|---|---|---|---|"]
    rows += [f"| {f}.rs | " + " | ".join(map(str, figures[f])) + " |" for f in sorted(figures)]
    with open(PROOF, "w", encoding="utf-8") as f:
        f.write(before + begin + "\n".join(rows) + "\n" + end + after)


def main():
    files = (os.environ.get("FILES") or ALL).split()
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    install()
    todo = mutants(files, os.environ.get("MUTANTS") or "")
    if not todo:
        fail("there is no such change")
    os.makedirs(OUT, exist_ok=True)
    begin = time.time()
    known = read_survivors()
    results = []
    if os.environ.get("KNOWN") == "no":
        names = collections.Counter(m.name for m in todo)
        results += [(m, None) for m in todo if names[m.name] <= known[m.name] or m.name.partition(": `")[0] in known]
    if os.environ.get("RESUME"):
        results += last_results([m for m in todo if m not in (k for k, _ in results)])
    if results:
        done = [m for m, _ in results]
        todo = [m for m in todo if m not in done]
        print(f"cargo-mutants: {len(done)} changes are known or done", flush=True)
    trees = [Tree(n) for n in range(max(1, min(JOBS, len(todo))))]
    why = trees[0].test(UNIT_TESTS.get(files[0]))
    if why:
        fail(f"without any change: {why}")
    quick = [] if os.environ.get("C_TESTS") == "no" else trees[0].quick_c_tests()
    for t in trees:
        t.c_tests = quick
    print(f"cargo-mutants: {len(todo)} changes; {len(quick)} C tests are quick", flush=True)
    work, lock = queue.Queue(), threading.Lock()
    for m in todo:
        work.put(m)
    log = open(LOG, "a" if os.environ.get("RESUME") else "w", encoding="utf-8")

    def worker(tree):
        while True:
            try:
                m = work.get_nowait()
            except queue.Empty:
                return
            start = time.time()
            tree.write(m.file, m.changed())
            why = tree.test(UNIT_TESTS.get(os.path.basename(m.file)[:-3]))
            tree.write(m.file, m.text)
            with lock:
                results.append((m, why))
                print(f"{time.time() - start:5.1f} s  {m.place}: {m.name.partition(': ')[2]}: "
                      f"{why or 'NOTHING'}", file=log, flush=True)

    threads = [threading.Thread(target=worker, args=(t,)) for t in trees]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    by = collections.Counter(re.sub("^C test .*", "C tests", why or "nothing") for _, why in results)
    missed = collections.Counter(m.name for m, why in results if why is None)
    caught = sum(by.values()) - by["nothing"] - by["hangs"] - by["does not build"]
    if not os.environ.get("MUTANTS"):
        keep_figures(files, results)
    print(f"cargo-mutants: {len(results)} changes in {time.time() - begin:.0f} s: {caught} caught, {by['hangs']} that "
          f"hang, {by['does not build']} that do not build, {by['nothing']} that nothing notices")
    # An entry without the line holds for all of its function.
    new = collections.Counter({n: k for n, k in (missed - known).items() if n.partition(": `")[0] not in known})
    with open(os.path.join(OUT, "missed"), "w", encoding="utf-8") as f:
        f.writelines(name + "\n" for name in sorted(missed.elements()))
    if new:
        print(f"cargo-mutants: these have no reason in {os.path.relpath(SURVIVORS, ROOT)}:", file=sys.stderr)
        fail("\n" + "\n".join(sorted(new.elements())))
    plain = {n.partition(": `")[0] for n in missed}
    gone = collections.Counter(k for k in (known - missed).elements() if k not in plain and
                               k.partition(":")[0] in {m.file for m in todo}) if not os.environ.get("MUTANTS") else None
    if gone:
        print("cargo-mutants: these are in survivors.txt, and found or gone:\n" + "\n".join(sorted(gone.elements())))


if __name__ == "__main__":
    table() if sys.argv[1:] == ["table"] else main()
