//! The thread plan: which stages share a thread, on which core each thread stays, how it rests, and
//! where background work runs. A pure function of what is wanted, the cores this process may use, and
//! what these share ([`Machine`]).
//!
//! ```text
//!  allowed cores --leave one to clients--> one per physical core --under one cache, node--> threads
//!                                                                        what is left over --> background
//! ```
//! - No two threads on one physical core while there is another; all under one L3 cache, or at least on
//!   one NUMA node, where they fit.
//! - Cores that the scheduler leaves alone go to threads that spin; the first that it does not leave
//!   alone goes to clients and the system.
//! - Background work (the journal's next segment) shares no core with a thread while there is another.
//! - Threads that spin never outnumber the cores they have.

use super::affinity::allowed_cores;
use super::core_choice::{CoreChoice, CoreError, checked, list};
use super::topology::{Core, Machine};
use super::usable::Usable;
use std::path::Path;

/// Which stages share a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Everything on one thread, the journal inline.
    One,
    /// The journaler apart, so that the next batch fills while it syncs.
    Two,
    /// Gateway and responder, executor, journaler.
    Three,
}

impl Layout {
    /// All there are.
    pub const ALL: [Layout; 3] = [Layout::One, Layout::Two, Layout::Three];

    /// The layout of so many threads; `None` where there is none such.
    pub fn of_threads(threads: u8) -> Option<Layout> {
        match threads {
            1 => Some(Layout::One),
            2 => Some(Layout::Two),
            3 => Some(Layout::Three),
            _ => None,
        }
    }

    /// How many threads it has.
    pub fn threads(self) -> usize {
        self.stages().len()
    }

    /// The stages of each thread. The first faces the network, the last one journals.
    pub fn stages(self) -> &'static [&'static str] {
        match self {
            Layout::One => &["gateway+journaler+executor+responder"],
            Layout::Two => &["gateway+executor+responder", "journaler"],
            Layout::Three => &["gateway+responder", "executor", "journaler"],
        }
    }
}

/// How threads are to rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleMode {
    /// As the plan says: threads that have a physical core to themselves never sleep.
    #[default]
    Auto,
    /// Never: lowest latency, whole cores.
    Spin,
    /// Spin for a while after the last work, then sleep until woken.
    Sleep,
}

/// How one thread rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Never sleeps: nobody else wants its core, and to be woken takes 25 to 60 us.
    Spins,
    /// Spins for a while, for more work usually follows, then leaves the core to others.
    SpinsThenSleeps,
    /// Sleeps as soon as there is nothing to do: what it waits for takes longer than to be woken, or
    /// runs on its core.
    Sleeps,
}

impl std::fmt::Display for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rest::Spins => "spins",
            Rest::SpinsThenSleeps => "spins, then sleeps",
            Rest::Sleeps => "sleeps",
        })
    }
}

/// What a plan is to fit.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The cores it may use.
    pub cores: CoreChoice,
    /// Whether a commit waits for a disk.
    pub syncs: bool,
    /// The layout; `None` chooses by cores and `syncs`.
    pub layout: Option<Layout>,
    /// How threads are to rest.
    pub idle: IdleMode,
}

/// Threads, their cores and how they rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPlan {
    layout: Layout,
    /// The core of each thread of the layout, in its order; empty where threads are not pinned.
    pinned: Vec<Core>,
    rests: Vec<Rest>,
    /// The core of background work; `None` where it runs wherever it may.
    background: Option<Core>,
    /// The core left to clients and the system, if there is one.
    left: Option<Core>,
    /// Every core this process may use.
    allowed: Vec<Core>,
    /// Those that were listed; empty where we choose.
    listed: Vec<usize>,
    /// More threads than cores for them.
    is_crowded: bool,
    syncs: bool,
    idle: IdleMode,
}

/// From so many physical cores on background work has one to itself beside three threads and what is
/// left to clients, so that nobody minds who spins.
const CORES_TO_SPARE: usize = 5;

impl ThreadPlan {
    /// The plan for this process on this machine. Call it on a thread that is not pinned.
    pub fn choose(wish: &Wish) -> Result<ThreadPlan, CoreError> {
        let machine = Machine::read(Path::new("/"));
        ThreadPlan::on(wish, &allowed_cores(), &machine)
    }

