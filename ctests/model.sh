#!/bin/sh
# The loom models: all pass as the code stands, and for each mutation (a small wrong change
# behind cfg(gt_mutant = "name")) at least one fails. Called by `make model`.
set -eu
: "${CARGO:=cargo}" "${TARGET:=target}"
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"

# models DIRECTORY CFG...: builds and runs the models.
models() {
    dir=$1
    shift
    RUSTFLAGS="--cfg gt_loom $*" $CARGO test --quiet --release --lib --target-dir "$TARGET/$dir" model
}

models loom

mutants=$(grep -rhoE 'gt_mutant *= *"[a-z0-9_]+"' src | sed 's/.*"\(.*\)"/\1/' | sort -u)
caught=0
for m in $mutants; do
    # A mutation that does not compile proves nothing: build first, then run.
    log=$TARGET/mutant-$m.log
    RUSTFLAGS="--cfg gt_loom --cfg gt_mutant=\"$m\"" \
        $CARGO test --quiet --release --lib --no-run --target-dir "$TARGET/loom-mutant" >"$log" 2>&1 || {
        echo "model: mutation $m does not compile; see $log" >&2
        exit 1
    }
    if models loom-mutant "--cfg gt_mutant=\"$m\"" >>"$log" 2>&1; then
        echo "model: mutation $m survives: no model fails with it" >&2
        exit 1
    fi
    echo "model: mutation $m is caught by $(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | tr '\n' ' ')"
    caught=$((caught + 1))
done
echo "model: all models pass; $caught mutations caught"
