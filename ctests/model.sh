#!/bin/sh
# The loom models: all pass as the code stands, and for each mutation (a small wrong change
# behind cfg(gt_mutant = "name")) at least one fails. Called by `make model`.
set -eu
: "${CARGO:=cargo}" "${TARGET:=target}"

export RUSTFLAGS="--cfg gt_loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

# models ARG...: builds and runs the models. build.rs turns GT_MUTANT into the cfg.
models() {
    $CARGO test --quiet --release --lib --target-dir "$TARGET/loom" "$@"
}

models model

mutants=$(grep -rhoE 'gt_mutant *= *"[a-z0-9_]+"' src | sed 's/.*"\(.*\)"/\1/' | sort -u)
caught=0
for m in $mutants; do
    # A mutation that does not compile proves nothing: build first, then run.
    log=$TARGET/mutant-$m.log
    GT_MUTANT=$m models --no-run >"$log" 2>&1 || {
        echo "model: mutation $m does not compile; see $log" >&2
        exit 1
    }
    # The quick models first, and without backtraces: this is run many times.
    export RUST_BACKTRACE=0
    if GT_MUTANT=$m models model -- --skip against_a_sweep --skip late_note >>"$log" 2>&1 &&
        GT_MUTANT=$m models late_note >>"$log" 2>&1 && GT_MUTANT=$m models against_a_sweep >>"$log" 2>&1; then
        echo "model: mutation $m survives: no model fails with it" >&2
        exit 1
    fi
    echo "model: mutation $m is caught by $(sed -n "s/^thread '\(model::[a-z_:]*\)'.*panicked.*/\1/p" "$log" | sort -u | tr '\n' ' ')"
    caught=$((caught + 1))
done
echo "model: all models pass; $caught mutations caught"
