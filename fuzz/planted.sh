#!/bin/sh
# Bugs that are planted in a copy of the sources, one at a time: the property test
# (tests/engine.rs) must find each, and the fuzzer those that are marked so, in T seconds and
# with no corpus to begin with. `make fuzz-planted` calls this.
#
#   planted.sh proptest   only the property test, and what the committed corpus finds; on a
#                         stable toolchain
#   planted.sh fuzz       only the fuzzer
#   planted.sh            both
set -eu
cd "$(dirname "$0")/.."
: "${T:=60}" "${B:=build}" "${CARGO:=cargo}" "${NIGHTLY:=$CARGO +nightly}"
what=${1:-both}
case $what in
proptest | fuzz | both) ;;
*) echo "planted.sh: proptest, fuzz or nothing" >&2 && exit 2 ;;
esac

# The same sequences each time: each bug is found within some dozens of them.
export GOTIMER_SEED=1 GOTIMER_CASES=2000

# name | fuzz: the fuzzer must find it too | what the model says to it | file | text that stands there
# once | what it becomes
planted='
add_of_an_armed_timer|fuzz|an arming that is refused: got |src/engine/modtimer.rs|arm.add && l.when != 0|arm.add && l.when < 0
rearmed_still_counts_as_dead||stats: pending |src/engine/modtimer.rs|if !done.pending {|if !done.pending && arm.period == 0 {
armed_in_a_pass_runs_in_it||was armed during the pass that runs it|src/engine/adjust.rs|h.passes > 0 && l.stamp() != 0|h.passes > 1 && l.stamp() != 0
preempt_stop_comes_late||called though preempt_stop had ended the pass|src/engine/run.rs|            if stop {~|            if stop && ran > 1 {~
late_tick_loses_its_phase|fuzz|gt_timer_when of |src/engine/run.rs|let periods = 1 + delay / period;|let periods = if delay < period { 1 } else { delay / period };
adopted_without_a_wake||and the wake hook was not called|src/procs/adopt.rs|if first != MAX_WHEN {|if first == 1 {
handed_on_with_a_stopped_time||: state 1, was 2|src/engine/movetimers.rs|if l.when == 0 {|if l.when == 0 && l.period != 0 {
no_memory_but_waiting||: state 1, was 0|src/engine/modtimer.rs|    if let Err(e) = room {~        l.unlock(State::Removed);|    if let Err(e) = room {~        l.unlock(State::Waiting);
reset_keeps_the_old_value|fuzz|stats: replaced |src/time/timer.rs|let replaced = i.end(s, Counter::Replaced);|let replaced = i.when != 0;
'

# What the fuzzer found is kept for docs/proof.md.
keep=/dev/null
if [ "$what" != proptest ]; then
    keep=$B/long/fuzz-planted.txt
    mkdir -p "$B/long"
    : >"$keep"
fi

tree=$B/planted/tree
rm -rf "$tree"
mkdir -p "$tree"
cp -R src tests fuzz include docs Cargo.toml Cargo.lock build.rs cbindgen.toml "$tree"
rm -rf "$tree/fuzz/target"
# Not those of the real tree: cargo takes a file of the copy for the one it is a copy of.
target=$(cd "$B" && pwd)/planted/target
fuzz_target=$(cd "$B" && pwd)/planted/target-fuzz
if [ "$what" != proptest ]; then
    $NIGHTLY --version >/dev/null 2>&1 || {
        echo "make: a nightly Rust toolchain is missing. Install it with: rustup toolchain install nightly --profile minimal" >&2
        exit 1
    }
    B=$B CARGO=$CARGO NIGHTLY=$NIGHTLY sh fuzz/fuzz.sh tool
    PATH=$(cd "$B" && pwd)/tools/bin:$PATH
    export PATH
fi

# plant FILE OLD NEW: ~ stands for the end of a line.
plant() {
    PLANT_OLD=$2 PLANT_NEW=$3 awk '
        BEGIN { RS = "\001"; old = ENVIRON["PLANT_OLD"]; new = ENVIRON["PLANT_NEW"]; gsub(/~/, "\n", old); gsub(/~/, "\n", new) }
        {
            at = index($0, old)
            if (!at || index(substr($0, at + 1), old)) { bad = 1; exit }
            printf "%s%s%s", substr($0, 1, at - 1), new, substr($0, at + length(old))
        }
        END { exit bad }' "$1" >"$tree/$1" || {
        echo "planted: this does not stand once in $1: $2" >&2
        exit 1
    }
}

# fails TEST LOG: does it, of the planted copy, by itself and not for want of a compiler?
fails() {
    (cd "$tree" && RUST_BACKTRACE=0 MAKEFLAGS='' $CARGO test --no-run --quiet --test "$1" --target-dir "$target") >"$2" 2>&1 || {
        cat "$2" >&2
        echo "planted: the copy with the bug $name does not compile" >&2
        exit 1
    }
    ! (cd "$tree" && RUST_BACKTRACE=0 MAKEFLAGS='' $CARGO test --quiet --test "$1" --target-dir "$target") >>"$2" 2>&1
}

# found_by LOG WHO: the line in which WHO says what is meant for this bug; the last one is shrunk.
found_by() {
    grep -aF "$says" "$1" | tail -n 1 | grep . || {
        echo "planted: $name was found by $2, but not by: $says; see $1" >&2
        exit 1
    }
}

n=0 corpus=0 fuzzed=0
while IFS='|' read -r name fuzz says file old new; do
    [ -n "$name" ] || continue
    plant "$file" "$old" "$new"
    log=$B/planted/$name
    if [ "$what" != fuzz ]; then
        if ! fails engine "$log.log"; then
            echo "planted: $name was not found by the property test, see $log.log" >&2
            exit 1
        fi
        why=$(found_by "$log.log" "the property test")
        also=
        if fails corpus "$log.corpus.log" && grep -Fq "$says" "$log.corpus.log"; then
            corpus=$((corpus + 1)) also=', and by the corpus'
        fi
        echo "planted: $name: found by the property test$also: $why"
    fi
    if [ "$what" != proptest ] && [ "$fuzz" = fuzz ]; then
        (cd "$tree" && $NIGHTLY fuzz build --fuzz-dir fuzz -s none --target-dir "$fuzz_target" calls) >"$log.fuzz.log" 2>&1 || {
            cat "$log.fuzz.log" >&2
            exit 1
        }
        fuzzer=$(find "$fuzz_target" -path '*/release/calls' -type f | head -n 1)
        if "$fuzzer" -seed=1 -max_len=1024 -timeout=120 -max_total_time="$T" -artifact_prefix="$log." >"$log.fuzz.log" 2>&1; then
            echo "planted: $name was not found by the fuzzer in $T s, see $log.fuzz.log" >&2
            exit 1
        fi
        grep -aq 'Test unit written to' "$log.fuzz.log" || {
            tail -n 20 "$log.fuzz.log" >&2
            echo "planted: the fuzzer itself went wrong, see $log.fuzz.log" >&2
            exit 1
        }
        why=$(found_by "$log.fuzz.log" "the fuzzer")
        fuzzed=$((fuzzed + 1))
        echo "planted: $name: found by the fuzzer, beginning with nothing, after about $(LC_ALL=C sed -n 's/^#\([0-9][0-9]*\)[^0-9].*/\1/p' "$log.fuzz.log" | tail -n 1) sequences: $why" | tee -a "$keep"
    fi
    cp "$file" "$tree/$file"
    n=$((n + 1))
done <<END
$planted
END
case $what in
proptest) echo "planted: $n bugs, each found by the property test; $corpus by the committed corpus" ;;
fuzz) echo "planted: $fuzzed bugs, each found by the fuzzer" | tee -a "$keep" ;;
*) echo "planted: $n bugs, each found by the property test; $corpus by the committed corpus; $fuzzed of $fuzzed by the fuzzer" ;;
esac
