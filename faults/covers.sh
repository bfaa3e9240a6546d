#!/bin/sh
# Every function of the header is in a workload of faults/nomem_work.c: it has been called with
# each request for memory refused.
set -eu
cd "$(dirname "$0")/.."
missing=
for f in $(grep -oE '\bgt_[a-z_0-9]+ ?\(' include/gotimer.h | tr -d ' (' | sort -u); do
    case $f in
        gt_last_error) continue ;;   # asked by the macros in nomem.h
    esac
    grep -q "\b$f(" faults/nomem_work.c || missing="$missing $f"
done
if [ -n "$missing" ]; then
    echo "faults: no workload runs out of memory in:$missing (faults/nomem_work.c)" >&2
    exit 1
fi
