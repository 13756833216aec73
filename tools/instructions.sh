#!/bin/sh
# Instructions per order command, by kind, under callgrind, beside those recorded in
# docs/performance.md. Counts do not depend on how busy the machine is.
#
#   tools/instructions.sh            build, run, print kind, instructions now, recorded, change
#   tools/instructions.sh BINARY     the same with a binary that is there
set -eu
cd "$(dirname "$0")/.."
binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --release --locked -p millrace --bin millrace
    binary=${CARGO_TARGET_DIR:-target}/release/millrace
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
valgrind --tool=callgrind --callgrind-out-file="$out" \
    "$binary" bench engine --workload orders --commands 200000 >/dev/null 2>&1
# Names are written once, "(7) name", then by number. A call is "calls=N ..." and, on the line
# below, the instructions of all of them.
awk '
    FILENAME == ARGV[1] {
        if (match($0, /^\| `[a-z_]+` \| [0-9]+ \|/)) { split($0, cell, "|"); gsub(/[` ]/, "", cell[2])
            recorded[cell[2]] = cell[3] + 0 }
        next
    }
    /^c?fn=\(/ {
        number = $0; sub(/^c?fn=\(/, "", number); sub(/\).*/, "", number)
        if ($0 ~ /\) /) { name = $0; sub(/^[^)]*\) /, "", name); names[number] = name }
        if ($0 ~ /^cfn/) called = number
    }
    /^calls=/ { split($1, count, "="); getline; calls[called] += count[2]; cost[called] += $2 }
    END {
        for (number in calls) {
            kind = names[number]; sub(/.*::/, "", kind); sub(/\047.*/, "", kind)
            if (names[number] ~ /handlers::orders::.*(place|replace|cancel)_order(\047.*)?$/) {
                now = cost[number] / calls[number]
                was = recorded[kind]
                change = was ? sprintf("%+.1f %%", 100 * (now - was) / was) : "new"
                printf "%-14s %8d calls %7.0f instructions, recorded %7d  %s\n", kind, calls[number], now, was, change
            }
        }
    }
' docs/performance.md "$out" | sort
