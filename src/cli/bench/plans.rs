//! `bench plans`: the thread plans on this machine. Each layout over the wire, both durabilities, by
//! turns; then what each stage can do alone, and what that predicts for machines with more cores.

use super::ledger::on_core;
use super::{Args, Report, place, start};
use crate::bench::alone::{self, Costs, Hop, Load, Step};
use crate::bench::plans::{Figures, Turn};
use crate::bench::wire::Wire;
use crate::bench::{human, percentiles};
use crate::cli::CliError;
use crate::cli::terminal::grouped;
use crate::config::{Config, Durability};
use crate::engine::Limits;
use crate::pipeline::threads::{Layout, ThreadPlan, Wish, allowed_cores, journal_near_disk};
use crate::process::NodeProcess;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Times that the nodes take turns.
const TURNS: u64 = 5;
const IN_FLIGHT: usize = 1_024;
/// Open loop where no rate is given, commands a second.
const RATE_PROCESS: u64 = 100_000;
const RATE_DISK: u64 = 5_000;
/// Round trips of a turn take no longer.
const ROUNDS_WITHIN: Duration = Duration::from_secs(2);

const DURABILITIES: [Durability; 2] = [Durability::Process, Durability::Disk];

/// One layout on a node of its own.
struct Row {
    plan: ThreadPlan,
    client_core: usize,
    greeting: String,
    figures: Figures,
}

pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let mut lines = Vec::new();
    let mut values = Vec::new();
    for durability in DURABILITIES {
        let rows = over_the_wire(args, durability)?;
        lines.extend(table(args, durability, &rows));
        values.extend(rows.iter().map(|row| to_json(args, durability, row)));
    }
    let cores = Cores::choose();
    let hop = cores.apart().map(|cores| {
        let slots = args.commands.clamp(10_000, 4_000_000);
        alone::ring_hop(cores, slots)
    });
    let mut stages = Vec::new();
    for (name, durability, shared_memory) in [
        ("process, TCP", Durability::Process, false),
        ("process, shared memory", Durability::Process, true),
        ("disk, TCP", Durability::Disk, false),
    ] {
        stages.push((name, stages_alone(args, durability, shared_memory, &cores)?));
    }
    lines.extend(stage_lines(&stages, hop));
    let value = json!({
        "plans": values,
        "ring_hop": hop.map(|hop| json!({ "slot_ns": hop.slot_ns, "one_way_ns": hop.one_way_ns })),
        "stages": stages.iter().map(|(name, costs)| stages_json(name, costs, hop)).collect::<Vec<_>>(),
    });
    Ok((lines, value))
}

fn rate(args: &Args, durability: Durability) -> u64 {
    match (args.rate, durability) {
        (0, Durability::Process) => RATE_PROCESS,
        (0, Durability::Disk) => RATE_DISK,
        (rate, _) => rate,
    }
}

fn turn(args: &Args, durability: Durability) -> Turn {
    let rate = rate(args, durability);
    Turn {
        rounds: super::rounds(args).div_ceil(TURNS as usize),
        within: ROUNDS_WITHIN,
        commands: args.commands.min(1_000_000) / TURNS,
        window: IN_FLIGHT,
        paced: ((rate as f64 * args.seconds) as u64 / TURNS).max(1),
        rate,
    }
}

fn accounts(args: &Args) -> u64 {
    args.accounts.min(100_000)
}

/// Starts a node for each layout and lets them take turns; those whose turn it is not are stopped.
fn over_the_wire(args: &Args, durability: Durability) -> Result<Vec<Row>, CliError> {
    let place = place(args)?;
    let turn = turn(args, durability);
    let (mut rows, mut nodes, mut wires) = (Vec::<Row>::new(), Vec::new(), Vec::new());
    for layout in Layout::ALL {
        let dir = place.path.join(format!("threads-{}", layout.threads()));
        std::fs::create_dir_all(&dir)?;
        let plan = plan(args, durability, layout, &dir)?;
        // Where cores are too few for a layout, the client stays where it was.
        let before = rows.first().map(|row| row.client_core);
        let client_core = match before {
            Some(core) if plan.is_crowded() => core,
            _ => plan.left().unwrap_or(allowed_cores()[0]),
        };
        let node = start_node(args, durability, &plan, &turn, &dir)?;
        let spin = durability == Durability::Process;
        let opened = on_core(client_core, || {
            Wire::open(node.address, accounts(args), args.seed, spin)
        });
        wires.push(opened.map_err(CliError::failed)?);
        node.pause();
        rows.push(Row {
            plan,
            client_core,
            greeting: node.greeting.clone(),
            figures: Figures::default(),
        });
        nodes.push(node);
    }
    for _ in 0..TURNS {
        for ((row, node), wire) in rows.iter_mut().zip(&nodes).zip(&mut wires) {
            node.resume();
            let taken = on_core(row.client_core, || row.figures.take(wire, &turn));
            node.pause();
            taken.map_err(CliError::failed)?;
        }
    }
    drop(wires);
    for node in nodes {
        node.resume();
        node.stop().map_err(CliError::Failed)?;
    }
    Ok(rows)
}

