//! What a run came to: a table of counts, as text or as Markdown.

use super::Kind;
use super::check::Findings;
use super::overload::Offered;
use super::shared::Shared;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts of rounds of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// Rounds.
    pub rounds: u64,
    /// Commands sent.
    pub sent: u64,
    /// Commands answered.
    pub acknowledged: u64,
    /// Commands refused because the ring was full.
    pub busy: u64,
    /// Watchers dropped because they did not read.
    pub dropped: u64,
    /// Connections made again by honest clients.
    pub reconnects: u64,
}

impl Row {
    /// The counts as they stand.
    pub fn read(shared: &Shared) -> Row {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Row {
            rounds: 0,
            sent: of(&shared.sent),
            acknowledged: of(&shared.acknowledged),
            busy: of(&shared.busy),
            dropped: of(&shared.dropped),
            reconnects: of(&shared.reconnects),
        }
    }

    /// What has come since.
    pub fn since(&self, before: &Row) -> Row {
        Row {
            rounds: 1,
            sent: self.sent - before.sent,
            acknowledged: self.acknowledged - before.acknowledged,
            busy: self.busy - before.busy,
            dropped: self.dropped - before.dropped,
            reconnects: self.reconnects - before.reconnects,
        }
    }

    fn add(&mut self, other: &Row) {
        self.rounds += other.rounds;
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.busy += other.busy;
        self.dropped += other.dropped;
        self.reconnects += other.reconnects;
    }
}

