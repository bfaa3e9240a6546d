#!/bin/sh
# What the README shows works: its C program is examples/hello.c, line by line, and its compile
# command builds a program that runs. Run from the top of the checkout, after `make build`.
set -eu

mkdir -p build/readme
awk '/^```c$/ { on = 1; next } /^```/ { if (on) exit } on' README.md >build/readme/hello.c
[ -s build/readme/hello.c ] || { echo "readme: no C block in README.md" >&2; exit 1; }
diff -u examples/hello.c build/readme/hello.c || {
    echo "readme: the C block of README.md is not examples/hello.c: copy it there" >&2
    exit 1
}

# The documented command, as it stands, with -Werror added.
command=$(grep '^cc .*-Lbuild/lib' README.md | head -n 1)
[ -n "$command" ] || { echo "readme: no compile command in README.md" >&2; exit 1; }
echo "readme: $command"
rm -f build/hello
sh -c "$command -Wall -Wextra -Werror"
build/hello
echo "readme: the program of README.md compiles and runs"
