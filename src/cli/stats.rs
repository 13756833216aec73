//! `millrace client stats`: how a running node is, once or again and again.

use super::CliError;
use crate::bench::human;
use crate::client::{Client, Stats};
use crate::protocol::session::{NodeStats, Span, StageTimes};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Asks once, or `every` so many seconds up to `limit` times, and prints each answer.
pub(crate) fn run(
    client: &mut Client,
    every: Option<f64>,
    limit: Option<u64>,
    as_json: bool,
) -> Result<(), CliError> {
    let pause = match every {
        Some(seconds) if !(0.01..=86_400.0).contains(&seconds) => {
            return Err(CliError::Usage(format!(
                "--every {seconds} is not between 0.01 and 86400 seconds"
            )));
        }
        seconds => seconds.map(Duration::from_secs_f64),
    };
    let limit = limit.or((pause.is_none()).then_some(1));
    let in_place = pause.is_some() && !as_json && std::io::stdout().is_terminal();
    let mut printed = 0;
    let mut before: Option<NodeStats> = None;
    while limit.is_none_or(|limit| printed < limit) {
        if printed > 0
            && let Some(pause) = pause
        {
            std::thread::sleep(pause);
        }
        let stats = client.stats().map_err(CliError::failed)?;
        if as_json {
            say!("{}", to_json(&stats));
        } else {
            let clear = if in_place { "\x1b[2J\x1b[H" } else { "" };
            say!("{clear}{}", to_text(&stats, before.as_ref()));
        }
        before = Some(stats.node);
        printed += 1;
    }
    Ok(())
}

fn to_json(stats: &Stats) -> Value {
    let node = &stats.node;
    let stages: Vec<Value> = stats
        .stages
        .iter()
        .map(|it| {
            json!({
                "span": it.span.name(),
                "stage": it.stage.name(),
                "commands": it.commands,
                "mean_ns": it.mean_ns,
                "p50_ns": it.p50_ns,
                "p90_ns": it.p90_ns,
                "p99_ns": it.p99_ns,
                "p99.9_ns": it.p999_ns,
                "max_ns": it.max_ns,
            })
        })
        .collect();
    json!({
        "at": node.at.0,
        "started_at": node.started_at.0,
        "sequence": node.sequence,
        "durable": node.durable,
        "commands": node.commands,
        "answered": node.answered,
        "busy": node.busy,
        "commits": node.commits,
        "ring_slots_used": node.ring_slots_used,
        "ring_slots_peak": node.ring_slots_peak,
        // Left out where the journal is not short of room.
        "journal_space": (node.journal_space != u64::MAX).then_some(node.journal_space),
        "connections": node.connections,
        "accepted": node.accepted,
        "slow_consumers": node.slow_consumers,
        "malformed": node.malformed,
        "sessions": node.sessions,
        "stages": stages,
    })
}

/// Two lines of counts and a table of stages for each span.
fn to_text(stats: &Stats, before: Option<&NodeStats>) -> String {
    let node = &stats.node;
    let up = Duration::from_nanos(node.at.0.saturating_sub(node.started_at.0));
    let mut out = format!(
        "up {}, sequence {}, durable {}, {} connections, {} sessions\n",
        for_people(up),
        node.sequence,
        node.durable,
        node.connections,
        node.sessions
    );
    let _ = writeln!(
        out,
        "taken {}, answered {}, busy {}, commits {}; ring: {} slots in use, {} at most in the last second",
        node.commands,
        node.answered,
        node.busy,
        node.commits,
        node.ring_slots_used,
        node.ring_slots_peak
    );
    let _ = writeln!(
        out,
        "accepted {} connections, dropped {} slow ones and {} that sent no frames",
        node.accepted, node.slow_consumers, node.malformed
    );
    if node.journal_space != u64::MAX {
        let _ = writeln!(
            out,
            "THE DISK IS FULL: the journal takes {} bytes more",
            node.journal_space
        );
    }
    if let Some(before) = before {
        let seconds = node.at.0.saturating_sub(before.at.0).max(1) as f64 / 1e9;
        let commands = node.commands - before.commands.min(node.commands);
        let commits = node.commits - before.commits.min(node.commits);
        let _ = write!(out, "{:.0} commands/s", commands as f64 / seconds);
        if commits > 0 {
            let _ = write!(out, ", {:.1} a commit", commands as f64 / commits as f64);
        }
        let _ = writeln!(out, " since the last look");
    }
    for span in Span::ALL {
        let rows: Vec<&StageTimes> = stats.stages.iter().filter(|it| it.span == *span).collect();
        let Some(first) = rows.first() else { continue };
        let over = match span {
            Span::LastSecond => "the last second",
            Span::SinceStart => "since start",
        };
        let _ = writeln!(
            out,
            "\n{over}: {} commands\n{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            first.commands, "", "mean", "p50", "p90", "p99", "p99.9", "max"
        );
        for row in rows {
            let _ = write!(out, "{:<12}", row.stage.name().replace('_', " "));
            for ns in [
                row.mean_ns,
                row.p50_ns,
                row.p90_ns,
                row.p99_ns,
                row.p999_ns,
                row.max_ns,
            ] {
                let _ = write!(out, "{:>10}", human(ns));
            }
            out.push('\n');
        }
    }
    if stats.stages.is_empty() {
        out += "stages are not measured: stage_times = false\n";
    }
    out.truncate(out.trim_end().len());
    out
}

/// Days, hours, minutes and seconds: the two largest that say something.
fn for_people(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_two_units() {
        let says = |seconds| for_people(Duration::from_secs(seconds));
        assert_eq!(says(59), "59 s");
        assert_eq!(says(61), "1 min 1 s");
        assert_eq!(says(7_260), "2 h 1 min");
        assert_eq!(says(90_000), "1 d 1 h");
    }
}
