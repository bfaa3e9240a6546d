#!/bin/sh
# Puts the figures of the last .ci/run (its log is build/ci.log), of the last soak test of ten
# minutes or more (build/soak/long.json, by `make soak T=600`), and of the last long runs (build/long:
# `make conformance N=1000000`, `make model-long`, `make fuzz-planted`) into docs/proof.md.
set -eu
log=${1:-build/ci.log}
long=${2:-build/soak/long.json}
[ -s "$log" ] || { echo "proof: no $log: run .ci/run first" >&2; exit 1; }
out=$(mktemp)
trap 'rm -f "$out" "$out.md"' EXIT
{
    echo '<!-- figures: begin -->'
    echo '```'
    grep -E '^(== .*: status|== all passed|== [0-9]+ processors|[0-9]+ passed, [0-9]+ failed|ctests|golden traces|conformance|model: |mutants: [0-9]+ |spin: [0-9]+ models|soak: passed|armings  |pauses in|faults: [0-9]+|faults-planted: |fuzz: [0-9]|planted: [0-9]+ |tsan-embed: |helgrind: |drd: |sanitize-planted: )' "$log" |
        sed 's/^== \(.*\): status 0 after/\1:/'
    echo '```'
    echo
    echo 'What was planted in that run, and how it was found (the mutations are in [orderings.md](orderings.md)):'
    echo
    echo '```'
    grep -E '^(planted mistake |planted: [a-z]|ok .*(, planted in | finds )|soak-planted: |spin: .*, as it must)' "$log" | cut -c 1-150
    echo '```'
    if [ -s "$long" ]; then
        echo
        echo 'The long soak test, `make soak T=600`:'
        echo
        echo '```'
        tr -d '{}"' <"$long" | sed 's/, /\n/g'
        echo '```'
    fi
    if [ -d build/long ]; then
        echo
        echo 'Long runs, `make conformance N=1000000`, `make model-long` and `make fuzz-planted PLANTED=fuzz`, each'
        echo 'when it was last made:'
        echo
        echo '```'
        cat build/long/*.txt
        echo '```'
    fi
    echo '<!-- figures: end -->'
} >"$out"
awk -v out="$out" '/<!-- figures: begin -->/ { while ((getline line < out) > 0) print line; skip = 1 }
    !skip { print } /<!-- figures: end -->/ { skip = 0 }' docs/proof.md >"$out.md"
cp "$out.md" docs/proof.md
