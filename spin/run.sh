#!/bin/sh
# Verifies the Promela models of this directory. `make spin` calls it.
#
#   sh spin/run.sh                      all models: the right ones pass, each wrong variant fails
#   sh spin/run.sh poller READ_OUTSIDE  one variant, and if it fails the shortest way to the
#                                       failure, step by step (no second word: the right model)
#
# A line of the list below: model, what is expected (pass, deadlock or assert), macros. A
# wrong variant must fail in the way that is expected, and not in another.
set -eu
here=$(dirname "$0")
: "${CC:=cc}" "${SPIN:=spin}" "${OUT:=build/spin}"
mkdir -p "$OUT"
here=$(cd "$here" && pwd)
OUT=$(cd "$OUT" && pwd)

list='
lock_order     pass
lock_order     pass      OLD_ORDER ALONE
lock_order     assert    OLD_ORDER
lock_order     deadlock  OLD_ORDER MIXED
insert_window  pass
insert_window  assert    SEED_WINDOW
insert_window  assert    NO_SECOND_LOOK
missed_wake    pass
missed_wake    deadlock  NO_SECOND_LOOK
missed_wake    deadlock  NO_PUBLISH
missed_wake    deadlock  NOTE_FIRST
missed_wake    deadlock  NOTE_IS_LOST
adjust         pass
adjust         assert    CLEAR_BEFORE_SCAN
adjust         assert    CLEAR_AFTER_SCAN
adjust         assert    FIRST_WORD_FIRST
poller         pass
poller         deadlock  READ_OUTSIDE
poller         deadlock  NO_ARM_BEFORE_SLEEP
poller         deadlock  NO_HAND_OVER
poller         deadlock  DUE_IS_LEFT
poller         deadlock  NO_ARM_IN_CALL
poller         deadlock  CALL_READS_OUTSIDE
poller         deadlock  CALL_NOT_EARLIER
poller         deadlock  NO_GONE_OFF
poller         pass      LEFT_THOUGH_PASSED
'

# check MODEL MACRO...: verifies it in a directory of its own; sets $got and $states.
check() {
    model=$1
    shift
    dir=$OUT/$(echo "$model" "$@" | tr ' ' '-')
    flags=
    for m in "$@"; do flags="$flags -D$m"; done
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$here"/*.pml "$dir"
    cd "$dir"
    # shellcheck disable=SC2086
    "$SPIN" -a $flags "$model.pml" >spin.log 2>&1 || { cat spin.log >&2; exit 1; }
    # -O0: the models are small, the compiler takes longer than the search.
    # shellcheck disable=SC2086
    $CC -O0 -w -DSAFETY $search -o pan pan.c
    # -m: depth; a search that is cut short there proves nothing, so it counts as an error.
    ./pan -m1000000 >pan.log 2>&1 || true
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
    if grep -q 'max search depth too small\|Search not completed' pan.log && ! [ -e "$model.pml.trail" ]; then
        got=unfinished
    elif grep -q 'pan:[0-9]*: invalid end state' pan.log; then
        got=deadlock
    elif grep -q 'pan:[0-9]*: assertion violated' pan.log; then
        got=assert
    elif grep -q 'errors: 0' pan.log; then
        got=pass
    else
        got=unknown
    fi
}

if [ $# -gt 0 ]; then
    search=-DBFS # finds the shortest way
    check "$@"
    echo "spin: $*: $got, $states states"
    if [ -e "$model.pml.trail" ]; then
        # shellcheck disable=SC2086
        "$SPIN" -t -p -g $flags "$model.pml"
    fi
    exit 0
fi

verified=0 refuted=0 search=
while read -r model want macros; do
    [ -n "$model" ] || continue
    # shellcheck disable=SC2086
    check "$model" $macros
    if [ "$got" != "$want" ]; then
        echo "spin: $model $macros: $got, expected $want; see $dir/pan.log" >&2
        exit 1
    fi
    case $want in
    pass) verified=$((verified + 1)) what="no error" ;;
    assert) refuted=$((refuted + 1)) what="an assertion fails, as it must" ;;
    deadlock) refuted=$((refuted + 1)) what="it hangs, as it must" ;;
    esac
    printf 'spin: %-14s %-24s %9s states: %s\n' "$model" "${macros:--}" "$states" "$what"
done <<END
$list
END
echo "spin: $verified models verified, $refuted wrong variants refuted"
