"""Counts the cache lines that each operation touches: lines.py PROGRAM, with bench/own/lines.c under valgrind's lackey.

Left out are the code, the stack and the thread's own storage. "contended" are lines that the operation writes and that
the same operation of another thread, on timers and a P of its own, touches as well: what would travel between
processors. For another P's timer the lines that are written are the other's, by nature."""

import statistics
import subprocess
import sys

import report

LINE = 64


def main():
    command = ["valgrind", "--tool=lackey", "--trace-mem=yes", "--basic-counts=no", "--fair-sched=yes", sys.argv[1], "x", "500"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    begins, ends, kinds, own = {}, {}, {}, []
    seen = {}  # (side, kind): [(read lines, written lines) of each operation]
    now, reads, writes = None, set(), set()
    for text in process.stdout:
        if text.startswith(" ") and text[1] in "LSM":
            address, size = text[3:].split(",")
            address = int(address, 16)
            if text[1] in "SM" and address in begins:
                now, reads, writes = begins[address], set(), set()
                continue
            if now is None:
                continue
            if text[1] in "SM" and address in ends:
                seen.setdefault(now, []).append((reads, writes))
                now = None
                continue
            if any(low <= address < high for low, high in own):
                continue
            lines = range(address // LINE, (address + int(size) - 1) // LINE + 1)
            (reads if text[1] == "L" else writes).update(lines)
        elif text.startswith("mark "):
            _, side, kind, address, name = text.split(None, 4)
            if int(kind) < 0:
                ends[int(address, 16)] = int(side)
            else:
                begins[int(address, 16)] = (int(side), int(kind))
                kinds[int(kind)] = name.strip()
        elif text.startswith("thread "):
            words = text.split()
            stack, local = int(words[3], 16), int(words[5], 16)
            own += [(stack - 65536, stack + 65536), (local - 8192, local + 8192)]
    if process.wait() != 0 or not seen:
        sys.exit("lines.py: the program failed under valgrind")
    rows = []
    for kind, name in sorted(kinds.items()):
        mine, other = seen[(0, kind)], seen[(1, kind)]
        touched = set().union(*(r | w for r, w in other))
        mean = statistics.mean
        rows.append([name, f"{mean(len(r | w) for r, w in mine):.1f}", f"{mean(len(w) for _, w in mine):.1f}",
                     f"{mean(len(w & touched) for _, w in mine):.1f}"])
    print(report.table(["operation, 500 timers a P", "lines touched", "written", "contended"], rows))


if __name__ == "__main__":
    main()
