#!/bin/sh
# Instructions per command of the pipeline on one thread (rings, journal, engine), without and with its
# stages measured, under callgrind. Counts do not depend on how busy the machine is; what reading a clock
# takes beyond its call is not in them (docs/performance.md has the times).
#
#   tools/stage-times-cost.sh            build, run, print both and the difference
#   tools/stage-times-cost.sh BINARY     the same with a binary that is there
set -eu
cd "$(dirname "$0")/.."
binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --release --locked -p millrace --bin millrace
    binary=${CARGO_TARGET_DIR:-target}/release/millrace
fi
commands=102400
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# count [FLAG]: instructions per command, what makes the commands included.
count() {
    valgrind --tool=callgrind --callgrind-out-file="$out" \
        --toggle-collect='millrace::bench::pipeline::throughput*' "$binary" bench pipeline \
        --accounts 1000 --commands "$commands" "$@" >/dev/null 2>&1
    awk -v commands="$commands" '/^summary:/ { printf "%.1f\n", $2 / commands }' "$out"
}

without=$(count)
with=$(count --stage-times)
awk -v without="$without" -v with="$with" 'BEGIN {
    printf "instructions per command: %.1f without, %.1f with stages measured: %+.1f, %+.2f %%\n",
        without, with, with - without, 100 * (with - without) / without
}'
