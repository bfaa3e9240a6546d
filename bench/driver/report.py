"""What the results say: how each target stands, and the tables."""

import plan
from results import describe


class Verdict:
    """ours and the reference, best values; ratio is what the target judges."""

    def __init__(self, ours, to, ratio, at_least=False, remark="", must=0.0, stretch=0.0):
        self.ours, self.to, self.ratio, self.at_least, self.remark = ours, to, ratio, at_least, remark
        self.must, self.stretch = must, stretch

    def _holds(self, bound, noise):
        if self.ratio is None:
            return False
        return self.ratio >= bound / noise if self.at_least else self.ratio <= bound * noise

    def must_holds(self, noise=1.0):
        return self._holds(self.must, noise)

    def stretch_holds(self):
        return self._holds(self.stretch, 1.0)


def reference(results, stored, target):
    """(the value that ours is compared with, a remark). Stored figures are scaled by what both runs have measured."""
    value = results.best(target.to, target.field)
    if value is not None or stored is None:
        return value, ""
    workload, n = target.to[1], target.to[2]
    if workload not in plan.SCALED_BY:
        return None, ""
    by = (plan.SCALED_BY[workload][0], plan.SCALED_BY[workload][1], n, 1)
    then, now, was = stored.best(by, target.field), results.best(by, target.field), stored.best(target.to, target.field)
    if None in (then, now, was):
        return None, ""
    return was * now / then, f"{target.to[0]} from bench/results"


def verdicts(results, stored=None):
    """[(target, verdict)] in the order of the table."""
    found = []
    for t in plan.TARGETS:
        remark, to, ratio, must, stretch = "", None, None, t.must, t.stretch
        if t.kind == "hold":
            ours, where = results.hold()
            ratio, remark = ours, where or ""
        elif t.kind == "value":
            ours = ratio = results.best(t.key)
        elif t.kind == "speedup":
            ours, to = results.best(t.key), results.best(t.to)
            ratio = to / ours if ours and to else None
            alone, team = (results.best(("floor",) + k[1:]) for k in (t.to, t.key))
            if alone and team and alone / team < must:
                # Threads that share nothing do not get so far here either: processors that share a core.
                must, remark = alone / team, f"{t.must:.3g}, but the floor gets to {figure(alone / team)}"
                stretch = min(stretch, alone / team)
        else:
            ours = results.best(t.key, t.field)
            to, remark = reference(results, stored, t)
            ratio = ours / to if ours is not None and to else None
            if to is None:
                remark = f"no figure of {t.to[0]}: make bench"
        found.append((t, Verdict(ours, to, ratio, t.kind == "speedup", remark, must, stretch)))
    return found


def figure(v):
    if v is None:
        return "-"
    return f"{v:.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}"


def power(n):
    k = len(str(n)) - 1
    return f"10^{k}" if n == 10**k else str(n)


def print_quick(results, stored, seconds):
    """One line for each workload; 0 if every must holds, noise allowed for."""
    rows = verdicts(results, stored)
    if not results.about.get("quick"):  # a run of some workloads only
        rows = [(t, v) for t, v in rows if v.ours is not None]
    print(f"{'workload':18} {'ours':>9} {'floor':>9} {'ratio':>7} {'must':>7} {'stretch':>7}")
    for t, v in rows:
        what = f"  ({v.remark})" if v.remark else ""
        if t.kind == "ratio" and t.to[0] not in ("floor", "best wait") and not v.remark:
            what = f"  (beside {t.to[0]})"
        unit = "" if t.unit == "ns" else " " + t.unit
        ratio = figure(v.ratio) if t.kind in ("ratio", "speedup") else "-"
        holds = "ok" if v.must_holds(plan.NOISE) else "short"
        print(f"{t.name:18} {figure(v.ours):>9} {figure(v.to):>9} {ratio:>7} {v.must:>7.3g} {v.stretch:>7.3g} {holds}{unit and ' ' + unit.strip()}{what}")
    stretch = sum(v.stretch_holds() for _, v in rows)
    short = [t.name for t, v in rows if not v.must_holds(plan.NOISE)]
    print(f"{stretch} of {len(rows)} stretch targets hold; "
          + (f"short of a must: {', '.join(short)}" if short else "every must holds") + f"; {seconds:.0f} s")
    return 1 if short else 0


