//! `bench wire --curve`: what sessions cost as they grow, 1 to 1,000 of them, a node under `process` and
//! one under `disk`, each beside a raw echo of as many connections and bytes.

use super::ledger::{Cores, on_core};
use super::{Args, Ended, Place, Report, beside, place, room, wire_config};
use crate::bench::chart::{Labels, draw_load, series};
use crate::bench::echo::Echo;
use crate::bench::lines::{COMMAND_BYTES, Lines, LinesError, Paced, Peer};
use crate::bench::wire::Wire;
use crate::bench::workload::Transfers;
use crate::bench::yardstick::RawAppend;
use crate::bench::{human, percentiles};
use crate::cli::CliError;
use crate::cli::terminal::grouped;
use crate::config::{Config, Durability};
use crate::node::Node;
use crate::pipeline::threads::{CoreChoice, IdleMode};
use crate::process::allow_open_files;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Sessions of each point.
const SESSIONS: [usize; 7] = [1, 3, 10, 30, 100, 300, 1_000];
/// Commands in flight over all sessions, closed loop: 1,000 sessions have one each, some two.
const IN_FLIGHT: usize = 1_024;
/// Times that the four take turns at each point.
const TURNS: u32 = 4;
/// Of `--commands`, what one turn makes at most; two of them hold all turns of all points.
const OF_COMMANDS: u64 = 16;
const ACCOUNTS: u64 = 10_000;
/// Offered over all sessions, one in flight each: what a single session can keep up with.
const RATES: [(Durability, u64); 2] = [(Durability::Process, 20_000), (Durability::Disk, 2_000)];

/// Who is measured, in this order.
const NAMES: [&str; 4] = ["echo", "node, process", "echo that syncs", "node, disk"];

/// One of the four.
struct Contestant {
    server: Server,
    lines: Lines,
    rate: u64,
}

enum Server {
    Node(Box<Node>),
    Echo(Echo),
}

/// What one of them did at one point, all turns.
struct Point {
    answered: u64,
    elapsed: Duration,
    busy_ns: u64,
    paced: Paced,
}

impl Point {
    fn ns(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.answered.max(1) as f64
    }

    fn busy_ns(&self) -> f64 {
        self.busy_ns as f64 / self.answered.max(1) as f64
    }

    fn quantile(&self, quantile: f64) -> u64 {
        self.paced.latency.value_at_quantile(quantile)
    }
}

/// Sessions, and what each of the four did.
type Row = (usize, [Point; 4]);

pub(super) fn run_curve(args: &Args) -> Result<(Report, Ended), CliError> {
    let sizes = SESSIONS.map(|sessions| sessions.min(args.sessions.unwrap_or(usize::MAX)));
    let most = sizes[sizes.len() - 1] as u64;
    // Both ends of every connection, and those of the point before that are still going.
    let wanted = most * 4 + 512;
    if allow_open_files(wanted) < wanted {
        return Err(CliError::Failed(format!(
            "{most} sessions need {wanted} open files: raise ulimit -n"
        )));
    }
    let place = place(args)?;
    let cores = Cores::choose(&place.path);
    let mut four = contestants(args, &place, &cores)?;
    if !args.json {
        say!("{}", about(args, &four));
        say!("{}", head());
    }
    let mut rows = Vec::new();
    for (at, sessions) in sizes.into_iter().enumerate() {
        if at > 0 && sessions == sizes[at - 1] {
            break;
        }
        let row = (sessions, point(args, &cores, &mut four, sessions)?);
        if !args.json {
            say!("{}", line(&row, rows.first().unwrap_or(&row)));
        }
        rows.push(row);
    }
    let rates = four.each_ref().map(|it| it.rate);
    for contestant in four {
        drop(contestant.lines);
        if let Server::Node(node) = contestant.server {
            node.stop();
        }
    }
    let ended = match &args.chart {
        Some(path) => draw(path, &rows),
        None => Ok(()),
    };
    let value = json!({
        "in_flight": IN_FLIGHT,
        "turns": TURNS,
        "points": rows.iter().map(|row| to_json(row, &rates)).collect::<Vec<_>>(),
    });
    Ok(((Vec::new(), value), ended))
}

