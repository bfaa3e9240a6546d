#!/bin/sh
# The models (src/model/). Called by make:
#   run.sh models       loom: all models; shuttle: SCHEDULES random schedules
#   run.sh long         the same with one preemption more, and a million schedules or SCHEDULES;
#                       the closing lines go to the file KEEP too
#   run.sh replay FILE  shuttle: a schedule with which a storm failed
# CARGO and TARGET (cargo's target directory) are make's. JOBS: how many processors to use.
# MODELS: a part of the names of the models, if not all shall run.
set -eu
: "${CARGO:=cargo}" "${TARGET:=target}" "${MODELS:=}"
: "${JOBS:=$(getconf _NPROCESSORS_ONLN)}"
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export RUST_BACKTRACE="${RUST_BACKTRACE:-0}" GT_SCHEDULE_DIR="$TARGET/schedules"
mkdir -p "$GT_SCHEDULE_DIR"

# build loom|shuttle: the test program of that checker; its path goes to $program.
build() {
    program=$(RUSTFLAGS="--cfg gt_$1" MAKEFLAGS='' $CARGO test --quiet --release --lib --no-run \
        --target-dir "$TARGET/$1" --message-format json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -n "$program" ] || { echo "model: the models for $1 do not build" >&2; exit 1; }
}

# say TEXT: a closing line; of a long run kept for docs/proof.md.
say() {
    echo "$1"
    [ -z "${LONG:-}" ] || echo "$1" >>"$LONG"
}

# storm N: N schedules, half of them random, half of them PCT.
storm() {
    build shuttle
    begin=$(date +%s)
    GT_SCHEDULES=$(($1 / 2)) "$program" --quiet --test-threads "$JOBS" --nocapture storm || {
        echo "model: a storm failed. Replay it with: make model-replay SCHEDULE=file, the file named above" >&2
        exit 1
    }
    say "model: $(($1 / 2 * 2)) random schedules passed in $(($(date +%s) - begin)) s"
}

# tree: all models in all interleavings.
tree() {
    build loom
    begin=$(date +%s)
    log=$TARGET/models.log
    # shellcheck disable=SC2086
    "$program" --test-threads "$JOBS" --nocapture $MODELS >"$log" 2>&1 || {
        grep -Ev '\.\.\. ok$|^loom: ' "$log" >&2
        exit 1
    }
    n=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$log")
    [ "${n:-0}" -gt 0 ] || { echo "model: no model is named so" >&2; exit 1; }
    executions=$(sed -n 's/.*loom: \([0-9]*\) executions.*/\1/p' "$log" | awk '{ n += $1 } END { print n }')
    say "model: all models pass: $n, $executions executions, in $(($(date +%s) - begin)) s"
}

case ${1:-models} in
models)
    storm "${SCHEDULES:-100000}"
    tree
    ;;
long)
    LONG=${KEEP:?a file}
    mkdir -p "$(dirname "$LONG")"
    echo "make model-long, PREEMPTIONS=${PREEMPTIONS:-1}:" >"$LONG"
    storm "${SCHEDULES:-1000000}"
    GT_PREEMPTIONS=${PREEMPTIONS:-1}
    export GT_PREEMPTIONS
    tree
    ;;
replay)
    build shuttle
    GT_SCHEDULE=$2 "$program" --nocapture --exact model::storm::random
    ;;
*)
    echo "models: what is $1?" >&2
    exit 2
    ;;
esac
