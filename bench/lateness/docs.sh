#!/bin/sh
# Runs the benchmark of lateness and puts its output into docs/slack.md. Usage: docs.sh PROGRAM [ARG...]
set -eu
out=$(mktemp)
trap 'rm -f "$out" "$out.md"' EXIT
{
    echo '<!-- slack: begin -->'
    echo '```'
    "$@"
    echo '```'
    echo '<!-- slack: end -->'
} >"$out"
awk -v out="$out" '/<!-- slack: begin -->/ { while ((getline line < out) > 0) print line; skip = 1 }
    !skip { print } /<!-- slack: end -->/ { skip = 0 }' docs/slack.md >"$out.md"
cp "$out.md" docs/slack.md
