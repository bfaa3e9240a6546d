"""What is measured, by which programs, and what must come out: the table of targets.

A point is (workload, n, threads). A result is keyed by (peer, workload, n, threads): one program may print results of
several peers (the two raw waits) and workloads (W3 and W3both)."""

import os

CPUS = len(os.sched_getaffinity(0))
TEAM = max(1, min(4, CPUS))  # threads of W5 and W6
SMALL, LARGE = 10**4, 10**6
OURS = "libgotimer"

# program below build/bench, in the order of the tables. Only own/ is needed for the quick run.
OWN = ["own/floor", "own/gotimer", "own/runtime", "own/waits", "own/hold"]
PEERS = ["peers/gocore", "peers/gopublic", "peers/libev", "peers/libevent", "peers/libuv", "peers/asio", "peers/tokio",
         "peers/wheel", "peers/dpdk", "peers/glib"]
# What the quick run also asks, where an earlier full run has left the program: {program: workloads}.
QUICK_PEERS = {"peers/libev": ["W3", "W4"], "peers/asio": ["W7"]}

POINTS = [
    ("W1", SMALL, 1), ("W1", LARGE, 1), ("W1roll", SMALL, 1), ("W2", SMALL, 1), ("W2new", SMALL, 1),
    ("W3", SMALL, 1), ("W3", LARGE, 1), ("W4", SMALL, 1), ("W5", SMALL, TEAM), ("W6", SMALL, TEAM), ("W6", SMALL, 1),
    ("W7", 500, 1), ("W8", LARGE, 1),
]
ONCE = [("hold", LARGE, 1), ("pause", LARGE, 1)]  # they repeat inside
GROWTH = [(w, 10**k, 1) for w in ("W1", "W3") for k in range(2, 8)]
# The largest is for ourselves and the floor alone, where memory allows: it takes bytes for each timer.
LARGEST, LARGEST_BYTES = ("W1", 10**8, 1), 110
THREADS = sorted({1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, CPUS} & set(range(1, CPUS + 1)))
SCALING = [(w, SMALL, t) for w in ("W5", "W6") for t in THREADS]

# The floor is asked for these only; W1roll, W2 and W2new have the floor of W1.
FLOOR_OF = {"W1": "W1", "W1roll": "W1", "W2": "W1", "W2new": "W1", "W3": "W3", "W3both": "W3both", "W5": "W5", "W6": "W6"}
FLOORS = {"W1": "F1", "W3": "F3", "W3both": "F3", "W5": "F5", "W6": "F6"}
HOLDS = ["cancel", "shorten", "jump", "burst", "churn", "adopt", "free", "trim", "stale"]
MORE_HOLDS = ["arm"]  # shown, not judged
PAUSES = ["cancel", "shorten", "burst", "churn"]


class Target:
    """One line of the table. kind: "ratio" (ours by that of `to`, at most), "value" (ours itself, at most), "speedup"
    (one thread's ns by those of the team, at least), "hold" (the longest of all holds, us, at most)."""

    def __init__(self, name, kind, key, to, must, stretch, unit="ns", field=None):
        self.name, self.kind, self.key, self.to = name, kind, key, to
        self.must, self.stretch, self.unit, self.field = must, stretch, unit, field


def _floor(name, workload, n, must, stretch, threads=1):
    to = ("floor", FLOOR_OF[workload], n, threads)
    return Target(name, "ratio", (OURS, workload, n, threads), to, must, stretch)


def _libev(name, workload, n, must, stretch):
    return Target(name, "ratio", (OURS, workload, n, 1), ("libev", workload, n, 1), must, stretch)


TARGETS = [
    _floor("W1 10^4", "W1", SMALL, 2.2, 1.6),
    _floor("W1 10^6", "W1", LARGE, 2.0, 1.6),
    _floor("W1roll 10^4", "W1roll", SMALL, 2.4, 1.8),
    _floor("W2 reuse", "W2", SMALL, 5, 3),
    _floor("W2 new+free", "W2new", SMALL, 7, 4),
    _floor("W3 fire 10^4", "W3", SMALL, 6, 3.5),
    _floor("W3 fire 10^6", "W3", LARGE, 3, 2),
    _libev("W3 arm+fire 10^4", "W3both", SMALL, 0.75, 0.5),
    _libev("W3 arm+fire 10^6", "W3both", LARGE, 0.4, 0.3),
    _libev("W4 tickers", "W4", SMALL, 0.8, 0.55),
    _floor(f"W5 {TEAM} threads", "W5", SMALL, 2.2, 1.6, TEAM),
    _floor(f"W6 {TEAM} threads", "W6", SMALL, 2.2, 1.6, TEAM),
    Target("W6 speedup", "speedup", (OURS, "W6", SMALL, TEAM), (OURS, "W6", SMALL, 1), 3.5 / 4 * TEAM, 3.8 / 4 * TEAM),
    Target("W7 lateness p50", "ratio", (OURS, "W7", 500, 1), ("best wait", "W7", 500, 1), 1.3, 1.1, "us"),
    Target("W7 CPU", "ratio", (OURS, "W7", 500, 1), ("Boost.Asio", "W7", 500, 1), 1.2, 1.0, "us", "cpu_us"),
    Target("W8 bytes", "value", (OURS, "W8", LARGE, 1), None, 112, 96, "bytes"),
    Target("hold 10^6", "hold", (OURS, "hold", LARGE, 1), None, 100, 50, "us"),
]

# Where the program of a reference is not there: its figure in the stored results, by what it is scaled with.
SCALED_BY = {"W3both": ("floor", "W3both"), "W4": ("floor", "W3"), "W7": ("timerfd", "W7")}
NOISE = 1.15  # a quick run allows so much
