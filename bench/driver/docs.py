"""bench-docs: puts the tables into README.md and docs/performance.md, between markers

    <!-- bench:NAME begin -->
    <!-- bench:NAME end -->

NAME: machine, summary, targets, peers, workloads, growth, holds, notes; lines, if lines.md stands beside the results.

    docs.py RESULTS FILE..."""

import os
import re
import sys

import report
from results import Results


def main():
    blocks = report.blocks(Results.load(sys.argv[1]))
    lines = os.path.join(os.path.dirname(sys.argv[1]), "lines.md")
    if os.path.exists(lines):
        with open(lines) as f:
            blocks["lines"] = f.read().strip()
    for path in sys.argv[2:]:
        with open(path) as f:
            text = f.read()
        used = []

        def put(match):
            name = match.group(2)
            if name not in blocks:
                sys.exit(f"docs.py: {path}: no block is named {name}")
            used.append(name)
            return f"{match.group(1)}\n{blocks[name]}\n{match.group(3)}"

        new = re.sub(r"(<!-- bench:(\w+) begin -->)\n.*?(<!-- bench:\2 end -->)", put, text, flags=re.S)
        if new != text:
            with open(path, "w") as f:
                f.write(new)
        print(f"{path}: {', '.join(used) if used else 'no markers'}")


if __name__ == "__main__":
    main()
