#!/bin/sh
# What the README shows works: its C programs are examples/runtime.c and examples/hello.c, line by
# line, and its compile command builds a program that runs. Run from the top of the checkout,
# after `make build`.
set -eu

mkdir -p build/readme
n=0
for name in runtime hello; do
    n=$((n + 1))
    awk -v n=$n '/^```c$/ { k++; on = k == n; next } /^```/ { on = 0 } on' README.md >build/readme/$name.c
    [ -s build/readme/$name.c ] || { echo "readme: README.md has no C block number $n" >&2; exit 1; }
    diff -u examples/$name.c build/readme/$name.c || {
        echo "readme: C block $n of README.md is not examples/$name.c: copy it there" >&2
        exit 1
    }
done

# The documented command, as it stands, with -Werror added.
command=$(grep '^cc .*-Lbuild/lib' README.md | head -n 1)
[ -n "$command" ] || { echo "readme: no compile command in README.md" >&2; exit 1; }
echo "readme: $command"
rm -f build/runtime
sh -c "$command -Wall -Wextra -Werror"
build/runtime
echo "readme: the program of README.md compiles and runs"