    /// The plan where `allowed` are the cores of `machine` that this process may run on. A list is used
    /// whole; where we choose, one core is left to clients and the system, as long as there is another
    /// and the scheduler puts something there.
    pub fn on(wish: &Wish, allowed: &[usize], machine: &Machine) -> Result<ThreadPlan, CoreError> {
        let listed = match &wish.cores {
            CoreChoice::List(listed) => checked(listed, allowed)?,
            CoreChoice::Auto | CoreChoice::Unpinned => &[],
        };
        let cores =
            |ids: &[usize]| -> Vec<Core> { ids.iter().map(|id| machine.core(*id)).collect() };
        let allowed = cores(allowed);
        let first = |core: &&Core| !core.isolated && !listed.contains(&core.id);
        let left = allowed.iter().find(first).copied();
        // The only core is the node's, too.
        let left = left.filter(|_| allowed.len() > 1);
        let usable = match listed {
            [] => Usable::of_all(&allowed, left),
            _ => Usable::of_list(&cores(listed)),
        };
        let layout = wish.layout.unwrap_or(match usable.apart.len() {
            0 | 1 => Layout::One,
            2 if wish.syncs => Layout::Two,
            2 => Layout::One,
            _ => Layout::Three,
        });
        // Threads that outnumber the cores are left to the scheduler.
        let is_crowded = layout.threads() > usable.len();
        let mut plan = ThreadPlan {
            layout,
            pinned: Vec::new(),
            rests: Vec::new(),
            background: None,
            left,
            allowed,
            listed: listed.to_vec(),
            is_crowded,
            syncs: wish.syncs,
            idle: wish.idle,
        };
        if !is_crowded && wish.cores != CoreChoice::Unpinned {
            plan.pinned = match listed {
                [] => usable.near(layout.threads(), left),
                _ => usable.in_order(layout.threads()),
            };
        }
        plan.settle();
        Ok(plan)
    }

    /// Puts the thread that journals on `core`, one of this process's; who was there takes its place.
    pub fn journal_on(&mut self, core: usize) {
        let core = self.allowed.iter().copied().find(|it| it.id == core);
        let (Some(core), Some(before)) = (core, self.pinned.last().copied()) else {
            return;
        };
        for other in self.pinned.iter_mut().chain(&mut self.left) {
            if *other == core {
                *other = before;
            }
        }
        *self.pinned.last_mut().expect("a plan has threads") = core;
        self.settle();
    }

    /// The cores to try for the thread that journals, its own first: those of the plan, and the others
    /// under the same cache, one for each physical core. Empty where it is not ours to choose.
    pub fn journal_choices(&self) -> Vec<usize> {
        let Some(own) = self.pinned.last().filter(|_| self.listed.is_empty()) else {
            return Vec::new();
        };
        let mut choices = vec![*own];
        let planned = self.pinned.iter().chain(&self.left);
        for core in planned.chain(&self.allowed) {
            let is_like = core.cache == own.cache && core.isolated == own.isolated;
            if is_like && choices.iter().all(|it| it.physical != core.physical) {
                choices.push(*core);
            }
        }
        if choices.len() == 1 && !own.isolated {
            // One physical core: its hyperthreads differ in who is interrupted.
            choices.extend(self.left);
        }
        choices.iter().map(|core| core.id).collect()
    }

    /// Which stages share a thread.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The same cores as a choice of its own, for a node that is to look for no others.
    pub fn as_choice(&self) -> CoreChoice {
        match self.cores() {
            none if none.is_empty() => CoreChoice::Unpinned,
            cores => CoreChoice::List(cores),
        }
    }

    /// The cores of the layout's threads, in its order; empty where they are not pinned.
    pub fn cores(&self) -> Vec<usize> {
        self.pinned.iter().map(|core| core.id).collect()
    }

    /// The core of the layout's thread `at`, `None` where it is not pinned.
    pub fn core(&self, at: usize) -> Option<usize> {
        self.pinned.get(at).map(|core| core.id)
    }

    /// How the layout's thread `at` rests.
    pub fn rest(&self, at: usize) -> Rest {
        self.rests[at]
    }

