#!/bin/sh
# Instructions per command, by kind, under callgrind, beside those recorded in docs/performance.md.
# Counts do not depend on how busy the machine is. Order commands of the mix are counted from their handler
# on, all others whole, from the decoded frame to the last event; stages of the pipeline per command, without
# what the engine takes.
#
#   tools/instructions.sh                      build, run, print kind, instructions now, recorded, change
#   tools/instructions.sh BINARY               the same with a binary that is there
#   tools/instructions.sh --branches [BINARY]  the functions with most mispredicted branches and cache misses
set -eu
cd "$(dirname "$0")/.."
branches=
if [ "${1:-}" = --branches ]; then branches=yes; shift; fi
binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --release --locked -p millrace --bin millrace
    binary=${CARGO_TARGET_DIR:-target}/release/millrace
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# run WHAT WORKLOAD [OPTION..]: a benchmark under callgrind.
run() {
    what=$1 workload=$2
    shift 2
    valgrind --tool=callgrind --callgrind-out-file="$out" ${branches:+--branch-sim=yes --cache-sim=yes} \
        "$binary" bench "$what" --workload "$workload" --accounts 1000 --commands 200000 "$@" >/dev/null 2>&1
}

# table HOW [NAME]: what was run, against the table. How: handlers (order commands, from their handler on),
# whole (each command, under a name), stages.
table() {
    # Names are written once, "(7) name", then by number. A call is "calls=N ..." and, on the line
    # below, the instructions of all of them.
    awk -v how="$1" -v whole="${2:-}" '
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
            is_engine = names[called] ~ /Engine::(apply|prefetch_[a-z_]*)$/
            # Not those that set the scene.
            if (names[caller] ~ /bench::engine::throughput/ && names[called] ~ /Engine::apply$/) {
                applied += many[2]; spent += $2
            }
            if (names[caller] ~ /Executor::do_work/ && is_engine) {
                engine += $2
                if (names[called] ~ /apply$/) executed += many[2]
            }
        }
        function report(kind, now, number, was) {
            was = recorded[kind]
            printf "%-24s %8d calls %7.0f instructions, recorded %7d  %s\n", kind, number, now, was,
                was ? sprintf("%+.1f %%", 100 * (now - was) / was) : "new"
        }
        function of(pattern, number, sum) {
            for (number in cost) if (names[number] ~ pattern) sum += cost[number]
            return sum
        }
        END {
            if (how == "whole") report(whole, spent / applied, applied)
            if (how == "stages") {
                report("stage_publish", of("Ingress::take$") / executed, executed)
                report("stage_append", of("Writer::append$") / executed, executed)
                report("stage_journal", of("Journaler::try_work$") / executed, executed)
                report("stage_execute", (of("Executor::do_work$") - engine) / executed, executed)
                report("stage_respond", of("Responder::do_work$") / executed, executed)
            }
            if (how == "handlers") for (number in calls) {
                kind = names[number]; sub(/.*::/, "", kind); sub(/\047.*/, "", kind)
                if (names[number] ~ /handlers::orders::.*(place|replace|cancel)_order(\047.*)?$/)
                    report(kind, cost[number] / calls[number], calls[number])
            }
        }
    ' docs/performance.md "$out" | sort
}

# worst WORKLOAD: per thousand commands, mispredicted branches and first-level cache misses by function,
# what it inlines included.
worst() {
    echo "$1: per thousand commands"
    awk '
        /^events:/ { for (at = 2; at <= NF; at++) event[$at] = at; next }
        /^c?fn=\(/ {
            number = $0; sub(/^c?fn=\(/, "", number); sub(/\).*/, "", number)
            if ($0 ~ /\) /) { name = $0; sub(/^[^)]*\) /, "", name); names[number] = name }
            if ($0 !~ /^cfn/) caller = number
            next
        }
        /^calls=/ { split($1, many, "="); if (names[number] ~ /Engine::apply$/) applied += many[2]; getline; next }
        /^[0-9+*-]/ {
            wrong[caller] += $event["Bcm"] + $event["Bim"]; missed[caller] += $event["D1mr"] + $event["D1mw"]
        }
        END {
            for (number in wrong) if (names[number] ~ /engine/ && names[number] !~ /bench|audit/)
                printf "%8.0f mispredicted %8.0f missed  %s\n", 1000 * wrong[number] / applied,
                    1000 * missed[number] / applied, names[number]
        }
    ' "$out" | sort -rn | head -8
}

if [ -n "$branches" ]; then
    for workload in transfers payments orders; do
        run engine $workload
        worst $workload
    done
    exit
fi
run engine orders && table handlers
run engine transfers && table whole transfer
run engine payments && table whole submit_payment_settled
run engine queued && table whole submit_payment_queued
run engine cancels && table whole cancel_payment
for kind in pending post void authorise capture; do
    run engine single --single $kind && table whole $kind
done
run engine single --single offset && table whole submit_payment_offset
run engine single --single resting && table whole place_order_resting
run engine single --single crossing && table whole place_order_crossing
run engine single --single replace && table whole replace_order_moved
run engine single --single cancel && table whole cancel_order_resting
run pipeline transfers && table stages
