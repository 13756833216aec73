//! Torture: a real node, real sockets, and everything that can happen to them, in rounds drawn from a
//! seed, under clients who write down whatever they are told.
//!
//! ```text
//!  honest clients --- proxy that cuts --+
//!  slow watchers -----------------------+--> node (a process) <-- kill, stop, clock, snapshot
//!  hostile, crowds, overload -----------+       |
//!        |                                      v
//!        v                                  journal --> millrace replay --events
//!     records -------------> the checker <-----+
//! ```
//!
//! An epoch is the life of one journal: a number of rounds, each of one kind, and then the comparison
//! ([`mod@check`]). Seeds decide what is tried; when it happens is up to the machine.

mod books;
pub mod check;
mod clock;
mod hostile;
mod market;
mod node;
mod overload;
mod proxy;
mod random;
mod raw;
mod record;
pub mod report;
mod sender;
mod shared;
mod slow;

use books::Books;
use check::{Findings, check};
use clock::Clock;
use hostile::Hostile;
use millrace::client::{Client, Options};
use millrace::config::{Config, Durability};
use millrace::engine::Limits;
use millrace::pipeline::threads::CoreChoice;
use node::Served;
use overload::Crowd;
use proxy::Proxy;
use random::Random;
use record::{Record, text_of};
use report::{Report, Row};
use sender::Sender;
use serde_json::Value;
use shared::Shared;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How hard to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The millrace binary.
    pub binary: PathBuf,
    /// Rounds in all.
    pub rounds: u32,
    /// Rounds in the life of one journal.
    pub rounds_per_journal: u32,
    /// Honest clients that send all the while.
    pub clients: u64,
    /// Policy of the node; by turns where `None`.
    pub durability: Option<Durability>,
    /// Decides what is tried.
    pub seed: u64,
    /// Transfers that the tables hold; other tables are in proportion.
    pub transfers: u32,
    /// Kinds of rounds, all where empty.
    pub kinds: Vec<Kind>,
    /// Says on stderr what is going on.
    pub talks: bool,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $what:literal;)*) => {
        /// What is done to the node in a round.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $what] $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }

            /// What it is, for the table.
            pub fn what(self) -> &'static str {
                match self { $(Kind::$kind => $what),* }
            }
        }
    };
}

kinds! {
    Kill "kill" "kill -9 at a random moment";
    Stop "stop" "asked to end (SIGTERM) under load";
    Pause "pause" "SIGSTOP for 20 to 600 ms";
    PauseKill "pause-kill" "SIGSTOP, then kill -9";
    Clock "clock" "the wall clock jumps, up to 12 hours either way, five times";
    ClockKill "clock-kill" "the wall clock jumps, then kill -9";
    Cut "cut" "every connection cut at a random byte, four times";
    Slow "slow" "watchers stop reading";
    Hostile "hostile" "six hostile clients";
    Impostor "impostor" "honest sessions taken over, their numbers said again";
    Flood "flood" "four crowds that connect and reset";
    Overload "overload" "ten times overload, open loop, 16 sessions";
    OverloadKill "overload-kill" "ten times overload, and kill -9";
    Snapshot "snapshot" "a snapshot taken beside the node, then kill -9";
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let found = Kind::ALL.iter().find(|kind| kind.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            format!("\"{text}\" is none of {}", names.join(", "))
        })
    }
}

/// Hostile clients at once.
const HOSTILE: u64 = 6;
/// How long the node may take to answer again.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Runs the plan in `dir`.
pub fn run(plan: &Plan, dir: &Path) -> Result<Report, String> {
    let started = Instant::now();
    let shared = Shared::new(Kind::ALL.len());
    let mut report = Report::new(plan.seed);
    let kinds = kinds_here(&plan.kinds, clock::library().is_some())?;
    report.skipped = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| plan.kinds.is_empty() && !kinds.contains(kind))
        .collect();
    for kind in &report.skipped {
        eprintln!("millrace-torture: SKIPPED, {NO_CLOCK}: {}", kind.what());
    }
    let mut deck = Deck::new(plan.seed, kinds);
    let mut left = plan.rounds;
    while left > 0 {
        let rounds = left.min(plan.rounds_per_journal.max(1));
        left -= rounds;
        let epoch = report.journals;
        let place = dir.join(format!("journal-{epoch}"));
        let mut life = Life::begin(plan, &place, epoch, &shared)?;
        let result = life.live(rounds, &mut deck, &mut report);
        let result = result.and_then(|live| life.judge(&live, &mut report));
        if let Err(why) = result {
            let said = std::fs::read_to_string(&life.said).unwrap_or_default();
            return Err(format!(
                "seed {}, journal {epoch}: {why}\nthe node said:\n{}",
                plan.seed,
                said.trim()
            ));
        }
        report.journals += 1;
        let _ = std::fs::remove_dir_all(&place);
    }
    report.finish(&shared, started.elapsed());
    Ok(report)
}

