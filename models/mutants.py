#!/usr/bin/env python3
"""Mutations: small wrong changes of the library, each of which some test must find.

mutations.txt lists them as edits of the sources. Usage, from the project's directory:

  mutants.py check            each edit still applies, each ordering above Relaxed is in one, and
                              docs/orderings.md is up to date
  mutants.py table            writes the tables of docs/orderings.md
  mutants.py run [NAME...]    applies each mutation to a copy, runs the test that it names, and
                              fails if that passes
  mutants.py find NAME...     names the first models that fail with it, quickest first; of C tests
                              all that fail (ONLY="part of a name ...": of these)
  mutants.py models NAME...   runs all models with it

Environment: CARGO, TARGET (cargo's target directory; the copy is below it); for run EVERY=N: each
Nth of the list only, beginning with another one each day.
"""

import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
LIST = os.path.join(HERE, "mutations.txt")
TABLE = os.path.join(ROOT, "docs", "orderings.md")
TARGET = os.path.abspath(os.environ.get("TARGET") or "target")
CARGO = os.environ.get("CARGO") or "cargo"
COPY = os.path.join(TARGET, "mutants", "tree")
LIMIT = 1000  # seconds for one test
KINDS = ("loom", "shuttle", "rust", "c", "faults", "tsan", "none")
# Of the kinds that make builds: the target, which is the program, and the most seconds of a test.
MADE = {"c": ("build/ctests", "20"), "faults": ("build/faults/faults", "150"), "tsan": ("build/tsan/ctests", "150")}


def fail(text):
    sys.exit("mutants: " + text)


class Edit:
    """Lines of a file, some of which go (-) and some of which come (+)."""

    def __init__(self, path):
        self.path = path
        self.lines = []

    def places(self, lines):
        """Where the old lines stand, and how many they are."""
        old = [line[1:].strip() for line in self.lines if line[0] in " -"]
        bare = [line.strip() for line in lines]
        return [i for i in range(len(bare)) if bare[i : i + len(old)] == old], len(old)

    def apply(self, text):
        """The text with the edit; None unless the old lines stand there exactly once."""
        lines = text.split("\n")
        at, length = self.places(lines)
        if len(at) != 1:
            return None
        new = []
        i = at[0]
        for line in self.lines:
            if line[0] == "+":
                new.append(line[1:])
            else:
                if line[0] == " ":
                    new.append(lines[i])
                i += 1
        return "\n".join(lines[: at[0]] + new + lines[at[0] + length :])


class Mutation:
    def __init__(self, name, part):
        self.name, self.part = name, part
        self.what = self.change = self.by = ""
        self.edits = []

    @property
    def kind(self):
        return self.by.split(None, 1)[0].rstrip(":")

    @property
    def test(self):
        return (self.by.split(None, 1) + [""])[1]


def read_list():
    """All mutations, in order."""
    found, part = [], ""
    with open(LIST, encoding="utf-8") as f:
        for no, line in enumerate(f, 1):
            line = line.rstrip("\n")
            key, _, value = line.partition(": ")
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("== "):
                part = line[3:]
            elif line.startswith("[") and line.endswith("]"):
                found.append(Mutation(line[1:-1], part))
            elif not found:
                fail(f"{LIST}:{no}: what is this?")
            elif line[0] in " -+":
                if not found[-1].edits:
                    fail(f"{LIST}:{no}: of which file?")
                found[-1].edits[-1].lines.append(line)
            elif key in ("what", "change", "by"):
                setattr(found[-1], key, value)
            elif key == "in":
                found[-1].edits.append(Edit(value))
            else:
                fail(f"{LIST}:{no}: what is this?")
    names = [m.name for m in found]
    for m in found:
        if names.count(m.name) > 1 or not (m.what and m.change and m.edits) or m.kind not in KINDS:
            fail(f"{m.name}: named twice, or something is missing")
    return found


def mutated(m, root=ROOT):
    """path -> text with the mutation."""
    texts = {}
    for edit in m.edits:
        text = texts.get(edit.path)
        if text is None:
            with open(os.path.join(root, edit.path), encoding="utf-8") as f:
                text = f.read()
        text = edit.apply(text)
        if text is None:
            fail(f"{m.name}: its text does not stand exactly once in {edit.path}:\n" + "\n".join(edit.lines))
        texts[edit.path] = text
    return texts