    /// The core of background work, `None` where it runs wherever it may.
    pub fn background(&self) -> Option<usize> {
        self.background.map(|core| core.id)
    }

    /// The core left to clients and the system, if there is one.
    pub fn left(&self) -> Option<usize> {
        self.left.map(|core| core.id)
    }

    /// Whether there are more threads than cores for them.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// The cores on whose memory the engine's tables should lie: those of the executor's NUMA node,
    /// where there are others.
    pub fn home(&self) -> Vec<usize> {
        let Some(executor) = self.pinned.get(self.executor()) else {
            return Vec::new();
        };
        let at_home = |core: &&Core| core.node == executor.node;
        let home: Vec<usize> = self
            .allowed
            .iter()
            .filter(at_home)
            .map(|core| core.id)
            .collect();
        if home.len() == self.allowed.len() {
            return Vec::new();
        }
        home
    }

    /// What of `machine` stands in the way of this plan.
    pub fn faults(&self, machine: &Machine) -> Vec<Fault> {
        let stages = self.layout.stages();
        let named: Vec<_> = self.pinned.iter().zip(stages).collect();
        let mut faults = Vec::new();
        for (at, (core, stage)) in named.iter().enumerate() {
            for (other, shares) in &named[..at] {
                if other.physical == core.physical {
                    faults.push(Fault::Shared(format!(
                        "{shares} on core {} and {stage} on core {} are hyperthreads of one physical core",
                        other.id, core.id
                    )));
                }
            }
            let is_sibling = |it: &&Core| it.physical == core.physical && it.id != core.id;
            let others = machine.cores().iter().filter(is_sibling);
            let free: Vec<usize> = others
                .filter(|it| !it.isolated && !self.pinned.contains(it))
                .map(|it| it.id)
                .collect();
            if !free.is_empty() {
                faults.push(Fault::Beside(format!(
                    "core {} of {stage} is one physical core with {}, where others may run",
                    core.id,
                    list(&free)
                )));
            }
        }
        let differ =
            |of: fn(&Core) -> usize| named.windows(2).any(|two| of(two[0].0) != of(two[1].0));
        let places = |what: &str, of: fn(&Core) -> usize| {
            let places: Vec<String> = named
                .iter()
                .map(|(core, stage)| format!("{stage} on {what} {}", of(core)))
                .collect();
            places.join(", ")
        };
        if differ(|core| core.node) {
            faults.push(Fault::Apart(format!(
                "threads on several NUMA nodes: {}",
                places("node", |core| core.node)
            )));
        } else if differ(|core| core.cache) {
            faults.push(Fault::Apart(format!(
                "threads under several L3 caches: {}",
                places("that of core", |core| core.cache)
            )));
        }
        faults
    }

    /// Which thread runs the engine.
    fn executor(&self) -> usize {
        match self.layout {
            Layout::One | Layout::Two => 0,
            Layout::Three => 1,
        }
    }

    /// Finds a core for background work and says how threads rest, once all of them have theirs.
    fn settle(&mut self) {
        self.background = self.find_background();
        self.rests = (0..self.layout.threads())
            .map(|at| self.rest_of(at))
            .collect();
    }

    /// The core furthest from the node's threads: not the executor's, no thread's, not a hyperthread
    /// beside one, not what is left to clients; and of these the nearest, where memory is near.
    fn find_background(&self) -> Option<Core> {
        let own = self.pinned.last()?;
        let beside_thread = |core: &Core| {
            let mut threads = self.pinned.iter();
            threads.any(|thread| thread.physical == core.physical)
        };
        let with_clients = |core: &Core| {
            let left = self.left.map(|left| left.physical);
            left == Some(core.physical)
        };
        let free = self
            .allowed
            .iter()
            .filter(|core| !self.pinned.contains(core));
        let best = free.min_by_key(|core| {
            (
                beside_thread(core),
                core.physical == self.pinned[self.executor()].physical,
                !self.listed.is_empty() && !self.listed.contains(&core.id),
                with_clients(core),
                self.left == Some(**core),
                core.node != own.node,
                core.isolated,
                core.cache != own.cache,
                core.id,
            )
        });
        // The thread that journals waits for the same disk.
        Some(*best.unwrap_or(own))
    }

