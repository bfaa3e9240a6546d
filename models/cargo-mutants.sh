#!/bin/sh
# cargo-mutants over the engine: small wrong changes that a program makes up, judged by the tests of
# the heap and by the property test. `make mutants` has those that need two threads to be wrong.
# Called by make. CARGO, B (the build directory) are make's; FILES: what to change; JOBS: at a time.
#
# A change that nothing notices must be in models/survivors.txt, with the reason; one that is new there
# fails this.
set -eu
: "${CARGO:=cargo}" "${B:=build}" "${JOBS:=2}"
: "${FILES:=adjust}" # heap sweep fast modtimer run timers: hours
tools=$B/tools
out=$B/cargo-mutants
mkdir -p "$tools" "$out"

if ! [ -x "$tools/bin/cargo-mutants" ]; then
    echo "mutants: installing cargo-mutants into $tools"
    $CARGO install --quiet --locked --root "$tools" cargo-mutants ||
        { echo "mutants: cargo-mutants cannot be installed: cargo install --locked cargo-mutants" >&2; exit 1; }
fi

set --
for f in $FILES; do set -- "$@" --file "src/engine/$f.rs"; done
rm -rf "$out/mutants.out"
# Its own status says whether anything survived; that is looked at below.
GOTIMER_CASES=${CASES:-1000} "$tools/bin/cargo-mutants" mutants --no-shuffle --colors never --baseline run --timeout 60 \
    --jobs "$JOBS" --output "$out" "$@" -- --lib --test engine >"$out/log" 2>&1 || true
result=$out/mutants.out
[ -f "$result/outcomes.json" ] || { tail -n 20 "$out/log" >&2; exit 1; }

# Lines move; what is changed, and in which function, does not.
plain() { sed 's/:[0-9]*:[0-9]*: /: /' "$@" | sort -u; }
plain "$result/missed.txt" >"$out/missed"
grep -v '^[ #]' models/survivors.txt | sort -u >"$out/known"
new=$(comm -23 "$out/missed" "$out/known")
count() { if [ -f "$result/$1.txt" ]; then wc -l <"$result/$1.txt"; else echo 0; fi; }
echo "cargo-mutants: $(count caught) caught, $(count timeout) that hang, $(count unviable) that do not build, $(count missed) that nothing notices"
if [ -n "$new" ]; then
    echo "cargo-mutants: these have no reason in models/survivors.txt:" >&2
    echo "$new" >&2
    exit 1
fi
