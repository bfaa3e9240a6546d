"""Plots of the results as SVG files: plots.py RESULTS DIRECTORY. Needs matplotlib (make bench puts it into a venv).

  growth-w1.svg, growth-w3.svg   ns against N
  threads.svg                    throughput against threads, W5 and W6
  lateness.svg                   distribution of W7's lateness
  pauses.svg                     the longest pause of each kind"""

import os
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

import plan  # noqa: E402
from results import Results  # noqa: E402

# Always the same colour and mark for a peer; ours stands out.
STYLE = {
    plan.OURS: ("#d62728", "o"), "floor": ("#7f7f7f", "_"), "Go core": ("#17becf", "s"), "Go": ("#1f77b4", "D"),
    "libev": ("#2ca02c", "^"), "libevent": ("#98df8a", "v"), "libuv": ("#9467bd", "<"), "Boost.Asio": ("#ff7f0e", ">"),
    "tokio": ("#8c564b", "P"), "hash wheel": ("#e377c2", "X"), "DPDK": ("#bcbd22", "*"), "GLib": ("#c7c7c7", "h"),
    "timerfd": ("#7f7f7f", "_"), "epoll_pwait2": ("#4d4d4d", "|"), "libgotimer, own loop": ("#ff9896", "."),
}


def style(peer):
    color, marker = STYLE.get(peer, ("#000000", "."))
    ours = peer == plan.OURS
    return {"color": color, "marker": marker, "linewidth": 2.5 if ours else 1.2, "zorder": 5 if ours else 2, "markersize": 5,
            "linestyle": "--" if peer in ("floor", "timerfd", "epoll_pwait2") else "-"}


def ordered(peers):
    """By the order of STYLE."""
    known = list(STYLE)
    return sorted(peers, key=lambda p: known.index(p) if p in known else len(known))


def figure(width=7.5, height=4.6):
    fig, ax = plt.subplots(figsize=(width, height))
    ax.grid(True, which="major", alpha=0.3)
    return fig, ax


def save(fig, directory, name):
    fig.tight_layout()
    fig.savefig(os.path.join(directory, name), metadata={"Date": None, "Creator": None})
    plt.close(fig)
    print(os.path.join(directory, name))


def growth(results, workload, title, directory):
    fig, ax = figure()
    sizes = sorted({k[2] for k in results.values if k[1] == workload and k[3] == 1})
    for peer in ordered({k[0] for k in results.values if k[1] == workload}):
        at = [(n, results.best((peer, workload, n, 1))) for n in sizes]
        at = [(n, v) for n, v in at if v is not None]
        if at:
            ax.plot(*zip(*at), label=peer, **style(peer))
    ax.set(xscale="log", yscale="log", xlabel="timers", ylabel="ns per operation", title=title)
    ax.legend(fontsize=7, ncol=2)
    save(fig, directory, f"growth-{workload.lower()}.svg")


def threads(results, directory):
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 4.4), sharey=True)
    titles = {"W5": "W5: any thread's timers", "W6": "W6: own timers"}
    for ax, workload in zip(axes, titles):
        ax.grid(True, alpha=0.3)
        counts = sorted({k[3] for k in results.values if k[1] == workload})
        for peer in ordered({k[0] for k in results.values if k[1] == workload}):
            at = [(t, results.best((peer, workload, plan.SMALL, t))) for t in counts]
            at = [(t, 1000 / v) for t, v in at if v]
            if at:
                ax.plot(*zip(*at), label=peer, **style(peer))
        ax.set(yscale="log", xlabel="threads", title=titles[workload], xticks=counts)
    axes[0].set_ylabel("million re-arms a second")
    axes[1].legend(fontsize=7, ncol=2)
    save(fig, directory, "threads.svg")


def lateness(results, directory):
    """The run with the smallest median of each peer."""
    fig, ax = figure()
    for peer in ordered({k[0] for k in results.values if k[1] == "W7"}):
        key = next(k for k in results.values if k[0] == peer and k[1] == "W7")
        values, quantiles = results.values[key], results.fields[key].get("quantiles")
        if not quantiles:
            continue
        q = quantiles[values.index(min(values))]
        look = style(peer) | {"marker": ""}
        ax.plot([max(v, 1) for v in q], range(101), label=peer, **look)
    ax.set(xscale="log", xlabel="how late a callback begins, us", ylabel="% of the timers",
           title="W7: 500 timers in a second, real time")
    ax.legend(fontsize=7)
    save(fig, directory, "lateness.svg")


def pauses(results, directory):
    fig, ax = figure(8.5, 4.4)
    peers = ordered({k[0] for k in results.values if k[1].startswith("pause-")})
    width = 0.8 / max(1, len(peers))
    for i, peer in enumerate(peers):
        heights = [results.best((peer, f"pause-{p}", plan.LARGE, 1)) or 0 for p in plan.PAUSES]
        ax.bar([k + i * width for k in range(len(plan.PAUSES))], heights, width, label=peer, color=style(peer)["color"])
    ax.set_yscale("log")
    ax.set_xticks([k + 0.4 - width / 2 for k in range(len(plan.PAUSES))],
                  ["cancel all", "shorten half", "all due in a second", "re-arm at random"])
    ax.set(ylabel="longest pause, us", title="A million timers: the longest call, or time between two callbacks")
    ax.legend(fontsize=7, ncol=2)
    save(fig, directory, "pauses.svg")


def main():
    results, directory = Results.load(sys.argv[1]), sys.argv[2]
    os.makedirs(directory, exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "gotimer", "font.size": 9, "svg.fonttype": "none"})
    growth(results, "W1", "W1: re-arm one of N timers", directory)
    growth(results, "W3", "W3: fire N timers that are all due", directory)
    threads(results, directory)
    lateness(results, directory)
    pauses(results, directory)


if __name__ == "__main__":
    main()