    fn rest_of(&self, at: usize) -> Rest {
        let journals_apart = at > 0 && at + 1 == self.layout.threads();
        match self.idle {
            _ if self.is_crowded => Rest::Sleeps,
            IdleMode::Spin => Rest::Spins,
            IdleMode::Auto if self.has_cores_to_spare() => Rest::Spins,
            // A sync takes far longer than to be woken, and who spins beside a client on the same core
            // keeps it from sending the next command.
            IdleMode::Auto | IdleMode::Sleep if journals_apart && self.syncs => Rest::Sleeps,
            IdleMode::Auto | IdleMode::Sleep => Rest::SpinsThenSleeps,
        }
    }

    /// Whether every thread, background work and clients have physical cores of their own.
    fn has_cores_to_spare(&self) -> bool {
        let physical = |core: &Core| core.physical;
        let mut there: Vec<usize> = self.allowed.iter().map(physical).collect();
        there.sort_unstable();
        there.dedup();
        let mut used: Vec<usize> = self.pinned.iter().map(physical).collect();
        used.extend(self.background.iter().chain(&self.left).map(physical));
        let all = used.len();
        used.sort_unstable();
        used.dedup();
        !self.pinned.is_empty() && there.len() >= CORES_TO_SPARE && used.len() == all
    }
}

impl std::fmt::Display for ThreadPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("threads: ")?;
        for (at, stages) in self.layout.stages().iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match self.core(at) {
                Some(core) => write!(f, "{comma}{stages} on core {core}")?,
                None => write!(f, "{comma}{stages} on any core")?,
            }
            write!(f, " ({})", self.rests[at])?;
        }
        match self.background {
            Some(core) => write!(f, ", background on core {}", core.id),
            None => f.write_str(", background on any core"),
        }
    }
}

