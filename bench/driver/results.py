"""Results: collected from the programs' JSON lines, kept in a file, asked for by key."""

import datetime
import json
import os
import platform
import statistics
import subprocess

import plan


class Results:
    def __init__(self):
        self.values = {}  # key: values of all rounds
        self.fields = {}  # key: {field: values of all rounds}; lists stay lists
        self.units = {}
        self.peers = {}   # peer: what --list said
        self.skipped = []  # [peer or program, workload, n, threads, why]
        self.about = {}

    def add(self, line):
        key = (line.pop("peer"), line.pop("workload"), line.pop("n"), line.pop("threads"))
        self.values.setdefault(key, []).extend(line.pop("values"))
        self.units[key] = line.pop("unit", "ns")
        for field, value in line.items():
            self.fields.setdefault(key, {}).setdefault(field, []).append(value)

    def best(self, key, field=None):
        """The smallest value, or None. "best wait" is the better one of the raw waits."""
        if key[0] == "best wait":
            found = [self.best((p,) + key[1:], field) for p in ("timerfd", "epoll_pwait2")]
            return min((f for f in found if f is not None), default=None)
        values = self.values.get(key) if field is None else self.fields.get(key, {}).get(field)
        return min(values) if values else None

    def median(self, key, field=None):
        if key[0] == "best wait":
            found = [self.median((p,) + key[1:], field) for p in ("timerfd", "epoll_pwait2")]
            return min((f for f in found if f is not None), default=None)
        values = self.values.get(key) if field is None else self.fields.get(key, {}).get(field)
        return statistics.median(values) if values else None

    def hold(self):
        """(the longest hold in us, in which run) or (None, None)."""
        found = [(self.best((plan.OURS, f"hold-{h}", plan.LARGE, 1)), h) for h in plan.HOLDS]
        return max(((v, h) for v, h in found if v is not None), default=(None, None))

    def pause(self, peer):
        found = [(self.best((peer, f"pause-{p}", plan.LARGE, 1)), p) for p in plan.PAUSES]
        return max(((v, p) for v, p in found if v is not None), default=(None, None))

    def save(self, path):
        keys = sorted(self.values, key=lambda k: (k[1], k[2], k[3], k[0]))
        rows = []
        for key in keys:
            peer, workload, n, threads = key
            rows.append({"peer": peer, "workload": workload, "n": n, "threads": threads, "unit": self.units[key],
                         "best": self.best(key), "median": self.median(key), "values": self.values[key],
                         "fields": self.fields.get(key, {})})
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as f:
            f.write('{\n"about": ' + json.dumps(self.about) + ',\n"peers": ' + json.dumps(self.peers))
            f.write(',\n"skipped": ' + json.dumps(self.skipped) + ',\n"results": [\n')
            f.write(",\n".join(json.dumps(r) for r in rows))
            f.write("\n]}\n")

    @staticmethod
    def load(path):
        r = Results()
        with open(path) as f:
            data = json.load(f)
        r.about, r.peers, r.skipped = data["about"], data["peers"], data["skipped"]
        for row in data["results"]:
            key = (row["peer"], row["workload"], row["n"], row["threads"])
            r.values[key], r.fields[key], r.units[key] = row["values"], row["fields"], row["unit"]
        return r


def machine():
    """What the figures were measured on."""
    cpu, memory = platform.processor() or platform.machine(), 0
    try:
        with open("/proc/cpuinfo") as f:
            cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), cpu)
        with open("/proc/meminfo") as f:
            memory = int(f.readline().split()[1]) // 1024 // 1024
    except OSError:
        pass
    virtual = ""
    try:
        with open("/proc/cpuinfo") as f:
            virtual = ", virtual machine" if " hypervisor" in f.read() else ""
    except OSError:
        pass
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {"date": datetime.date.today().isoformat(), "cpu": cpu, "cpus": plan.CPUS, "memory_gb": memory,
            "virtual": bool(virtual), "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "commit": commit.stdout.strip() if commit.returncode == 0 else ""}


def describe(about):
    return (f"{about['cpu']}, {about['cpus']} CPUs{', virtual machine' if about['virtual'] else ''}, {about['memory_gb']} GB, "
            f"{about['system']}; {about['date']}; best of {about['rounds']} rounds, each peer in turn; seed {about['seed']}")