const NO_CLOCK: &str =
    "libmillrace_clock.so is not beside this program (cargo build -p millrace-clock)";

/// The kinds of rounds that can be done here: those asked for, or refused; where none are, all but what
/// takes a clock that is not there.
fn kinds_here(asked: &[Kind], has_clock: bool) -> Result<Vec<Kind>, String> {
    let can = |kind: &Kind| has_clock || !matches!(kind, Kind::Clock | Kind::ClockKill);
    match asked.iter().find(|kind| !can(kind)) {
        Some(kind) => Err(format!("no rounds of {}: {NO_CLOCK}", kind.name())),
        None if asked.is_empty() => Ok(Kind::ALL.iter().copied().filter(can).collect()),
        None => Ok(asked.to_vec()),
    }
}

/// Kinds of rounds in an order of their own, each as often as the others.
struct Deck {
    random: Random,
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    fn new(seed: u64, kinds: Vec<Kind>) -> Deck {
        Deck {
            random: Random::new(seed, 1),
            kinds,
            left: Vec::new(),
        }
    }

    fn draw(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left = self.kinds.clone();
        }
        let at = self.random.below(self.left.len() as u64) as usize;
        self.left.swap_remove(at)
    }
}

/// The life of one journal.
struct Life<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    random: Random,
    config: Config,
    file: PathBuf,
    records: PathBuf,
    /// What the node says on stderr.
    said: PathBuf,
    clock: Option<Clock>,
    node: Served,
    proxy: Proxy,
    seed: u64,
    /// Hostile clients of former rounds, whose sessions are taken.
    strangers: u64,
}

/// What a node says of its state.
struct Live {
    digest: String,
    accounts: HashMap<u64, Value>,
}

