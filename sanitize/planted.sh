#!/bin/sh
# Runs each planted bug under the tools that must find it: `make sanitize-planted`. A bug that is
# not reported, or not by its name, is an error: then the tool does not watch.
set -u
B=$1
log=$B/sanitize/planted.log
found=0
failed=0

# finds TOOL BUG TEXT... -- COMMAND...: the command must fail, with each of these texts.
finds() {
    tool=$1 bug=$2
    shift 2
    texts=
    while [ "$1" != -- ]; do
        texts="$texts$1
"
        shift
    done
    shift
    if timeout 120 "$@" "$bug" >"$log" 2>&1; then
        echo "sanitize-planted: $tool does not find $bug: it passes" >&2
        failed=1
        return
    fi
    missing=$(printf '%s' "$texts" | while IFS= read -r text; do grep -qF -- "$text" "$log" || echo "$text"; done)
    if [ -n "$missing" ]; then
        echo "sanitize-planted: $tool, $bug: no \"$missing\" in the report:" >&2
        head -n 40 "$log" >&2
        failed=1
        return
    fi
    echo "ok   $tool finds $bug: $(printf '%s' "$texts" | tr '\n' ',' | sed 's/,$//; s/,/, /g')"
    found=$((found + 1))
}

asan() { finds ASan "$@" -- "$B/asan/planted"; }
asan freed_argument heap-use-after-free reads_freed
asan freed_result heap-use-after-free gt_check_timers
asan short_buffer heap-buffer-overflow gt_stats_json
asan leak 'LeakSanitizer: detected memory leaks' leaks_argument

export TSAN_OPTIONS='halt_on_error=1'
tsan() { finds TSan "$@" -- "$B/tsan/planted"; }
tsan race 'data race' writes_shared
tsan race_of_results 'data race' gt_check_timers

embed() { finds 'TSan of the program' "$@" -- "$B/tsan-embed/planted"; }
embed race 'data race' writes_shared
# The other side: without what the library tells, data that is handed over is reported.
export GOTIMER_TSAN=0 GT_TSAN_CASE=arm_then_callback
finds 'TSan of the program, with GOTIMER_TSAN=0,' arm_then_callback 'data race' writes_in_callback -- "$B/tsan-embed/embed"
unset GOTIMER_TSAN GT_TSAN_CASE

ubsan() { finds UBSan "$@" -- "$B/ubsan/planted"; }
ubsan overflow 'signed integer overflow'
ubsan shift 'shift exponent 40 is too large'

memcheck() {
    finds memcheck "$@" -- valgrind -q --error-exitcode=99 --suppressions=ctests/valgrind.supp \
        --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$B/sanitize/planted"
}
memcheck freed_argument 'Invalid read of size 4' reads_freed
memcheck freed_result 'Invalid write of size 8' gt_check_timers
memcheck short_buffer 'Invalid write' gt_stats_json
memcheck leak 'definitely lost' leaks_argument
memcheck unwritten 'depends on uninitialised value' branches

for tool in helgrind drd; do
    finds $tool racing racing -- valgrind -q --tool=$tool --error-exitcode=99 --fair-sched=yes \
        --suppressions=sanitize/$tool.supp "$B/sanitize/lockers"
done

[ "$failed" = 0 ] || exit 1
echo "sanitize-planted: $found planted bugs, all found"