/// The plan that a node of this layout would choose here.
fn plan(
    args: &Args,
    durability: Durability,
    layout: Layout,
    dir: &Path,
) -> Result<ThreadPlan, CliError> {
    let wish = Wish {
        cores: args.cores.clone().unwrap_or_default(),
        syncs: durability == Durability::Disk,
        layout: Some(layout),
        ..Wish::default()
    };
    let chosen = ThreadPlan::choose(&wish);
    let mut plan = chosen.map_err(|error| CliError::Usage(format!("cores: {error}")))?;
    if wish.syncs {
        journal_near_disk(&mut plan, dir);
    }
    Ok(plan)
}

fn start_node(
    args: &Args,
    durability: Durability,
    plan: &ThreadPlan,
    turn: &Turn,
    dir: &Path,
) -> Result<NodeProcess, CliError> {
    let commands = turn.rounds as u64 + turn.commands + turn.commands / 10 + turn.paced;
    let config = Config {
        // The node takes the cores that were chosen here, and finds no others.
        cores: plan.as_choice(),
        threads: plan.layout().threads() as u8,
        ..config(args, durability, dir, TURNS * commands)
    };
    start(&config, dir)
}

fn config(args: &Args, durability: Durability, dir: &Path, commands: u64) -> Config {
    let room = |entries: u64| u32::try_from(entries).unwrap_or(Limits::ENTRIES_MAX);
    Config {
        dir: dir.join("journal"),
        listen: ([127, 0, 0, 1], 0).into(),
        durability,
        limits: Limits {
            accounts: room(accounts(args) + 4_096),
            transfers: room(commands + commands / 4 + 65_536),
            payments: 65_536,
            orders: 65_536,
            client_order_ids: 65_536,
            ..Limits::default()
        },
        ..Config::default()
    }
}

/// The cores of the stages and of their client.
struct Cores {
    node: Option<usize>,
    client: Option<usize>,
}

impl Cores {
    /// Those of a node of one thread, which is what the stages are put on.
    fn choose() -> Cores {
        let wish = Wish {
            layout: Some(Layout::One),
            ..Wish::default()
        };
        let plan = ThreadPlan::choose(&wish).ok();
        Cores {
            node: plan.as_ref().and_then(|plan| plan.core(0)),
            client: plan.as_ref().and_then(ThreadPlan::left),
        }
    }

    /// Two cores between which a ring can be measured.
    fn apart(&self) -> Option<[usize; 2]> {
        Some([self.node?, self.client?])
    }
}

fn stages_alone(
    args: &Args,
    durability: Durability,
    shared_memory: bool,
    cores: &Cores,
) -> Result<Costs, CliError> {
    let place = place(args)?;
    let commands = args.commands.min(1_000_000);
    let config = config(args, durability, &place.path, commands + commands / 10);
    let load = Load {
        accounts: accounts(args),
        seed: args.seed,
        commands,
        window: IN_FLIGHT,
        shared_memory,
        node_core: cores.node,
        client_core: cores.client,
    };
    alone::measure(&config, &load).map_err(CliError::Failed)
}

/// Marks a layout that the machine has too few cores for.
fn mark(plan: &ThreadPlan) -> &'static str {
    if plan.is_crowded() { " *" } else { "" }
}

fn table(args: &Args, durability: Durability, rows: &[Row]) -> Vec<String> {
    let spins = match durability {
        Durability::Process => "a client that spins",
        Durability::Disk => "a client that sleeps",
    };
    let mut lines = vec![
        format!(
            "{durability}: {spins}, {TURNS} turns each; open loop at {}/s",
            grouped(rate(args, durability))
        ),
        format!(
            "{:<8}{:>10}{:>10} |{:>16} {:<24} |{:>13}{:>10}{:>10}",
            "threads",
            "one: p50",
            "p99",
            "1,024: median",
            "(slowest to fastest)",
            "open: done/s",
            "p50",
            "p99"
        ),
    ];
    for row in rows {
        let figures = &row.figures;
        let at = |latency: &hdrhistogram::Histogram<u64>, quantile| {
            human(latency.value_at_quantile(quantile))
        };
        let (slowest, fastest) = extremes(&figures.per_second);
        lines.push(format!(
            "{:<8}{:>10}{:>10} |{:>14}/s {:<24} |{:>13}{:>10}{:>10}",
            format!("{}{}", row.plan.layout().threads(), mark(&row.plan)),
            at(&figures.round_trip, 0.5),
            at(&figures.round_trip, 0.99),
            grouped(figures.median_per_second() as u64),
            format!(
                "({} to {})",
                grouped(slowest as u64),
                grouped(fastest as u64)
            ),
            grouped(figures.paced_per_second() as u64),
            at(&figures.paced, 0.5),
            at(&figures.paced, 0.99),
        ));
    }
    for row in rows {
        let said = row.greeting.split("threads: ").nth(1).unwrap_or_default();
        lines.push(format!(
            "  {}{}: {}; client on core {}",
            row.plan.layout().threads(),
            mark(&row.plan),
            said.rsplit_once(", ").map_or(said, |(plan, _)| plan),
            row.client_core
        ));
    }
    if rows.iter().any(|row| row.plan.is_crowded()) {
        lines.push(
            "  * its threads and the client outnumber the cores: no plan of this machine".into(),
        );
    }
    lines.push(String::new());
    lines
}

