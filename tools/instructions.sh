#!/bin/sh
# Instructions per command, by kind, under callgrind, beside those recorded in docs/performance.md.
# Counts do not depend on how busy the machine is. Order commands are counted from their handler on,
# transfers and payments whole, from the decoded frame to the last event.
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

# count WORKLOAD NAME: instructions of the handlers, or, with a name, of each command under it.
count() {
    valgrind --tool=callgrind --callgrind-out-file="$out" "$binary" bench engine \
        --workload "$1" --accounts 1000 --commands 200000 >/dev/null 2>&1
    # Names are written once, "(7) name", then by number. A call is "calls=N ..." and, on the line
    # below, the instructions of all of them.
    awk -v whole="$2" '
        FILENAME == ARGV[1] {
            if (match($0, /^\| `[a-z_]+`[^|]*\| [0-9]+ \|/)) { split($0, cell, "|"); gsub(/[` ]/, "", cell[2])
                recorded[cell[2]] = cell[3] + 0 }
            next
        }
        /^c?fn=\(/ {
            number = $0; sub(/^c?fn=\(/, "", number); sub(/\).*/, "", number)
            if ($0 ~ /\) /) { name = $0; sub(/^[^)]*\) /, "", name); names[number] = name }
            if ($0 ~ /^cfn/) called = number; else caller = number
        }
        /^calls=/ {
            split($1, many, "="); getline
            calls[called] += many[2]; cost[called] += $2
            # Not those that set the scene.
            if (names[caller] ~ /bench::engine::throughput/ && names[called] ~ /Engine::apply$/) {
                applied += many[2]; spent += $2
            }
        }
        function report(kind, now, number, was) {
            was = recorded[kind]
            printf "%-24s %8d calls %7.0f instructions, recorded %7d  %s\n", kind, number, now, was,
                was ? sprintf("%+.1f %%", 100 * (now - was) / was) : "new"
        }
        END {
            if (whole != "") { report(whole, spent / applied, applied); exit }
            for (number in calls) {
                kind = names[number]; sub(/.*::/, "", kind); sub(/\047.*/, "", kind)
                if (names[number] ~ /handlers::orders::.*(place|replace|cancel)_order(\047.*)?$/)
                    report(kind, cost[number] / calls[number], calls[number])
            }
        }
    ' docs/performance.md "$out" | sort
}

count orders ""
count transfers transfer
count payments submit_payment_settled
count queued submit_payment_queued
count cancels cancel_payment