# ---- Markdown ----

COLUMNS = [("W1 10^4", "W1", plan.SMALL, 1), ("W1 10^6", "W1", plan.LARGE, 1), ("W1roll", "W1roll", plan.SMALL, 1),
           ("W2", "W2", plan.SMALL, 1), ("W2 new", "W2new", plan.SMALL, 1), ("W3 10^4", "W3", plan.SMALL, 1),
           ("W3 10^6", "W3", plan.LARGE, 1), ("W3 both 10^4", "W3both", plan.SMALL, 1), ("W3 both 10^6", "W3both", plan.LARGE, 1),
           ("W4", "W4", plan.SMALL, 1), ("W5", "W5", plan.SMALL, plan.TEAM), ("W6", "W6", plan.SMALL, plan.TEAM),
           ("W7 p50 us", "W7", 500, 1), ("W8 bytes", "W8", plan.LARGE, 1)]
SHORT = ["W1 10^4", "W1 10^6", "W2", "W3 10^4", "W3 10^6", "W4", "W5", "W7 p50 us", "W8 bytes"]


def table(header, rows):
    out = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(out + ["| " + " | ".join(r) + " |" for r in rows])


def targets_table(results):
    rows = []
    for t, v in verdicts(results):
        if v.ours is None:
            continue
        median = results.median(t.key, t.field) if t.kind != "hold" else None
        to = {"ratio": t.to and t.to[0], "speedup": "one thread"}.get(t.kind) or "-"
        if to == "floor":
            to = plan.FLOORS[t.to[1]]
        ours = f"{figure(v.ours)}" + (f" / {figure(median)}" if median is not None else "") + ("" if t.unit == "ns" else f" {t.unit}")
        mark = "stretch" if v.stretch_holds() else "must" if v.must_holds() else "short"
        x = " x" if t.kind in ("ratio", "speedup") else ""
        rows.append([t.name, f"{to} {figure(v.to)}" if v.to is not None else to, ours,
                     f"{figure(v.ratio)}{x}" if x else "-", f"{v.must:.3g}{x}" + (f" ({v.remark})" if t.kind == "speedup" and v.remark else ""), f"{v.stretch:.3g}{x}", mark])
    return table(["workload", "beside", "libgotimer best / median", "ratio", "must", "stretch", "reached"], rows)


def peers(results):
    """Peers in the order of the plan: floor first, then ours."""
    seen = {k[0] for k in results.values}
    order = ["floor", "timerfd", "epoll_pwait2", plan.OURS, "libgotimer, own loop"]
    return order + [p for p in results.peers if p not in order and p in seen]


def peers_table(results, short=False):
    """Best / median, and how many times ours; short: the best alone."""
    columns = [c for c in COLUMNS if not short or c[0] in SHORT]
    pause = not short
    rows = []
    for peer in peers(results):
        if short and peer in ("timerfd", "epoll_pwait2", "libgotimer, own loop"):
            continue
        row, any_value = [f"**{peer}**" if peer == plan.OURS else peer], False
        for _, w, n, threads in columns:
            key, ours = (peer, w, n, threads), results.best((plan.OURS, w, n, threads))
            if peer == "floor":
                key = (peer, plan.FLOOR_OF.get(w), n, threads)
                if short and w == "W7":
                    key = ("best wait", w, n, threads)
            best, median = results.best(key), results.median(key)
            if best is None:
                row.append("-" if short else results.peers.get(peer, {}).get("notes", {}).get(w, "-"))
                continue
            any_value = True
            cell = figure(best)
            if not short:
                cell += f" / {figure(median)}"
                if peer != plan.OURS and ours:
                    cell += f" ({figure(best / ours)} x)"
            row.append(f"**{cell}**" if peer == plan.OURS and short else cell)
        if pause:
            longest, _ = results.pause(peer)
            row.append(figure(longest / 1000) if longest is not None else "-")
        if any_value:
            rows.append(row + [results.peers.get(peer, {}).get("order", "exact")])
    return table(["ns per operation"] + [c[0] for c in columns] + (["longest pause, ms"] if pause else []) + ["order"], rows)