/// The four, on the same core; those that are not driven sleep.
fn contestants(args: &Args, place: &Place, cores: &Cores) -> Result<[Contestant; 4], CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("echo: {error}"));
    let rate = |at: usize| {
        if args.rate > 0 {
            args.rate
        } else {
            RATES[at].1
        }
    };
    let lines = |address, peer, workload| {
        Lines::new(address, peer, workload, cores.apart()).map_err(failed)
    };
    let echo = |disk, rate| -> Result<Contestant, CliError> {
        let echo = Echo::start(Some(cores.node), disk).map_err(failed)?;
        let workload = Transfers::new(ACCOUNTS, args.seed);
        Ok(Contestant {
            lines: lines(echo.address(), Peer::Echo, workload)?,
            server: Server::Echo(echo),
            rate,
        })
    };
    let node = |durability: Durability, rate: u64| -> Result<Contestant, CliError> {
        let mut config = Config {
            dir: place.path.join(durability.to_string()),
            durability,
            cores: CoreChoice::List(vec![cores.node]),
            // Whoever is not driven leaves the core to the others, however many cores there are.
            idle: IdleMode::Sleep,
            ..wire_config(args, &place.path)
        };
        config.gateway.connections = SESSIONS[SESSIONS.len() - 1] * 3;
        let paced = (SESSIONS.len() as f64 * (rate as f64 * args.seconds)) as u64;
        config.limits.transfers = room(args.commands * 2 + paced + 1_000_000);
        let node = Node::start(&config).map_err(CliError::failed)?;
        let accounts = Wire::open(node.address(), ACCOUNTS, args.seed, false);
        drop(accounts.map_err(CliError::failed)?);
        let workload = Transfers::new(ACCOUNTS, args.seed);
        let lines = lines(node.address(), Peer::Node, workload)?;
        node.progress().busy.turn(true);
        Ok(Contestant {
            lines,
            server: Server::Node(Box::new(node)),
            rate,
        })
    };
    let disk = RawAppend::prepare(&place.path, COMMAND_BYTES).map_err(failed)?;
    Ok([
        echo(None, rate(0))?,
        node(RATES[0].0, rate(0))?,
        echo(Some(disk), rate(1))?,
        node(RATES[1].0, rate(1))?,
    ])
}

fn point(
    args: &Args,
    cores: &Cores,
    four: &mut [Contestant; 4],
    sessions: usize,
) -> Result<[Point; 4], CliError> {
    let mut points = [(); 4].map(|()| Point {
        answered: 0,
        elapsed: Duration::ZERO,
        busy_ns: 0,
        paced: Paced::new(),
    });
    let turn = Duration::from_secs_f64(args.seconds) / TURNS;
    let most = args.commands / OF_COMMANDS;
    for contestant in four.iter_mut() {
        contestant
            .lines
            .connect(sessions)
            .map_err(CliError::failed)?;
    }
    // By turns, so that a machine in a bad mood is so for all.
    for _ in 0..TURNS {
        for (contestant, point) in four.iter_mut().zip(&mut points) {
            let done = on_core(cores.load, || contestant.turn(most, turn, point));
            done.map_err(CliError::failed)?;
        }
    }
    for contestant in four.iter_mut() {
        contestant.lines.connect(0).map_err(CliError::failed)?;
    }
    Ok(points)
}

impl Contestant {
    /// Both loops, the closed one with `most` transfers at most.
    fn turn(&mut self, most: u64, time: Duration, point: &mut Point) -> Result<(), LinesError> {
        // Who slept is awake before it counts.
        self.lines
            .keep_full(IN_FLIGHT, |answered| answered < 2_048)?;
        let (busy, start) = (self.busy_ns(), Instant::now());
        let goes_on = |answered| answered < most && start.elapsed() < time;
        point.answered += self.lines.keep_full(IN_FLIGHT, goes_on)?;
        point.elapsed += start.elapsed();
        point.busy_ns += self.busy_ns() - busy;
        let count = (self.rate as f64 * time.as_secs_f64()).ceil() as u64;
        let paced = self.lines.open_loop(count, self.rate, 1)?;
        point.paced.add(&paced);
        Ok(())
    }

    fn busy_ns(&self) -> u64 {
        match &self.server {
            Server::Node(node) => node.progress().busy_ns.get(),
            Server::Echo(echo) => echo.busy_ns(),
        }
    }
}