/// What a run came to.
pub struct Report {
    seed: u64,
    /// By kind.
    pub rows: Vec<Row>,
    /// The longest silence of honest clients, by kind.
    silence: Vec<Duration>,
    /// Journals that lived and were compared.
    pub journals: u64,
    /// Nodes killed.
    pub kills: u64,
    /// From the start of a node to its first line, each.
    pub recoveries: Vec<Duration>,
    /// Snapshots taken.
    pub snapshots: u64,
    /// Jumps of the clock.
    pub jumps: u64,
    /// Kinds of rounds that cannot be done here.
    pub skipped: Vec<Kind>,
    /// Connections cut.
    pub cuts: u64,
    /// Replays whose digest was the live node's.
    pub digests: u64,
    /// The largest node in memory, bytes.
    pub resident_peak: u64,
    /// What each overload came to.
    pub offered: Vec<Offered>,
    /// What the checker found.
    pub found: Findings,
    /// How long it compared.
    pub checking: Duration,
    facts: Vec<(&'static str, String)>,
    elapsed: Duration,
}

impl Report {
    /// Nothing yet.
    pub fn new(seed: u64) -> Report {
        Report {
            seed,
            rows: vec![Row::default(); Kind::ALL.len()],
            silence: vec![Duration::ZERO; Kind::ALL.len()],
            journals: 0,
            kills: 0,
            recoveries: Vec::new(),
            snapshots: 0,
            jumps: 0,
            skipped: Vec::new(),
            cuts: 0,
            digests: 0,
            resident_peak: 0,
            offered: Vec::new(),
            found: Findings::default(),
            checking: Duration::ZERO,
            facts: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// A round is over.
    pub fn add_round(&mut self, kind: Kind, row: &Row) {
        self.rows[kind as usize].add(row);
    }

    /// Rounds so far.
    pub fn rounds(&self) -> u64 {
        self.rows.iter().map(|row| row.rounds).sum()
    }

    /// Nothing lost, doubled, invented or changed.
    pub fn is_clean(&self) -> bool {
        let found = &self.found;
        found.lost + found.doubled + found.phantom + found.altered == 0
            && found.differences.is_empty()
    }

    /// The run is over.
    pub fn finish(&mut self, shared: &Shared, elapsed: Duration) {
        for (at, silence) in self.silence.iter_mut().enumerate() {
            *silence = Duration::from_micros(shared.silence_us(at));
        }
        self.elapsed = elapsed;
        let of = |counter: &AtomicU64| grouped(counter.load(Ordering::Relaxed));
        let found = &self.found;
        let mut facts = vec![
            ("commands executed", grouped(found.executed)),
            ("of them the node's own (ticks)", grouped(found.own)),
            ("answers that clients hold", grouped(found.answered)),
            ("**lost**", grouped(found.lost)),
            ("**doubled**", grouped(found.doubled)),
            (
                "**executed, but sent by nobody or refused**",
                grouped(found.phantom),
            ),
            (
                "**executed otherwise than answered or watched**",
                grouped(found.altered),
            ),
            (
                "commands watched whole, compared too",
                grouped(found.watched),
            ),
            (
                "replays that gave the live node's digest, with and without snapshot",
                grouped(self.digests),
            ),
            (
                "journals, each with its books, sums of accounts and `verify`",
                grouped(self.journals),
            ),
            ("nodes killed", grouped(self.kills)),
            (
                "recoveries, start to first line (p50, longest)",
                milliseconds(&self.recoveries),
            ),
            ("snapshots taken beside the node", grouped(self.snapshots)),
            ("connections cut at a random byte", grouped(self.cuts)),
            (
                "clients that came back in a new process",
                of(&shared.reborn),
            ),
            (
                "answers no longer kept when asked for",
                of(&shared.answers_gone),
            ),
            (
                "events watched by clients that stop reading",
                of(&shared.watched),
            ),
            (
                "of them dropped as slow, back by sequence",
                of(&shared.dropped),
            ),
            (
                "attacks, and of them refused or thrown out",
                format!("{}, {}", of(&shared.attacks), of(&shared.refused)),
            ),
            ("connections of crowds", of(&shared.flood)),
            (
                "overload: what the node could do (median), offered",
                self.offers(),
            ),
            (
                "overload: sent to the node, of it accepted, held back by clients",
                format!(
                    "{}, {}, {}",
                    grouped(self.overload_sent()),
                    of(&shared.accepted),
                    of(&shared.held_back)
                ),
            ),
            (
                "overload: sent to answered, accepted ones (p50, p99, max)",
                quantiles(&shared.latency_us),
            ),
            (
                "overload: door to executed, the same",
                quantiles(&shared.inside_us),
            ),
            (
                "largest node in memory",
                format!("{} MB", self.resident_peak >> 20),
            ),
        ];
        facts.push(("jumps of the wall clock", grouped(self.jumps)));
        facts.push((
            "time, of it comparing",
            format!(
                "{:.0} s, {:.0} s",
                elapsed.as_secs_f64(),
                self.checking.as_secs_f64()
            ),
        ));
        self.facts = facts;
    }

    fn overload_sent(&self) -> u64 {
        let of = |kind: Kind| self.rows[kind as usize].sent;
        of(Kind::Overload) + of(Kind::OverloadKill)
    }

    fn offers(&self) -> String {
        let mut capacities: Vec<u64> = self.offered.iter().map(|it| it.capacity).collect();
        capacities.sort_unstable();
        match capacities.get(capacities.len() / 2) {
            Some(median) => format!("{}/s, {}/s", grouped(*median), grouped(median * 10)),
            None => "none".into(),
        }
    }

    /// The table.
    pub fn render(&self, markdown: bool) -> String {
        let mut out = String::new();
        let head = [
            "rounds of",
            "rounds",
            "sent",
            "acknowledged",
            "busy",
            "dropped",
            "reconnects",
            "longest silence, ms",
        ];
        let mut lines: Vec<Vec<String>> = Vec::new();
        let mut total = Row::default();
        for (kind, (row, silence)) in Kind::ALL.iter().zip(self.rows.iter().zip(&self.silence)) {
            total.add(row);
            if row.rounds > 0 {
                lines.push(cells(kind.what(), row, *silence));
            } else if self.skipped.contains(kind) {
                let name = format!("SKIPPED, no clock here: {}", kind.what());
                lines.push(cells(&name, row, *silence));
            }
        }
        let longest = self.silence.iter().copied().max().unwrap_or_default();
        lines.push(cells("all", &total, longest));
        table(&mut out, &head.map(String::from), &lines, markdown);
        out.push('\n');
        let facts: Vec<Vec<String>> = self
            .facts
            .iter()
            .map(|(name, value)| vec![(*name).to_string(), value.clone()])
            .collect();
        let head = ["what".to_string(), format!("seed {}", self.seed)];
        table(&mut out, &head, &facts, markdown);
        for difference in &self.found.differences {
            let _ = writeln!(out, "{difference}");
        }
        out
    }
}

fn cells(name: &str, row: &Row, silence: Duration) -> Vec<String> {
    let mut cells = vec![name.to_string()];
    let counts = [
        row.rounds,
        row.sent,
        row.acknowledged,
        row.busy,
        row.dropped,
        row.reconnects,
    ];
    cells.extend(counts.map(grouped));
    cells.push(grouped(silence.as_millis() as u64));
    cells
}

fn table(out: &mut String, head: &[String], lines: &[Vec<String>], markdown: bool) {
    if markdown {
        let _ = writeln!(out, "| {} |", head.join(" | "));
        let _ = writeln!(out, "|---|{}", "---:|".repeat(head.len() - 1));
        for line in lines {
            let _ = writeln!(out, "| {} |", line.join(" | "));
        }
        return;
    }
    let plain = |text: &str| text.replace("**", "").replace('`', "");
    let mut widths = vec![0; head.len()];
    for line in std::iter::once(head).chain(lines.iter().map(Vec::as_slice)) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(plain(cell).chars().count());
        }
    }
    for line in std::iter::once(head).chain(lines.iter().map(Vec::as_slice)) {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let cell = plain(cell);
            let _ = match at {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
}

fn milliseconds(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => format!(
            "{}: {} ms, {} ms",
            times.len(),
            median.as_millis(),
            longest.as_millis()
        ),
        _ => "none".into(),
    }
}

fn quantiles(latency_us: &std::sync::Mutex<Vec<u32>>) -> String {
    let mut sorted = latency_us.lock().unwrap_or_else(|e| e.into_inner()).clone();
    sorted.sort_unstable();
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    if sorted.is_empty() {
        return "none".into();
    }
    let ms = |us: u32| format!("{:.1}", f64::from(us) / 1_000.0);
    format!("{}, {}, {} ms", ms(at(0.5)), ms(at(0.99)), ms(at(1.0)))
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