fn extremes(all: &[f64]) -> (f64, f64) {
    let least = all.iter().copied().min_by(f64::total_cmp);
    let most = all.iter().copied().max_by(f64::total_cmp);
    (least.unwrap_or(0.0), most.unwrap_or(0.0))
}

fn stage_lines(stages: &[(&str, Costs)], hop: Option<Hop>) -> Vec<String> {
    let first = "each stage alone, ns per command";
    let mut head = format!("{first:<34}");
    for (name, _) in stages {
        head += &format!("{name:>24}");
    }
    let mut lines = vec![head];
    for step in Step::ALL {
        let mut line = format!("{:<34}", step.name());
        for (_, costs) in stages {
            let ns = costs.ns(step);
            line += &format!(
                "{:>24}",
                format!("{ns:.0} ns {:>6.1} M/s", 1e3 / ns.max(0.1))
            );
        }
        lines.push(line);
    }
    let mut line = format!("{:<34}", "commands in a batch, mean");
    for (_, costs) in stages {
        let mean = costs.commands as f64 / costs.batches.max(1) as f64;
        line += &format!("{mean:>24.0}");
    }
    lines.push(line);
    lines.push(match hop {
        Some(hop) => format!(
            "a ring between two cores: {:.0} ns per slot flat out, {:.0} ns one way with one slot",
            hop.slot_ns, hop.one_way_ns
        ),
        None => "a ring between two cores: there is one core".into(),
    });
    lines.push(
        "predicted with a core for each thread, from the busiest of them, the ring's cost included:".into(),
    );
    let hop_ns = hop.map_or(0.0, |hop| hop.slot_ns);
    for (name, costs) in stages {
        let mut line = format!("  {name:<24}");
        for layout in Layout::ALL {
            let (ns, busiest) = costs.bound(layout, hop_ns);
            let threads = layout.threads();
            line += &format!("  {threads}: {:.2} M/s", 1e3 / ns.max(0.1));
            if threads > 1 {
                line += &format!(" ({busiest})");
            }
        }
        lines.push(line);
    }
    lines
}

fn to_json(args: &Args, durability: Durability, row: &Row) -> Value {
    let figures = &row.figures;
    let (slowest, fastest) = extremes(&figures.per_second);
    let stages = row.plan.layout().stages().iter().enumerate();
    json!({
        "durability": durability.to_string(),
        "threads": stages
            .map(|(at, stages)| json!({
                "stages": stages,
                "core": row.plan.core(at),
                "rests": row.plan.rest(at).to_string(),
            }))
            .collect::<Vec<_>>(),
        "background_core": row.plan.background(),
        "client_core": row.client_core,
        "outnumbers_cores": row.plan.is_crowded(),
        "turns": TURNS,
        "round_trip": percentiles(&figures.round_trip),
        "in_flight": IN_FLIGHT,
        "per_second": {
            "median": figures.median_per_second(),
            "slowest": slowest,
            "fastest": fastest,
        },
        "open_loop": {
            "rate": rate(args, durability),
            "per_second": figures.paced_per_second(),
            "latency": percentiles(&figures.paced),
        },
    })
}

fn stages_json(name: &str, costs: &Costs, hop: Option<Hop>) -> Value {
    let steps = Step::ALL.iter();
    let hop_ns = hop.map_or(0.0, |hop| hop.slot_ns);
    json!({
        "client": name,
        "commands": costs.commands,
        "batches": costs.batches,
        "ns_per_command": steps
            .map(|step| (step.name().to_string(), json!(costs.ns(*step))))
            .collect::<serde_json::Map<String, Value>>(),
        "predicted": Layout::ALL
            .iter()
            .map(|layout| {
                let (ns, thread) = costs.bound(*layout, hop_ns);
                json!({
                    "threads": layout.threads(),
                    "ns_per_command": ns,
                    "per_second": 1e9 / ns.max(0.1),
                    "busiest": thread,
                })
            })
            .collect::<Vec<_>>(),
    })
}