def workload_tables(results):
    """For each workload a table: best, median, ratio to the floor and to ours."""
    out = []
    for title, w, n, threads in COLUMNS:
        ours = results.best((plan.OURS, w, n, threads))
        to = results.best(("best wait", w, n, threads) if w == "W7" else ("floor", plan.FLOOR_OF.get(w), n, threads))
        rows = []
        for peer in peers(results):
            key = (peer, plan.FLOOR_OF.get(w) if peer == "floor" else w, n, threads)
            best, median = results.best(key), results.median(key)
            about = results.peers.get(peer, {})
            if best is None:
                if w in about.get("notes", {}):
                    rows.append([peer, "-", "-", "-", "-", about["notes"][w]])
                continue
            ratios = [f"{figure(best / by)} x" if by else "-" for by in (to, ours)]
            remark = [about["order"]] if about.get("order", "exact") != "exact" else []
            remark += [about["notes"][w]] if w in about.get("notes", {}) else []
            rows.append([f"**{peer}**" if peer == plan.OURS else peer, figure(best), figure(median)] + ratios + ["; ".join(remark)])
        if any(r[0] != "floor" and r[1] != "-" for r in rows):
            header = [title, "best", "median", "to the floor", "to libgotimer", "remark"]
            out.append(table(header, rows))
    return "\n\n".join(out)


def document(results):
    b = blocks(results)
    return "\n\n".join(["# The benchmark's results", b["machine"] + ".", "## Targets", b["targets"], "## Workloads", b["workloads"],
                        "## Longest holds of a P's lock", b["holds"], "## Remarks", b["notes"]]) + "\n"


def holds_table(results):
    rows, exact = [], True
    for h in plan.HOLDS + plan.MORE_HOLDS:
        key = (plan.OURS, f"hold-{h}", plan.LARGE, 1)
        if results.best(key) is not None:
            rows.append([h, figure(results.best(key)), figure(results.best(key, "call") / 1000)])
            exact = exact and "calls" not in results.fields[key].get("by", [])
    return table(["10^6 timers", "longest hold of a P's lock, us" + ("" if exact else " (at most)"), "longest call, ms"], rows)


def growth_table(results):
    """For each N: the floor, ours and their ratio, in W1 and W3."""
    rows = []
    for n in sorted({p[1] for p in plan.GROWTH} | {plan.LARGEST[1]}):
        row = []
        for w in ("W1", "W3"):
            floor, ours = (results.best((p, w, n, 1)) for p in ("floor", plan.OURS))
            row += [figure(floor), figure(ours), f"{ours / floor:.2f} x" if floor and ours else "-"]
        if set(row) != {"-"}:
            rows.append([power(n)] + row)
    return table(["timers", "W1 floor", "libgotimer", "ratio", "W3 floor", "libgotimer", "ratio"], rows)


def notes(results):
    lines = []
    for peer, about in results.peers.items():
        text = [f"{w}: {about['notes'][w]}" for w in sorted(about["notes"])]
        version = f" {about['version']}" if about["version"] not in ("", "1") else ""
        if peer not in ("floor", "raw waits"):
            lines.append(f"- {peer}{version}: order {about['order']}" + ("; " + "; ".join(text) if text else "") + ".")
    for peer, w, n, threads, why in results.skipped:
        at = f" {w} {power(n)}" if n else ""
        lines.append(f"- {peer}{at}: {why}.")
    return "\n".join(dict.fromkeys(lines))


def blocks(results):
    """The parts that bench-docs puts between markers, by name."""
    return {
        "machine": describe(results.about),
        "summary": peers_table(results, short=True),
        "targets": targets_table(results),
        "peers": peers_table(results),
        "workloads": workload_tables(results),
        "holds": holds_table(results),
        "growth": growth_table(results),
        "notes": notes(results),
    }
