#!/bin/sh
# Every constant of the public header (errors, statuses, clocks, rules, limits) is used by a C
# test. The functions are compared by public.sh. Usage: public_constants.sh [header]
set -eu
header=${1:-include/gotimer.h}
here=$(dirname "$0")

# Without the comments; #define GT_NAME value, and the names of an enum.
names=$(sed -e 's,//.*,,' "$header" | tr '\n' '\001' | sed 's,/\*[^*]*\*\**\([^/*][^*]*\*\**\)*/,,g' | tr '\001' '\n' |
    sed -n -e 's/^ *# *define  *\(GT_[A-Z0-9_]*\)  *[^ ].*/\1/p' -e 's/^ *\(GT_[A-Z0-9_]*\)\( *=.*\)\{0,1\},\{0,1\} *$/\1/p' | sort -u)
[ -n "$names" ] || { echo "public_constants: no constant found in $header" >&2; exit 1; }

bad=0
n=0
# Whoever includes the header gets no other names than gt_ and GT_.
for name in $(sed -n -e 's/^ *# *define  *\([A-Za-z0-9_]*\).*/\1/p' \
    -e 's/^typedef struct [A-Za-z0-9_]* *\([A-Za-z0-9_]*\);.*/\1/p' -e 's/^} *\([A-Za-z0-9_]*\);.*/\1/p' "$header" | sort -u); do
    case $name in
    gt_* | GT_* | GOTIMER_H) ;;
    *)
        echo "public_constants: $name of $header has not our prefix" >&2
        bad=1
        ;;
    esac
done
for name in $names; do
    n=$((n + 1))
    if ! grep -qw -e "$name" "$here"/*.c "$here"/*.cpp; then
        echo "public_constants: $name is used by no C test" >&2
        bad=1
    fi
done
[ "$bad" = 0 ] || exit 1
echo "public_constants: $n constants of $header are used by the C tests"