def where(m):
    """The tests that find it, for the table."""
    if m.kind == "none":
        return "nothing: " + m.test
    if m.kind in ("loom", "shuttle"):
        return f"`{m.test}`"
    return {"rust": "`cargo test` ", "c": "C test ", "faults": "fault test ", "tsan": "ThreadSanitizer, C test "}[m.kind] + f"`{m.test}`"


def table(found):
    """docs/orderings.md with its tables."""
    caught = [m for m in found if m.kind != "none"]
    out = [f"{len(found)} mutations; {len(caught)} of them are caught.", ""]
    for part in dict.fromkeys(m.part for m in found):
        out += [f"## {part}", "", "| what stands there, and why | mutation | its name | what fails |", "|---|---|---|---|"]
        for m in found:
            if m.part == part:
                out.append(f"| {m.what} | {m.change} | `{m.name}` | {where(m)} |")
        out.append("")
    with open(TABLE, encoding="utf-8") as f:
        text = f.read()
    begin, end = "<!-- mutations: begin -->\n", "<!-- mutations: end -->"
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    return text, head + begin + "\n" + "\n".join(out) + "\n" + end + tail


# Where there is nothing to be mutated: what stands in for SeqCst in loom, and a hook of the benchmark.
NOT_ASKED = re.compile(r"^src/model/|_test\.rs$|/scan_test/|^src/sync/mod\.rs$")
STRONG = re.compile(r"\b(Acquire|Release|AcqRel|SeqCst)\b")


