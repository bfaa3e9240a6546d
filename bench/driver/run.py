"""The driver of the benchmark: runs the programs one at a time, round by round, so that all see the same weather, and
collects what they print.

  run.py --programs build/bench --out bench/results/full.json        the full run
  run.py --programs build/bench --out build/bench/quick.json --quick  our own workloads and floors, under a minute

Python 3 and its standard library only."""

import argparse
import json
import os
import subprocess
import sys
import time

import plan
import report
from results import Results, machine


def note(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


class Driver:
    def __init__(self, options):
        self.options = options
        self.results = Results()
        self.programs = {}  # path below the directory: workloads
        self.dead = {}      # (program, workload): the smallest n that was too much
        self.begin = time.monotonic()

    def find(self, names):
        for name in names:
            path = os.path.join(self.options.programs, name)
            if not os.access(path, os.X_OK):
                if name in plan.OWN:
                    sys.exit(f"run.py: {path} is missing: make bench-quick builds it")
                self.results.skipped.append([name.split("/")[1], "all", 0, 0, "not built: its package is not installed"])
                continue
            out = subprocess.run([path, "--list"], capture_output=True, text=True, timeout=30)
            if out.returncode != 0:
                self.results.skipped.append([name.split("/")[1], "all", 0, 0, "does not start"])
                continue
            about = json.loads(out.stdout)
            self.programs[name] = about.pop("workloads")
            known = self.results.peers.setdefault(about["peer"], about)
            known["notes"].update(about["notes"])

    def call(self, name, point, reps):
        """One run of one program; what it prints is kept."""
        workload, n, threads = point
        if workload not in self.programs[name] or n >= self.dead.get((name, workload), n + 1):
            return
        command = [os.path.join(self.options.programs, name), workload, str(n), str(threads),
                   "--seed", str(self.options.seed), "--reps", str(reps)]
        if self.options.quick:
            command.append("--quick")
        note(f"{time.monotonic() - self.begin:5.0f} s  {name} {workload} {n} {threads}")
        why = ""
        try:
            out = subprocess.run(command, capture_output=True, text=True, timeout=self.options.limit)
            if out.returncode != 0:
                why = (out.stderr.strip().splitlines() or [f"status {out.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            why = f"over {self.options.limit} s"
        if why:
            self.dead[(name, workload)] = n
            self.results.skipped.append([name.split("/")[1], workload, n, threads, why])
            print(f"\r{name} {workload} {n}: {why}", file=sys.stderr)
            return
        for line in out.stdout.splitlines():
            self.results.add(json.loads(line))

    def round(self, points, reps=3, turn=0, only=None):
        """Each point by every program in turn; who comes first changes from round to round."""
        for point in points:
            workload, n, _ = point
            if not self.fits(n):
                continue
            names = [p for p in self.programs if only is None or only(p, workload)]
            k = turn % len(names) if names else 0
            for name in names[k:] + names[:k]:
                if name == "own/floor" and workload not in plan.FLOORS:
                    continue
                self.call(name, point, reps)

    @staticmethod
    def fits(n, each=600):
        """A program may take so many bytes for each timer."""
        with open("/proc/meminfo") as f:
            available = next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) * 1024
        return n * each < available

    def full(self):
        o = self.options
        self.find(plan.OWN + plan.PEERS)
        wanted = o.only.split(",") if o.only else None
        chosen = [p for p in plan.POINTS if wanted is None or p[0] in wanted]
        if wanted is not None:  # and their floors
            chosen += [p for p in plan.POINTS if p not in chosen and p[0] in {plan.FLOOR_OF.get(w) for w in wanted}]
            only = lambda p, w: p == "own/floor" or w in wanted  # noqa: E731
        else:
            only = None
        for r in range(o.rounds):
            self.round(chosen, turn=r, only=only)
            print(f"\rround {r + 1} of {o.rounds} done after {time.monotonic() - self.begin:.0f} s", file=sys.stderr)
        if wanted is None:
            for r in range(o.more_rounds):
                largest = min(o.growth_max, 10**7 if r == 0 else plan.LARGE)
                self.round([p for p in plan.GROWTH if p[1] <= largest] + plan.SCALING, reps=2, turn=r)
            for r in range(2):
                self.round(plan.ONCE, reps=3, turn=r)
            if o.growth_max >= 10**7 and self.fits(plan.LARGEST[1], plan.LARGEST_BYTES):
                for name in ("own/floor", "own/gotimer"):
                    self.call(name, plan.LARGEST, 1)

    def quick(self):
        """Rows that fall short are measured again, as long as there is time: noise only makes slower."""
        self.find(plan.OWN + [p for p in plan.QUICK_PEERS if os.path.exists(os.path.join(self.options.programs, p))])
        wants = lambda p, w: p not in plan.QUICK_PEERS or w in plan.QUICK_PEERS[p]  # noqa: E731
        small = [p for p in plan.POINTS if p[1] < plan.LARGE and p[0] != "W7"]
        self.round(plan.POINTS, only=wants)
        self.round([("hold", plan.LARGE, 1)], reps=2)
        self.round(small, turn=1, only=wants)
        tried = 0
        while tried < 3 and time.monotonic() - self.begin < 42:
            short = {t.key[1] for t, v in report.verdicts(self.results, self.options.stored) if not v.must_holds(plan.NOISE)}
            points = [p for p in plan.POINTS if short & {p[0], p[0] + "both"}]
            if not points:
                break
            self.round(points, turn=tried, only=wants)
            tried += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", default="build/bench")
    parser.add_argument("--out", required=True)
    parser.add_argument("--stored", default="bench/results/full.json", help="earlier results, for what is not measured now")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--more-rounds", type=int, default=2, help="of the growth and the threads")
    parser.add_argument("--growth-max", type=int, default=10**7, help="the largest N of the growth")
    parser.add_argument("--limit", type=int, default=150, help="seconds for one call of a program")
    parser.add_argument("--only", help="W1,W3,...: these workloads")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    stored = Results.load(options.stored) if os.path.exists(options.stored) else None
    options.stored = stored
    driver = Driver(options)
    driver.results.about = dict(machine(), rounds=options.rounds, seed=options.seed, quick=options.quick)
    if options.quick:
        driver.quick()
    else:
        driver.full()
    note("")
    driver.results.save(options.out)
    if options.quick:
        return report.print_quick(driver.results, stored, time.monotonic() - driver.begin)
    with open(os.path.splitext(options.out)[0] + ".md", "w") as f:
        f.write(report.document(driver.results))
    report.print_quick(driver.results, None, time.monotonic() - driver.begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
