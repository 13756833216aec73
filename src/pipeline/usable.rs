//! The cores that threads can have: one of each physical core, and those of a plan near each other.

use super::topology::Core;
use std::cmp::Reverse;

/// The cores for threads: one of each physical core, and the hyperthreads beside them.
pub(super) struct Usable {
    /// One of each physical core.
    pub apart: Vec<Core>,
    /// The hyperthreads beside them.
    pub beside: Vec<Core>,
}

impl Usable {
    /// All but the physical core of the one that is left; its hyperthreads only where nothing else is.
    pub fn of_all(allowed: &[Core], left: Option<Core>) -> Usable {
        let is_left = |core: &Core| left.is_some_and(|left| left.physical == core.physical);
        let (of_left, others): (Vec<Core>, Vec<Core>) = allowed.iter().copied().partition(is_left);
        let of_left: Vec<Core> = of_left
            .into_iter()
            .filter(|core| Some(*core) != left)
            .collect();
        let mut usable = Usable::of_list(&others);
        if usable.apart.is_empty() {
            return Usable::of_list(&of_left);
        }
        usable.beside.splice(0..0, of_left);
        usable
    }

    pub fn of_list(cores: &[Core]) -> Usable {
        let mut usable = Usable {
            apart: Vec::new(),
            beside: Vec::new(),
        };
        for core in cores {
            let same = |other: &Core| other.physical == core.physical;
            match usable.apart.iter().any(same) {
                false => usable.apart.push(*core),
                true => usable.beside.push(*core),
            }
        }
        usable
    }

    pub fn len(&self) -> usize {
        self.apart.len() + self.beside.len()
    }

    /// The first cores as they were listed, hyperthreads last.
    pub fn in_order(&self, threads: usize) -> Vec<Core> {
        let all = self.apart.iter().chain(&self.beside);
        all.take(threads).copied().collect()
    }

    /// Cores for so many threads: isolated ones, under one cache where they fit, else on one node, near
    /// what is left to clients.
    pub fn near(&self, threads: usize, left: Option<Core>) -> Vec<Core> {
        if threads > self.apart.len() {
            return self.in_order(threads);
        }
        let home = left.unwrap_or(self.apart[0]);
        // Those under one cache, else on one node, else all.
        let group = |core: &Core| -> (usize, Vec<Core>) {
            let with = |same: &dyn Fn(&Core) -> bool| -> Vec<Core> {
                self.apart.iter().copied().filter(|it| same(it)).collect()
            };
            let under_cache = with(&|it| it.cache == core.cache);
            let on_node = with(&|it| it.node == core.node);
            match () {
                () if under_cache.len() >= threads => (2, under_cache),
                () if on_node.len() >= threads => (1, on_node),
                () => (0, self.apart.clone()),
            }
        };
        let best = self.apart.iter().max_by_key(|core| {
            let (closeness, group) = group(core);
            let isolated = group.iter().filter(|it| it.isolated).count();
            (
                closeness > 0,
                isolated.min(threads),
                closeness,
                core.node == home.node,
                core.cache == home.cache,
                Reverse(core.id),
            )
        });
        let best = *best.expect("there is a core");
        let mut cores = group(&best).1;
        cores.sort_by_key(|core| {
            (
                !core.isolated,
                core.node != best.node,
                core.cache != best.cache,
                !core.tickless,
                core.id,
            )
        });
        cores.truncate(threads);
        // The executor, behind the gateway, has the better core where only one is isolated.
        if threads == 3 && cores[0].isolated && !cores[1].isolated {
            cores.swap(0, 1);
        }
        cores
    }
}
