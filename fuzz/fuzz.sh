#!/bin/sh
# Fuzzing; `make fuzz` and its kin call this.
#
#   fuzz.sh run      T seconds of it, beginning with the committed corpus and with what
#                    earlier runs have found (build/fuzz)
#   fuzz.sh merge    the committed corpus anew: the smallest set of all that was found that
#                    reaches the same code
#   fuzz.sh keep F   the file F is a sequence that went wrong: it is tested from now on
#   fuzz.sh tool     nothing: only cargo-fuzz, if it is missing
set -eu
cd "$(dirname "$0")/.."
: "${T:=60}" "${SANITIZER:=address}" "${B:=build}" "${CARGO:=cargo}" "${NIGHTLY:=$CARGO +nightly}"

hex=tests/engine/corpus.hex
once_wrong=tests/engine/found.hex
out=$B/fuzz
mkdir -p "$out/found" "$out/crashes"
rustc -O -o "$out/hex" fuzz/hex.rs
rm -rf "$out/seed" "$out/seed-found"
"$out/hex" unpack "$hex" "$out/seed"
"$out/hex" unpack "$once_wrong" "$out/seed-found"

# cargo-fuzz: the one that is installed, or our own.
PATH=$(pwd)/$B/tools/bin:$PATH
export PATH
need_tool() {
    command -v cargo-fuzz >/dev/null 2>&1 && return
    echo "fuzz: cargo-fuzz is missing; installing it: cargo install cargo-fuzz --locked --root $B/tools"
    # Unoptimized: it only calls cargo.
    $CARGO install --quiet --debug cargo-fuzz --locked --root "$B/tools" --target-dir "$out/target-cargo-fuzz" || {
        echo "make: cargo-fuzz is missing. Install it with: cargo install cargo-fuzz --locked" >&2
        exit 1
    }
}

# build SANITIZER DIR: builds the fuzzer; sets $fuzzer.
build() {
    need_tool
    $NIGHTLY fuzz build --fuzz-dir fuzz -s "$1" --target-dir "$2" calls
    fuzzer=$(find "$2" -path '*/release/calls' -type f | head -n 1)
}

# A sequence takes some milliseconds; the limits are for slow machines.
limits="-max_len=1024 -timeout=120 -rss_limit_mb=4096"

case ${1:-run} in
run)
    build "$SANITIZER" "$out/target-$SANITIZER"
    # shellcheck disable=SC2086
    "$fuzzer" "$out/found" "$out/seed" "$out/seed-found" $limits -max_total_time="$T" -artifact_prefix="$out/crashes/" \
        >"$out/run.log" 2>&1 || {
        tail -n 60 "$out/run.log" >&2
        file=$(sed -n 's/.*Test unit written to //p' "$out/run.log" | tail -n 1)
        [ -n "$file" ] || { echo "fuzz: the fuzzer itself went wrong, see $out/run.log" >&2; exit 1; }
        echo "fuzz: found a sequence that goes wrong. Show it with: make fuzz-show F=$file" >&2
        echo "fuzz: (or, with the sanitizer and without the story: $fuzzer $file)" >&2
        exit 1
    }
    runs=$(sed -n 's/^Done \([0-9]*\) runs in.*/\1/p' "$out/run.log")
    cov=$(sed -n 's/^#.*DONE *cov: \([0-9]*\).*/\1/p' "$out/run.log")
    echo "fuzz: $runs sequences in $T s ($SANITIZER sanitizer), $cov edges reached, no difference to the model"
    ;;
merge)
    build none "$out/target-none"
    rm -rf "$out/merged"
    mkdir -p "$out/merged"
    # Without counters: what code is reached counts, not how often.
    # shellcheck disable=SC2086
    "$fuzzer" -set_cover_merge=1 -use_counters=0 "$out/merged" "$out/seed" "$out/found" $limits >"$out/merge.log" 2>&1
    "$out/hex" pack "$out/merged" "$hex"
    echo "fuzz: $hex: $(wc -l <"$hex") sequences, $(wc -c <"$hex") bytes"
    ;;
keep)
    cp "$2" "$out/seed-found"
    "$out/hex" pack "$out/seed-found" "$once_wrong"
    echo "fuzz: $once_wrong: $(wc -l <"$once_wrong") sequences"
    ;;
tool) need_tool ;;
*)
    echo "fuzz.sh: run, merge, keep or tool" >&2
    exit 2
    ;;
esac