def unasked(found):
    """Orderings above Relaxed that no mutation touches."""
    touched = {}
    for edit in (e for m in found for e in m.edits):
        with open(os.path.join(ROOT, edit.path), encoding="utf-8") as f:
            at, length = edit.places(f.read().split("\n"))
        touched.setdefault(edit.path, set()).update(i for a in at for i in range(a, a + length))
    for d, _, names in os.walk(os.path.join(ROOT, "src")):
        for path in (os.path.relpath(os.path.join(d, n), ROOT) for n in names if n.endswith(".rs")):
            if NOT_ASKED.search(path):
                continue
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                text = f.read().split("\n#[cfg(test)]\nmod ")[0]
            text = re.sub(r"^mod holds \{.*?^\}", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
            for i, line in enumerate(text.split("\n")):
                code = line.split("//")[0]
                plain = code.strip().startswith("use ") or "sc_fence(" in code
                if STRONG.search(code) and not plain and i not in touched.get(path, ()):
                    yield f"{path}:{i + 1}: {line.strip()}"


def check(found):
    for m in found:
        mutated(m)
    rest = list(unasked(found))
    if rest:
        fail("orderings without a mutation in models/mutations.txt:\n" + "\n".join(rest))
    was, now = table(found)
    if was != now:
        fail("docs/orderings.md is not what models/mutations.txt gives. Mend it with: make orderings")
    print(f"mutants: {len(found)} edits apply, and docs/orderings.md is up to date")


def refresh():
    """Makes the copy what the project is now; what has not changed is not touched."""
    kept = ["src", "tests", "Cargo.toml", "Cargo.lock", "build.rs", "cbindgen.toml", "docs", "ctests", "faults", "soak", "include", "Makefile"]
    for top in kept:
        source = os.path.join(ROOT, top)
        files = [source]
        if os.path.isdir(source):
            files = [os.path.join(d, f) for d, _, fs in os.walk(source) for f in fs]
        names = set()
        for file in files:
            name = os.path.relpath(file, ROOT)
            names.add(name)
            with open(file, "rb") as f:
                data = f.read()
            put(name, data)
        old = os.path.join(COPY, top)
        for d, _, fs in os.walk(old):
            for f in fs:
                name = os.path.relpath(os.path.join(d, f), COPY)
                if name not in names:
                    os.remove(os.path.join(COPY, name))


def put(name, data):
    path = os.path.join(COPY, name)
    if os.path.exists(path):
        with open(path, "rb") as f:
            if f.read() == data:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def command(args, log, limit=None, **more):
    env = dict(os.environ, MAKEFLAGS="", RUST_BACKTRACE="0")
    env.update(CARGO_PROFILE_RELEASE_LTO="off", CARGO_PROFILE_RELEASE_CODEGEN_UNITS="16", CARGO_PROFILE_RELEASE_INCREMENTAL="true")
    env.update(more)
    with open(log, "ab") as f:
        try:
            done = subprocess.run(args, cwd=COPY, env=env, stdout=f, stderr=f, timeout=limit)
        except subprocess.TimeoutExpired:
            return None
    return done.returncode


def link_or_copy(source, target):
    """Libraries are written anew when they change; what cargo writes over in place is copied."""
    if source.endswith((".rlib", ".rmeta", ".so")):
        try:
            return os.link(source, target)
        except OSError:
            pass
    return shutil.copy2(source, target)


def lend(kind):
    """What the project's own builds have built of others, by the same flags, is not built again."""
    source = "debug" if kind == "rust" else "" if kind in MADE else os.path.join(kind, "release")
    if not source:  # by other flags
        return
    target = os.path.join(TARGET, "mutants", kind, os.path.basename(source))
    source = os.path.join(TARGET, source)
    if os.path.isdir(source) and not os.path.exists(target):
        ours = shutil.ignore_patterns("*gotimer*", "engine-*", "corpus-*", "incremental", ".cargo-lock")
        shutil.copytree(source, target, ignore=ours, copy_function=link_or_copy)


def build(kind, log):
    """The test program of this kind, of the copy as it is."""
    target = os.path.join(TARGET, "mutants", "c" if kind in MADE else kind)
    lend(kind)
    if kind in MADE:
        program, _ = MADE[kind]
        args = ["make", "--no-print-directory", "-j2", program, "RELEASE_FEATURES="]
        ok = command(args, log, TARGET=target, CARGO_TARGET_DIR=target, CARGO=CARGO) == 0
        return [os.path.join(COPY, program)] if ok else None
    args = CARGO.split() + ["test", "--quiet", "--no-run", "--target-dir", target, "--message-format", "json-render-diagnostics"]
    args += ["--lib", "--test", "engine"] if kind == "rust" else ["--release", "--lib"]
    flags = "" if kind == "rust" else f"--cfg gt_{kind}"
    if command(args, log, RUSTFLAGS=flags) != 0:
        return None
    with open(log, encoding="utf-8", errors="replace") as f:
        return re.findall(r'"executable":"([^"]+)"', f.read())


def test(m, kind, programs, name, log):
    """Runs one test. 'fails', 'passes', or 'hangs'."""
    more = dict(GT_SEED="1", GOTIMER_SEED="2", GT_SCHEDULES="100000", GT_SCHEDULE_DIR=os.path.dirname(log))
    ran = False
    for program in programs:
        if kind in MADE:
            # What is unchanged must not fail since the machine is slow.
            args = [program, "--limit", MADE[kind][1] if m else "900"] + name.split()
        elif kind == "rust":
            args = [program, name]
        else:
            args = [program, "--exact", "model::" + name]
        begin = os.path.getsize(log)
        if m and kind == "faults":
            more.update(GT_PLANT="mutation")  # of no case: what is lost is told after 10 s (l_patience)
        if kind == "tsan":
            more.update(GT_TEST_SLOW="8", TSAN_OPTIONS="halt_on_error=1")
        status = command(args, log, LIMIT, **more)
        if status is None:
            return "hangs"
        with open(log, encoding="utf-8", errors="replace") as f:
            f.seek(begin)
            text = f.read()
        if kind in MADE:
            ran |= re.search(r"^(faults: )?[1-9]\d* passed|[1-9]\d* failed", text, re.M) is not None
        else:
            ran |= re.search(r"^running [1-9]", text, re.M) is not None
        if status != 0:
            return "fails" if ran else "did not run"
    return "passes" if ran else "did not run"


def with_mutation(m, kind, use):
    """Applies it to the copy, builds, and calls use(programs, log); then takes it back."""
    log = os.path.join(TARGET, "mutants", m.name + ".log")
    open(log, "wb").close()
    texts = mutated(m, COPY)
    for path, text in texts.items():
        put(path, text.encode())
    try:
        programs = build(kind, log)
        if not programs:
            fail(f"{m.name}: does not compile; see {log}")
        return use(programs, log)
    finally:
        for path in texts:
            with open(os.path.join(ROOT, path), "rb") as f:
                put(path, f.read())


def run(found):
    """Each mutation must be caught by the test that it names, which passes without it."""
    begin, wrong = time.time(), []
    wanted = [m for m in found if m.kind != "none"]
    every = int(os.environ.get("EVERY") or "1")
    if every > 1:  # another part each day
        first = time.gmtime().tm_yday % every
        print(f"mutants: each {every}th of {len(wanted)}, from number {first + 1} on", flush=True)
        wanted = wanted[first::every]
    for kind in KINDS:
        mine = [m for m in wanted if m.kind == kind]
        if not mine:
            continue
        log = os.path.join(TARGET, "mutants", f"unchanged-{kind}.log")
        open(log, "wb").close()
        programs = build(kind, log)
        if not programs:
            fail(f"the unchanged library does not build; see {log}")
        for name in dict.fromkeys(m.test for m in mine):
            result = test(None, kind, programs, name, log)
            if result != "passes":
                fail(f"{name} {result} without any mutation; see {log}")
        for m in mine:
            result = with_mutation(m, kind, lambda p, log: test(m, kind, p, m.test, log))
            # A test in C that waits for ever has its limit; a model has its own bounds.
            good = result == "fails"
            print(f"mutants: {m.name} {'is caught by' if good else 'is NOT caught by'} {m.test}", flush=True)
            if not good:
                wrong.append(m.name)
    for m in found:
        if m.kind == "none":
            mutated(m)
            print(f"mutants: {m.name} has no test: see docs/orderings.md")
    if wrong:
        fail(f"{len(wrong)} mutations are not caught: {' '.join(wrong)}")
    print(f"mutants: {len(wanted)} mutations caught, {sum(m.kind == 'none' for m in found)} explained, in {time.time() - begin:.0f} s")


def find_c(m):
    """The C tests or fault tests that fail with it, quickest first."""

    def use(programs, log):
        command(programs + ["--limit", MADE[m.kind][1]] + os.environ.get("ONLY", m.test).split(), log)
        with open(log, encoding="utf-8", errors="replace") as f:
            hits = re.findall(r"^FAIL (\S+) \((\S+) s\)", f.read(), re.M)
        return [f"{name} {s}" for name, s in sorted(hits, key=lambda hit: float(hit[1]))]

    print(m.name, with_mutation(m, m.kind, use), flush=True)


def find(m, all_tests):
    if m.kind in MADE:
        return find_c(m)
    names = all_tests()
    kind = m.kind if m.kind in ("loom", "shuttle") else "loom"

    def use(programs, log):
        hits = []
        for name in names:
            result = test(m, kind, programs, name, log)
            if result != "passes":
                hits.append(f"{name} ({result})")
                if len(hits) == int(os.environ.get("WANT", "2")):
                    break
        return hits

    print(m.name, with_mutation(m, kind, use), flush=True)


def times():
    """The models in the order in which they are quick: hand-written ones first."""
    order = os.environ.get("TIMES")
    if not order:
        fail("TIMES: a file with lines of seconds and names of models")
    with open(order, encoding="utf-8") as f:
        rows = sorted((float(t), n) for t, n in (line.split() for line in f))
    only = re.compile(os.environ.get("ONLY", ""))
    return [n.removeprefix("model::") for _, n in rows if only.search(n)]


def main():
    what, names = (sys.argv + [""])[1], sys.argv[2:]
    found = read_list()
    unknown = [n for n in names if n not in [m.name for m in found]]
    if unknown:
        fail(f"there is no {unknown[0]}")
    chosen = [m for m in found if m.name in names] if names else found
    os.makedirs(COPY, exist_ok=True)
    if what == "check":
        check(found)
    elif what == "table":
        _, text = table(found)
        with open(TABLE, "w", encoding="utf-8") as f:
            f.write(text)
    elif what in ("run", "find"):
        for m in chosen:
            mutated(m)
        refresh()
        if what == "run":
            run(chosen)
        else:
            for m in chosen:
                find(m, times)
    else:
        fail("what is to be done? check, table, run [NAME...], find NAME...")


if __name__ == "__main__":
    main()