/// What of the machine stands in the way of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two of its threads halve one physical core.
    Shared(String),
    /// Somebody else may take half of a thread's physical core.
    Beside(String),
    /// What threads hand to each other crosses caches or nodes.
    Apart(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of so many cores; `shape` changes what each shares.
    fn machine(cores: usize, shape: impl Fn(&mut Core)) -> Machine {
        let core = |id| {
            let mut core = Machine::default().core(id);
            shape(&mut core);
            core
        };
        Machine::new((0..cores).map(core).collect())
    }

    /// The second half of the cores are the hyperthreads of the first, as Linux numbers them.
    fn hyperthreads(cores: usize) -> Machine {
        machine(cores, |core| core.physical = core.id % (cores / 2))
    }

    /// So many cores to a node, each with a cache of its own.
    fn numa(cores: usize, per_node: usize) -> Machine {
        machine(cores, |core| {
            core.node = core.id / per_node;
            core.cache = core.node * per_node;
        })
    }

    fn isolated(cores: usize, isolated: std::ops::Range<usize>) -> Machine {
        machine(cores, |core| core.isolated = isolated.contains(&core.id))
    }

    fn plan(machine: &Machine, allowed: &str, choice: &str, syncs: bool) -> ThreadPlan {
        let wish = Wish {
            cores: choice.parse().unwrap(),
            syncs,
            ..Wish::default()
        };
        ThreadPlan::on(&wish, &super::super::topology::parse_list(allowed), machine).unwrap()
    }

    /// Cores of the threads, of background work and of clients: `1 2 3 | 4 | 0`.
    fn cores(plan: &ThreadPlan) -> String {
        let one = |core: Option<usize>| core.map_or("-".into(), |core| core.to_string());
        let threads: Vec<String> = (0..plan.layout().threads())
            .map(|at| one(plan.core(at)))
            .collect();
        format!(
            "{} | {} | {}",
            threads.join(" "),
            one(plan.background()),
            one(plan.left())
        )
    }

    #[test]
    fn the_plan_follows_from_the_machine() {
        let flat = |cores| machine(cores, |_| {});
        // What it is, the machine, the mask, the plan under `process`, under `disk`.
        let table: &[(&str, Machine, &str, &str, &str)] = &[
            ("1 core", flat(1), "0", "0 | 0 | -", "0 | 0 | -"),
            ("2 cores", flat(2), "0-1", "1 | 0 | 0", "1 | 0 | 0"),
            ("3 cores", flat(3), "0-2", "1 | 2 | 0", "1 2 | 0 | 0"),
            ("4 cores", flat(4), "0-3", "1 2 3 | 0 | 0", "1 2 3 | 0 | 0"),
            (
                "1 core with hyperthreads",
                hyperthreads(2),
                "0-1",
                "1 | 0 | 0",
                "1 | 0 | 0",
            ),
            // The second hyperthread of the clients' core is further from the node than that of its own.
            (
                "4 as 2x2 hyperthreads",
                hyperthreads(4),
                "0-3",
                "1 | 2 | 0",
                "1 | 2 | 0",
            ),
            (
                "8 as 4x2 hyperthreads",
                hyperthreads(8),
                "0-7",
                "1 2 3 | 4 | 0",
                "1 2 3 | 4 | 0",
            ),
            ("5 cores", flat(5), "0-4", "1 2 3 | 4 | 0", "1 2 3 | 4 | 0"),
            ("8 cores", flat(8), "0-7", "1 2 3 | 4 | 0", "1 2 3 | 4 | 0"),
            (
                "16 with two nodes",
                numa(16, 8),
                "0-15",
                "1 2 3 | 4 | 0",
                "1 2 3 | 4 | 0",
            ),
            // Too few of the first node are left: all on the second, clients on the first.
            (
                "two nodes, holes",
                numa(16, 8),
                "0,6,7,8-15",
                "8 9 10 | 11 | 0",
                "8 9 10 | 11 | 0",
            ),
            // Four cores to a cache: three and what is left to clients fill the first.
            (
                "two caches",
                numa(8, 4),
                "0-7",
                "1 2 3 | 4 | 0",
                "1 2 3 | 4 | 0",
            ),
            // Nowhere do three fit: as many as there are stay together.
            (
                "caches of two",
                numa(6, 2),
                "0-5",
                "1 2 3 | 4 | 0",
                "1 2 3 | 4 | 0",
            ),
            (
                "a mask with holes",
                flat(16),
                "3,5,9,11,14",
                "5 9 11 | 14 | 3",
                "5 9 11 | 14 | 3",
            ),
            (
                "isolated in the mask",
                isolated(8, 4..8),
                "0-7",
                "4 5 6 | 1 | 0",
                "4 5 6 | 1 | 0",
            ),
            // Nobody else is scheduled there, so nothing is left to anyone.
            (
                "only isolated",
                isolated(8, 4..8),
                "4-7",
                "4 5 6 | 7 | -",
                "4 5 6 | 7 | -",
            ),
            (
                "all but the first isolated",
                isolated(8, 1..8),
                "0-7",
                "1 2 3 | 4 | 0",
                "1 2 3 | 4 | 0",
            ),
            // One isolated core is the executor's.
            (
                "one isolated",
                isolated(4, 3..4),
                "0-3",
                "1 3 2 | 0 | 0",
                "1 3 2 | 0 | 0",
            ),
        ];
        for (name, machine, mask, process, disk) in table {
            for (syncs, expected) in [(false, process), (true, disk)] {
                let plan = plan(machine, mask, "auto", syncs);
                assert_eq!(cores(&plan), **expected, "{name}, syncs {syncs}");
                check(&plan, machine, name);
            }
        }
    }

    /// What holds on every machine.
    fn check(plan: &ThreadPlan, machine: &Machine, name: &str) {
        let mut used = plan.cores();
        used.sort_unstable();
        used.dedup();
        assert_eq!(
            used.len(),
            plan.cores().len(),
            "{name}: one core, one thread"
        );
        let spinning = plan.rests.iter().filter(|rest| **rest != Rest::Sleeps);
        assert!(
            plan.is_crowded() || spinning.count() <= used.len(),
            "{name}"
        );
        let shared = plan.faults(machine);
        let shared = shared.iter().any(|fault| matches!(fault, Fault::Shared(_)));
        assert!(!shared, "{name}: threads share a physical core");
        if plan.allowed.len() > 1 {
            let executor = plan.core(plan.executor());
            assert_ne!(plan.background(), executor, "{name}: background work");
        }
    }

    #[test]
    fn who_spins_follows_from_the_cores_there_are() {
        let rests = |cores: usize, choice: &str, syncs, idle| {
            let wish = Wish {
                cores: choice.parse().unwrap(),
                syncs,
                idle,
                layout: None,
            };
            let allowed: Vec<usize> = (0..cores).collect();
            let plan = ThreadPlan::on(&wish, &allowed, &machine(cores, |_| {})).unwrap();
            plan.rests.clone()
        };
        use IdleMode::{Auto, Sleep, Spin};
        use Rest::{Sleeps, Spins, SpinsThenSleeps};
        assert_eq!(rests(1, "auto", true, Auto), [SpinsThenSleeps]);
        assert_eq!(rests(2, "auto", false, Auto), [SpinsThenSleeps]);
        assert_eq!(rests(3, "auto", true, Auto), [SpinsThenSleeps, Sleeps]);
        assert_eq!(rests(4, "auto", false, Auto), [SpinsThenSleeps; 3]);
        let disk = [SpinsThenSleeps, SpinsThenSleeps, Sleeps];
        assert_eq!(rests(4, "auto", true, Auto), disk);
        // With a core to itself each, background work and clients included, nobody minds.
        assert_eq!(rests(5, "auto", true, Auto), [Spins; 3]);
        assert_eq!(rests(8, "2,3,4", true, Auto), [Spins; 3]);
        assert_eq!(rests(8, "auto", true, Sleep), disk);
        // Where others schedule, they may give the cores to others.
        assert_eq!(rests(8, "unpinned", true, Auto), disk);
        // A list that leaves no core: as ever.
        assert_eq!(rests(3, "0,1,2", true, Auto), disk);
        assert_eq!(rests(4, "auto", true, Spin), [Spins; 3]);
    }

    #[test]
    fn eight_hyperthreads_are_no_eight_cores() {
        let plan = plan(&hyperthreads(8), "0-7", "auto", false);
        assert_eq!(plan.rests, [Rest::SpinsThenSleeps; 3]);
    }

    #[test]
    fn a_list_is_used_whole() {
        let table = [
            // Clients and background work are elsewhere.
            (machine(4, |_| {}), "2,3", "2 3 | 1 | 0"),
            (machine(4, |_| {}), "0,1,2", "0 1 2 | 3 | 3"),
            (machine(2, |_| {}), "0,1", "0 1 | 1 | -"),
            // What is listed beyond the threads is for background work.
            (machine(8, |_| {}), "4,5,6,7", "4 5 6 | 7 | 0"),
            // Hyperthreads are no cores of their own: they are for background work, and of those that of
            // the journaler rather than that of the executor.
            (hyperthreads(4), "0,2,1,3", "0 1 | 3 | -"),
        ];
        for (machine, listed, expected) in table {
            let all: Vec<String> = machine.cores().iter().map(|it| it.id.to_string()).collect();
            let plan = plan(&machine, &all.join(","), listed, true);
            assert_eq!(cores(&plan), expected, "{listed}");
        }
    }

    #[test]
    fn a_layout_can_be_asked_for() {
        let plan = |machine: &Machine, cores: usize, choice: &str, layout| {
            let wish = Wish {
                cores: choice.parse().unwrap(),
                syncs: true,
                layout: Some(layout),
                idle: IdleMode::Spin,
            };
            let allowed: Vec<usize> = (0..cores).collect();
            ThreadPlan::on(&wish, &allowed, machine).unwrap()
        };
        let flat = machine(3, |_| {});
        assert_eq!(
            plan(&flat, 3, "1,2", Layout::One).to_string(),
            "threads: gateway+journaler+executor+responder on core 1 (spins), background on core 2"
        );
        // More threads than cores: left to the scheduler, and nobody spins, whatever was asked.
        let crowded = plan(&flat, 2, "auto", Layout::Two);
        assert!(crowded.is_crowded());
        assert_eq!(
            crowded.to_string(),
            "threads: gateway+executor+responder on any core (sleeps), journaler on any core (sleeps), \
             background on any core"
        );
        // Before two threads share a physical core, one shares that of the clients; and background work is
        // beside the journaler rather than beside the executor.
        let four = plan(&hyperthreads(4), 4, "auto", Layout::Two);
        assert_eq!(cores(&four), "1 2 | 0 | 0");
    }

    #[test]
    fn the_journal_goes_where_the_disk_answers_soonest() {
        let mut two = plan(&machine(2, |_| {}), "0-1", "auto", true);
        assert_eq!(two.journal_choices(), [1, 0]);
        two.journal_on(0);
        assert_eq!(cores(&two), "0 | 1 | 1");
        let mut eight = plan(&machine(8, |_| {}), "0-7", "auto", true);
        assert_eq!(eight.journal_choices(), [3, 1, 2, 0, 4, 5, 6, 7]);
        eight.journal_on(4);
        assert_eq!(cores(&eight), "1 2 4 | 3 | 0");
        eight.journal_on(1);
        assert_eq!(cores(&eight), "4 2 1 | 3 | 0");
        eight.journal_on(0);
        assert_eq!(cores(&eight), "4 2 0 | 3 | 1");
        // Hyperthreads of one core are one choice; other caches and cores that are not isolated, none.
        let four = plan(&hyperthreads(4), "0-3", "auto", true);
        assert_eq!(four.journal_choices(), [1, 0]);
        let pair = plan(&hyperthreads(2), "0-1", "auto", true);
        assert_eq!(pair.journal_choices(), [1, 0]);
        let numa = plan(&numa(16, 8), "0-15", "auto", true);
        assert_eq!(numa.journal_choices(), [3, 1, 2, 0, 4, 5, 6, 7]);
        let quiet = plan(&isolated(8, 4..8), "0-7", "auto", true);
        assert_eq!(quiet.journal_choices(), [6, 4, 5, 7]);
        // A list is an order.
        let listed = plan(&machine(4, |_| {}), "0-3", "1,2", true);
        assert_eq!(listed.journal_choices(), Vec::<usize>::new());
    }

    #[test]
    fn tables_lie_on_the_executors_node() {
        let two = numa(16, 8);
        let allowed: Vec<usize> = (8..16).collect();
        assert_eq!(plan(&two, "0,8-15", "auto", true).home(), allowed);
        // Nothing to choose on one node.
        assert!(plan(&two, "8-15", "auto", true).home().is_empty());
        assert!(plan(&two, "0-15", "unpinned", true).home().is_empty());
    }

    #[test]
    fn what_the_machine_makes_bad_is_said() {
        let said = |machine: &Machine, listed: &str| {
            let all: Vec<String> = machine.cores().iter().map(|it| it.id.to_string()).collect();
            let plan = plan(machine, &all.join(","), listed, true);
            plan.faults(machine)
        };
        assert_eq!(said(&machine(8, |_| {}), "1,2,3"), []);
        let beside = said(&hyperthreads(8), "1,2");
        assert_eq!(beside.len(), 2);
        assert_eq!(
            beside[0],
            Fault::Beside(
                "core 1 of gateway+executor+responder is one physical core with 5, where others may run"
                    .into()
            )
        );
        assert_eq!(
            said(&numa(8, 4), "3,4"),
            [Fault::Apart(
                "threads on several NUMA nodes: gateway+executor+responder on node 0, journaler on node 1"
                    .into()
            )]
        );
        let caches = machine(8, |core| core.cache = core.id / 4 * 4);
        assert_eq!(
            said(&caches, "3,4"),
            [Fault::Apart(
                "threads under several L3 caches: gateway+executor+responder on that of core 0, journaler on \
                 that of core 4"
                    .into()
            )]
        );
    }

    #[test]
    fn a_core_that_is_not_there_is_named_with_those_that_are() {
        let refused = |choice: &str| {
            let wish = Wish {
                cores: choice.parse().unwrap(),
                ..Wish::default()
            };
            let error = ThreadPlan::on(&wish, &[0, 1], &machine(2, |_| {})).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            refused("0,7"),
            "core 7 is not there; this process may use 0,1"
        );
        assert_eq!(refused("1,1"), "core 1 is listed twice");
        assert!("".parse::<CoreChoice>().is_err());
        assert!("0,x".parse::<CoreChoice>().is_err());
    }
}