impl<'a> Life<'a> {
    fn begin(
        plan: &'a Plan,
        place: &Path,
        epoch: u64,
        shared: &'a Shared,
    ) -> Result<Life<'a>, String> {
        let records = place.join("records");
        std::fs::create_dir_all(&records)
            .map_err(|error| format!("cannot make {}: {error}", records.display()))?;
        let seed = Random::new(plan.seed, 100 + epoch).next();
        let by_turns = [Durability::Disk, Durability::Process];
        let durability = plan.durability.unwrap_or(by_turns[(epoch % 2) as usize]);
        let mut config = config(&place.join("data"), durability, epoch, plan.transfers);
        let (file, said) = (place.join("torture.toml"), place.join("said"));
        write(&file, &config)?;
        let clock = Clock::new(place);
        let node = Served::start(&plan.binary, &file, clock.as_ref(), &said)?;
        // From now on always the same port, so that clients find the next node.
        config.listen = node.address;
        write(&file, &config)?;
        shared.begin();
        open(node.address, &records, shared)?;
        Ok(Life {
            plan,
            shared,
            random: Random::new(seed, 2),
            proxy: Proxy::start(node.address, seed)?,
            config,
            file,
            records,
            said,
            clock,
            node,
            seed,
            strangers: 0,
        })
    }

    /// Rounds under load; then what the node says of its state.
    fn live(&mut self, rounds: u32, deck: &mut Deck, report: &mut Report) -> Result<Live, String> {
        let (shared, seed) = (self.shared, self.seed);
        let (proxied, direct) = (self.proxy.address, self.node.address);
        let records = self.records.clone();
        let records = &records;
        let clients = self.plan.clients;
        let watchers = 2;
        std::thread::scope(|scope| {
            for who in 1..=clients {
                scope.spawn(move || {
                    let sender = Sender::new(proxied, who, records, seed, shared);
                    if let Err(why) = sender.and_then(Sender::run) {
                        shared.fail(why);
                    }
                });
            }
            for who in 1..=watchers {
                scope.spawn(move || {
                    if let Err(why) = slow::watch(direct, who, records, seed, shared) {
                        shared.fail(why);
                    }
                });
            }
            for _ in 0..rounds {
                if let Err(why) = self.round(deck.draw(), report) {
                    shared.fail(why);
                }
                if shared.trouble().is_err() {
                    break;
                }
            }
            shared.stop.store(true, Ordering::Release);
        });
        report.cuts += self.proxy.cuts();
        shared.trouble()?;
        self.ask()
    }

    fn round(&mut self, kind: Kind, report: &mut Report) -> Result<(), String> {
        let shared = self.shared;
        shared.enter(kind as usize);
        let before = Row::read(shared);
        let heard = self.do_to_node(kind, report)?;
        // It is over when an honest client has heard again.
        let over = Instant::now();
        let deadline = over + BACK_WITHIN;
        while shared.heard_us() < heard {
            shared.trouble()?;
            if let Some(status) = self.node.has_ended() {
                return Err(format!("{kind:?}: the node ended with {status}"));
            }
            if Instant::now() >= deadline {
                return Err(format!("{kind:?}: nobody is answered any more"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        report.resident_peak = report.resident_peak.max(self.node.resident_bytes());
        report.add_round(kind, &Row::read(shared).since(&before));
        if self.plan.talks {
            eprintln!("{}: {}", report.rounds(), kind.what());
        }
        Ok(())
    }

    /// Does it, and returns the moment (us) from which an answer counts as service.
    fn do_to_node(&mut self, kind: Kind, report: &mut Report) -> Result<u64, String> {
        let shared = self.shared;
        self.rest(10, 120);
        match kind {
            Kind::Kill => self.kill_and_start(report)?,
            Kind::Stop => {
                self.node.stop()?;
                self.start(report)?;
            }
            Kind::Pause => {
                self.node.pause();
                self.rest(20, 600);
                self.node.resume();
            }
            Kind::PauseKill => {
                self.node.pause();
                self.rest(5, 100);
                self.kill_and_start(report)?;
            }
            Kind::Clock => {
                for _ in 0..5 {
                    self.jump(report)?;
                    self.rest(5, 60);
                }
            }
            Kind::ClockKill => {
                self.jump(report)?;
                self.rest(0, 30);
                self.kill_and_start(report)?;
            }
            Kind::Cut => {
                for _ in 0..4 {
                    self.proxy.cut();
                    self.rest(20, 80);
                }
            }
            Kind::Slow => {
                shared.hold.store(true, Ordering::Release);
                let result = self.crowd();
                shared.hold.store(false, Ordering::Release);
                result?;
                self.rest(50, 150);
            }
            Kind::Hostile => self.hostile()?,
            Kind::Impostor => {
                for _ in 0..3 {
                    let who = self.random.between(1, self.plan.clients);
                    hostile::impersonate(self.node.address, who, shared)?;
                    self.rest(20, 80);
                }
            }
            Kind::Flood => self.flood(),
            Kind::Overload => self.overload(false, report)?,
            Kind::OverloadKill => self.overload(true, report)?,
            Kind::Snapshot => {
                self.snapshot()?;
                report.snapshots += 1;
                self.rest(0, 60);
                self.kill_and_start(report)?;
            }
        }
        Ok(shared.now_us())
    }

    fn rest(&mut self, from_ms: u64, to_ms: u64) {
        let us = self.random.between(from_ms * 1_000, to_ms * 1_000);
        std::thread::sleep(Duration::from_micros(us));
    }

    fn kill_and_start(&mut self, report: &mut Report) -> Result<(), String> {
        self.node.kill();
        report.kills += 1;
        self.start(report)
    }

    /// Starts the next node on the same journal. It has at least what anybody was told of.
    fn start(&mut self, report: &mut Report) -> Result<(), String> {
        let told_to = self.shared.told_to.load(Ordering::Acquire);
        self.node = Served::start(
            &self.plan.binary,
            &self.file,
            self.clock.as_ref(),
            &self.said,
        )?;
        report.recoveries.push(self.node.took);
        if self.node.recovered_to < told_to {
            return Err(format!(
                "command {told_to} was acknowledged, the node recovered to {}",
                self.node.recovered_to
            ));
        }
        Ok(())
    }

    fn jump(&mut self, report: &mut Report) -> Result<(), String> {
        let clock = self.clock.as_mut().ok_or(NO_CLOCK)?;
        // From a blink to half a day, either way.
        let size_ms = 1 << self.random.below(26);
        let by_ns = self.random.between(size_ms / 2, size_ms) as i64 * 1_000_000;
        let by_ns = if by_ns > 43_200_000_000_000 {
            43_200_000_000_000
        } else {
            by_ns
        };
        report.jumps += 1;
        clock.jump(if self.random.chance(50) {
            by_ns
        } else {
            -by_ns
        })
    }

    fn hostile(&mut self) -> Result<(), String> {
        let how_long = Duration::from_millis(self.random.between(200, 600));
        let (shared, seed, address) = (self.shared, self.seed, self.node.address);
        let records = &self.records;
        let first = self.strangers + 1;
        self.strangers += HOSTILE;
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (first..first + HOSTILE)
                .map(|who| {
                    scope.spawn(move || {
                        Hostile::new(address, who, records, seed, shared)?.run(how_long)
                    })
                })
                .collect();
            results.extend(threads.into_iter().map(|thread| thread.join()));
        });
        for result in results {
            result.map_err(|_| "a hostile client panicked")??;
        }
        Ok(())
    }

    fn flood(&mut self) {
        let how_long = Duration::from_millis(self.random.between(200, 500));
        let (shared, address) = (self.shared, self.node.address);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut random = Random::new(self.random.next(), 6_000);
                scope.spawn(move || hostile::flood(address, &mut random, how_long, shared));
            }
        });
    }

    fn overload(&mut self, kills: bool, report: &mut Report) -> Result<(), String> {
        let how_long = Duration::from_millis(self.random.between(400, 800));
        let (shared, address) = (self.shared, self.node.address);
        let crowd = Crowd::connect(address, &self.records, self.random.next(), shared)?;
        let (killed, offered) = std::thread::scope(|scope| {
            let load = scope.spawn(|| crowd.overload(how_long));
            let killed = if kills {
                std::thread::sleep(how_long * 2 / 3);
                self.kill_and_start(report)
            } else {
                Ok(())
            };
            (killed, load.join())
        });
        killed?;
        let offered = offered.map_err(|_| "an overloading client panicked")??;
        report.offered.push(offered);
        Ok(())
    }

    /// Many sessions that keep to a window: events for those who do not read them.
    fn crowd(&mut self) -> Result<(), String> {
        let how_long = Duration::from_millis(self.random.between(300, 700));
        let seed = self.random.next();
        let crowd = Crowd::connect(self.node.address, &self.records, seed, self.shared)?;
        crowd.keep_a_window(how_long).map(drop)
    }

    fn snapshot(&self) -> Result<(), String> {
        self.millrace(&["snapshot", "--fast"]).map(drop)
    }

    /// Runs a verb on the directory; what it printed.
    fn millrace(&self, verb: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.plan.binary)
            .args(verb)
            .arg("--dir")
            .arg(&self.config.dir)
            .output()
            .map_err(|error| format!("cannot run millrace: {error}"))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("millrace {}: {complaint}", verb.join(" ")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Digest and accounts of the live node.
    fn ask(&self) -> Result<Live, String> {
        let mut client = connect(self.node.address, None)?;
        let mut ask = |line: &str| {
            let events = client
                .call(&market::command(line))
                .map_err(|error| error.to_string())?;
            let text = text_of(&events);
            serde_json::from_str::<Value>(&text).map_err(|error| format!("{error}: {text}"))
        };
        let mut accounts = HashMap::new();
        for account in market::accounts() {
            let line = format!(r#"{{"cmd":"query_account","account":{account}}}"#);
            accounts.insert(account, ask(&line)?);
        }
        let digest = ask(r#"{"cmd":"query_digest"}"#)?;
        let digest = digest["digest"].as_str().ok_or("no digest")?.to_string();
        Ok(Live { digest, accounts })
    }

    /// Ends the node and holds everything against everything.
    fn judge(&mut self, live: &Live, report: &mut Report) -> Result<(), String> {
        let started = Instant::now();
        if self.random.chance(50) {
            self.node.stop()?;
        } else {
            self.node.kill();
        }
        self.millrace(&["verify"])?;
        self.replays_to(&live.digest)?;
        report.digests += 1;
        // Again without a shortcut.
        let snapshots = millrace::replay::snapshot_store::list(&self.config.dir);
        let snapshots = snapshots.map_err(|error| error.to_string())?;
        if !snapshots.is_empty() {
            for (_, path) in snapshots {
                std::fs::remove_file(path).map_err(|error| error.to_string())?;
            }
            self.replays_to(&live.digest)?;
            report.digests += 1;
        }
        let mut books = Books::default();
        let (binary, dir) = (&self.plan.binary, &self.config.dir);
        let found: Findings = check(binary, dir, &self.records, &mut books)?;
        balance(live, &books)?;
        report.found.add(found);
        report.checking += started.elapsed();
        Ok(())
    }

    fn replays_to(&self, digest: &str) -> Result<(), String> {
        let replayed = self.millrace(&["replay"])?;
        let found = replayed
            .lines()
            .find_map(|line| line.strip_prefix("digest "));
        match found {
            Some(found) if found == digest => Ok(()),
            found => Err(format!(
                "the live node's digest is {digest}, the replay's {found:?}"
            )),
        }
    }
}

/// What the live accounts say is what the events add up to, and every asset's debits are its credits.
fn balance(live: &Live, books: &Books) -> Result<(), String> {
    let mut by_asset: HashMap<bool, [u128; 4]> = HashMap::new();
    for (account, said) in &live.accounts {
        let of = |name: &str| {
            books::number(&said[name]).ok_or_else(|| format!("account {account}: {said}"))
        };
        let sums = [of("debits_posted")?, of("credits_posted")?];
        if sums != books.sums_of(*account) {
            return Err(format!(
                "account {account} has {sums:?}, its events add up to {:?}",
                books.sums_of(*account)
            ));
        }
        let is_paper = market::PAPER.contains(account) || *account == market::PAPER_SOURCE;
        let asset = by_asset.entry(is_paper).or_default();
        let more = [
            sums[0],
            sums[1],
            of("debits_pending")?,
            of("credits_pending")?,
        ];
        for (sum, more) in asset.iter_mut().zip(more) {
            *sum += more;
        }
    }
    for [debits, credits, ..] in by_asset.values() {
        if debits != credits {
            return Err(format!("debits are {debits}, credits {credits}"));
        }
    }
    Ok(())
}

/// Tables as asked for, buffers small enough to be filled.
fn config(dir: &Path, durability: Durability, epoch: u64, transfers: u32) -> Config {
    let mut config = Config::small(dir);
    config.durability = durability;
    config.cores = CoreChoice::Unpinned;
    // All layouts by turns.
    config.threads = 1 + ((epoch / 2) % 3) as u8;
    config.sessions = 65_536;
    config.journal.segment_bytes = 4 << 20;
    config.gateway.connections = 512;
    config.gateway.hello_timeout_ms = 300;
    config.gateway.write_buffer_bytes = 256 << 10;
    config.gateway.reply_window_events = (transfers as usize / 8).clamp(1 << 13, 1 << 15);
    config.limits = Limits {
        transfers,
        payments: transfers / 8,
        orders: transfers / 64,
        client_order_ids: transfers / 8,
        ..Limits::small()
    };
    config
}

fn write(file: &Path, config: &Config) -> Result<(), String> {
    let text = toml::to_string(config).map_err(|error| error.to_string())?;
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// A client that only asks, or opens the market.
fn connect(address: SocketAddr, session: Option<u64>) -> Result<Client, String> {
    let options = Options {
        session,
        timeout: Duration::from_secs(60),
        ..Options::default()
    };
    Client::connect(address, options).map_err(|error| error.to_string())
}

/// The session that opens the market.
const OPENER: u64 = 0x9000_0000;

/// Opens the market.
fn open(address: SocketAddr, records: &Path, shared: &Shared) -> Result<(), String> {
    let mut client = connect(address, Some(OPENER))?;
    let mut record = Record::open(records, OPENER, true)?;
    for (number, frame) in (1..).zip(market::opening()) {
        record.sent(number, frame.bytes());
        shared::count(&shared.sent);
        let events = client.call(&frame).map_err(|error| error.to_string())?;
        for event in &events {
            if record.event(event) {
                shared.answered(event.header.sequence);
            }
        }
        let text = text_of(&events);
        if text.contains("rejected") || text.contains("exceeds") {
            return Err(format!("the market does not open: {text}"));
        }
    }
    record.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_need_a_clock_are_refused_or_left_out_where_there_is_none() {
        assert_eq!(kinds_here(&[], true).unwrap(), Kind::ALL);
        let asked = [Kind::Kill, Kind::ClockKill];
        assert_eq!(kinds_here(&asked, true).unwrap(), asked);
        assert_eq!(kinds_here(&asked[..1], false).unwrap(), [Kind::Kill]);
        let refusal = kinds_here(&asked, false).unwrap_err();
        assert!(
            refusal.starts_with("no rounds of clock-kill: "),
            "{refusal}"
        );
        let left = kinds_here(&[], false).unwrap();
        assert_eq!(left.len(), Kind::ALL.len() - 2);
        assert!(!left.contains(&Kind::Clock) && !left.contains(&Kind::ClockKill));
    }
}
