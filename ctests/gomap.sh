#!/bin/sh
# docs/go-map.md tells the truth: in each row of its tables, every name of the column "ours" is
# found in one of the files beside it. Called by `make check`.
set -eu
map=docs/go-map.md

# One line for each row that names a file: "ours|files", without the backticks.
rows=$(awk -F'|' '/^\|/ { for (i = 2; i < NF; i++) if ($i ~ /`src\//) { print $(i - 1) "|" $i; break } }' $map | tr -d '\140 ')
[ -n "$rows" ] || { echo "gomap: no rows in $map" >&2; exit 1; }
bad=0 names=0
for row in $rows; do
    files=$(echo "${row#*|}" | tr ',' ' ')
    for f in $files; do
        [ -f "$f" ] || { echo "gomap: $map names $f, which does not exist" >&2; bad=1; files=; }
    done
    [ -n "$files" ] || continue
    for n in $(echo "${row%%|*}" | tr ',' ' '); do
        names=$((names + 1))
        # shellcheck disable=SC2086
        grep -qw -- "$n" $files || { echo "gomap: $map says that $n is in $files; it is not" >&2; bad=1; }
    done
done
[ "$bad" = 0 ] || exit 1
echo "gomap: all $names names of $map are where it says"
