#!/bin/sh
# The public functions: what the header declares, what the shared library exports, what the C
# tests call and what CHANGELOG.md names are the same. Usage: public.sh path/to/libgotimer.so
set -eu
lib=$1
dir=build/public
mkdir -p "$dir"

# In the header a declaration's name is the first gt_name that "(" follows.
cc=${CC:-cc}
$cc -E -P -Iinclude include/gotimer.h | tr '\n' ' ' | tr ';{}' '\n\n\n' |
    sed -n 's/^\([^(]*[ *]\)\(gt_[a-z0-9_]*\) *(.*/\1 \2/p' | grep -v typedef | sed 's/.* //' | sort -u >"$dir/header"
nm -D --defined-only "$lib" | awk '$2 ~ /[TWVDBR]/ { print $3 }' | sed 's/@.*//' | sort -u >"$dir/library"
cat ctests/*.c ctests/*.cpp 2>/dev/null | grep -oE '\bgt_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u >"$dir/called"
grep -oE '\bgt_[a-z0-9_]+' CHANGELOG.md | sort -u >"$dir/changelog"
[ -s "$dir/header" ] || { echo "public: no function found in include/gotimer.h" >&2; exit 1; }

bad=0
# missing FILE1 FILE2 TEXT: names in FILE1 that are not in FILE2.
missing() {
    for f in $(comm -23 "$dir/$1" "$dir/$2"); do
        echo "public: $f $3" >&2
        bad=1
    done
}
missing header library "is declared in the header and not exported by the library"
missing library header "is exported by the library and not declared in the header"
missing header called "is called by no C test"
missing header changelog "is not named in CHANGELOG.md"
[ "$bad" = 0 ] || exit 1
echo "public: $(wc -l <"$dir/header") functions are declared, exported, tested and named in CHANGELOG.md; nothing else is exported"