fn about(args: &Args, four: &[Contestant; 4]) -> String {
    let nodes = four.iter().filter_map(|it| match &it.server {
        Server::Node(node) => Some(node.to_string()),
        Server::Echo(_) => None,
    });
    let nodes: Vec<String> = nodes.collect();
    format!(
        "{}\none thread drives all sessions; closed loop: {IN_FLIGHT} transfers in flight over all of them; \
         open loop: one in flight each, {}/s (process) and {}/s (disk) over all, from planned moments; \
         {TURNS} turns, {} s together\nns per transfer: of the run, and in brackets processor time inside the server's turns",
        nodes.join("\n"),
        grouped(four[0].rate),
        grouped(four[2].rate),
        args.seconds,
    )
}

/// The head of the table; [`line`] has the same columns.
fn head() -> String {
    format!(
        "{:>8} | {:>15} {:>15} {:>6} {:>13} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9}",
        "sessions",
        "echo",
        "process",
        "grows",
        "echo, process",
        "syncing",
        "disk",
        "echo p50",
        "p99",
        "process",
        "p99",
        "syncing",
        "p99",
        "disk p50",
        "p99"
    )
}

fn line((sessions, points): &Row, (_, first): &Row) -> String {
    let ns = |at: usize| format!("{:.0} ({:.0})", points[at].ns(), points[at].busy_ns());
    // How much more than at first, inside the servers' turns.
    let added = |at: usize| points[at].busy_ns() - first[at].busy_ns();
    let at = |point: usize, quantile| human(points[point].quantile(quantile));
    format!(
        "{:>8} | {:>15} {:>15} {:>5.2}x {:>13} | {:>9.0} {:>9.0} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9}",
        grouped(*sessions as u64),
        ns(0),
        ns(1),
        points[1].ns() / first[1].ns(),
        format!("{:+.0}, {:+.0}", added(0), added(1)),
        points[2].ns(),
        points[3].ns(),
        at(0, 0.5),
        at(0, 0.99),
        at(1, 0.5),
        at(1, 0.99),
        at(2, 0.5),
        at(2, 0.99),
        at(3, 0.5),
        at(3, 0.99),
    )
}

fn draw(path: &Path, rows: &[Row]) -> Result<(), CliError> {
    let points = |of: &dyn Fn(&[Point; 4]) -> f64| -> Vec<(f64, f64)> {
        rows.iter()
            .map(|(sessions, points)| (*sessions as f64, of(points)))
            .collect()
    };
    let costs: Vec<(&str, Vec<(f64, f64)>)> = (0..4)
        .map(|at| (NAMES[at], points(&|it| it[at].ns())))
        .chain([
            ("echo, processor time", points(&|it| it[0].busy_ns())),
            (
                "node, process, processor time",
                points(&|it| it[1].busy_ns()),
            ),
        ])
        .collect();
    let latencies: Vec<(String, Vec<(f64, f64)>)> = (0..4)
        .flat_map(|at| [(at, 0.5, "p50"), (at, 0.99, "p99")])
        .map(|(at, quantile, name)| {
            let points = points(&|it| it[at].quantile(quantile) as f64);
            (format!("{}, {name}", NAMES[at]), points)
        })
        .collect();
    let labels = Labels {
        title: "What a transfer costs as sessions grow, 1,024 in flight",
        x: "sessions",
        y: "time per transfer",
    };
    draw_load(path, &labels, &series(&costs)).map_err(CliError::Failed)?;
    let labels = Labels {
        title: "One transfer in flight a session, at a rate",
        x: "sessions",
        y: "planned moment to reply",
    };
    draw_load(&beside(path, "latency"), &labels, &series(&latencies)).map_err(CliError::Failed)
}

fn to_json((sessions, points): &Row, rates: &[u64; 4]) -> Value {
    let points = points
        .iter()
        .zip(NAMES)
        .zip(rates)
        .map(|((point, name), rate)| {
            json!({
                "name": name,
                "closed_loop": {
                    "transfers": point.answered,
                    "per_second": 1e9 / point.ns(),
                    "ns_per_transfer": point.ns(),
                    "ns_per_transfer_inside_turns": point.busy_ns(),
                },
                "open_loop": {
                    "rate": rate,
                    "per_second": point.paced.per_second(),
                    "open_peak": point.paced.open_peak,
                    "latency": percentiles(&point.paced.latency),
                },
            })
        });
    json!({ "sessions": sessions, "servers": points.collect::<Vec<_>>() })
}
