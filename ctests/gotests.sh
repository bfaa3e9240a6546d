#!/bin/sh
# docs/go-tests.md tells the truth: each name in backticks in its column "ours" is a TEST in ctests/,
# each row has one or a dash, and each gotest_ test stands in a row. Called by `make check`.
set -eu
doc=docs/go-tests.md

# A row's first column, then one line for each name of its second; "-" for a dash.
rows=$(awk -F'|' '/^\|/ && $2 !~ /^ Go |^-/ {
    if (NF != 5) { print "columns"; next }
    n = gsub(/`/, "", $3)
    if (n == 0 && $3 !~ /^ *- *$/) { print "nothing"; next }
    gsub(/[ ]/, "", $3)
    k = split($3, names, ",")
    for (i = 1; i <= k; i++) print names[i]
}' $doc)
[ -n "$rows" ] || { echo "gotests: no rows in $doc" >&2; exit 1; }
tests=$(sed -n 's/^TEST(\([a-z0-9_]*\),.*/\1/p' ctests/*.c ctests/*.cpp | sort)
bad=0 names=0
for name in $rows; do
    case $name in
    -) continue ;;
    columns) echo "gotests: a row of $doc does not have three columns" >&2; bad=1; continue ;;
    nothing) echo "gotests: a row of $doc names no test and has no dash" >&2; bad=1; continue ;;
    esac
    names=$((names + 1))
    echo "$tests" | grep -qx -- "$name" || {
        echo "gotests: $doc names $name, which is no TEST in ctests/" >&2; bad=1; }
done
for name in $(echo "$tests" | grep '^gotest_'); do
    echo "$rows" | grep -qx -- "$name" || {
        echo "gotests: the test $name stands in no table of $doc" >&2; bad=1; }
done
[ "$bad" = 0 ] || exit 1
echo "gotests: all $names tests that $doc names exist"
