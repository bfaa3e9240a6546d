#!/bin/sh
# Puts the figures of the last .ci/run (its log is build/ci.log) into docs/proof.md.
set -eu
log=${1:-build/ci.log}
[ -s "$log" ] || { echo "proof: no $log: run .ci/run first" >&2; exit 1; }
out=$(mktemp)
trap 'rm -f "$out" "$out.md"' EXIT
{
    echo '<!-- figures: begin -->'
    echo '```'
    grep -E '^(== .*: status|[0-9]+ passed, [0-9]+ failed|ctests|golden traces|conformance:|model: all|spin: [0-9]+ models|soak: passed|armings  |pauses in|faults: [0-9]+|tsan-embed: |sanitize-planted: |fuzz: )' "$log" |
        sed 's/^== \(.*\): status 0 after/\1:/'
    echo '```'
    echo '<!-- figures: end -->'
} >"$out"
awk -v out="$out" '/<!-- figures: begin -->/ { while ((getline line < out) > 0) print line; skip = 1 }
    !skip { print } /<!-- figures: end -->/ { skip = 0 }' docs/proof.md >"$out.md"
cp "$out.md" docs/proof.md
