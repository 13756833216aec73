//! The relaxation: payments that may settle in part are a network flow. Accounts are nodes, a
//! payment is an arc of at most its amount, and what an account may spend flows in; whatever is not
//! spent leaves through a slack arc to the root.
//!
//! ```text
//!     maximise  sum of f(p)    0 <= f(p) <= amount(p)
//!     for each account   out - in + slack = liquidity,   slack >= 0
//! ```
//! Solved by the primal network simplex method (Ahuja, Magnanti, Orlin, Network Flows, ch. 11) on
//! spanning trees that stay strongly feasible, so it never cycles. All slack arcs together are the
//! first tree. Everything is an integer, so the flows are exact and few are neither 0 nor whole.

/// An arc: a payment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arc {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) most: i64,
}

/// Flow of each arc where the sum over all is largest. `liquidity` is 0 or more for each account.
pub(super) fn largest(liquidity: &[i64], arcs: &[Arc]) -> Vec<i64> {
    let mut simplex = Simplex::new(liquidity, arcs);
    while let Some(entering) = simplex.entering() {
        simplex.pivot(entering);
    }
    simplex.flow.truncate(arcs.len());
    simplex.flow
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    InTree,
    Empty,
    Full,
}

/// A node of the tree.
#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    /// The arc between it and its parent.
    arc: u32,
    depth: u32,
    first_child: u32,
    next: u32,
    previous: u32,
    potential: i64,
}

struct Simplex {
    arcs: Vec<Arc>,
    flow: Vec<i64>,
    standing: Vec<Standing>,
    nodes: Vec<Node>,
    /// Payments are the arcs below this one.
    payments: usize,
    block: usize,
    next: usize,
    stack: Vec<u32>,
}

impl Simplex {
    fn new(liquidity: &[i64], payments: &[Arc]) -> Simplex {
        let count = liquidity.len();
        let root = count as u32;
        let slack = (0..root).map(|from| Arc {
            from,
            to: root,
            most: i64::MAX,
        });
        let nodes = (0..=root).map(|at| Node {
            parent: if at == root { NONE } else { root },
            arc: payments.len() as u32 + at,
            depth: u32::from(at != root),
            first_child: NONE,
            next: NONE,
            previous: NONE,
            potential: 0,
        });
        let mut simplex = Simplex {
            arcs: payments.iter().copied().chain(slack).collect(),
            flow: vec![0; payments.len()],
            standing: vec![Standing::Empty; payments.len()],
            nodes: nodes.collect(),
            payments: payments.len(),
            block: (payments.len().isqrt() * 2).max(32),
            next: 0,
            stack: Vec::new(),
        };
        simplex.flow.extend_from_slice(liquidity);
        simplex
            .standing
            .resize(payments.len() + count, Standing::InTree);
        for at in 0..root {
            simplex.adopt(root, at);
        }
        simplex
    }

    /// What one unit more through an arc costs: below zero it gains.
    #[inline]
    fn reduced_cost(&self, arc: usize) -> i64 {
        let Arc { from, to, .. } = self.arcs[arc];
        let own = -i64::from(arc < self.payments);
        own + self.nodes[from as usize].potential - self.nodes[to as usize].potential
    }

    /// The best arc of the first block that has one worth taking; `None` at the optimum.
    fn entering(&mut self) -> Option<usize> {
        let count = self.arcs.len();
        let (mut best, mut gain, mut seen) = (None, 0, 0);
        for step in 0..count {
            let arc = self.next + step;
            let arc = if arc < count { arc } else { arc - count };
            let now = match self.standing[arc] {
                Standing::InTree => 0,
                Standing::Empty => -self.reduced_cost(arc),
                Standing::Full => self.reduced_cost(arc),
            };
            if now > gain {
                (best, gain) = (Some(arc), now);
            }
            seen += 1;
            if seen == self.block {
                if best.is_some() {
                    self.next = (arc + 1) % count;
                    return best;
                }
                seen = 0;
            }
        }
        best
    }

    fn pivot(&mut self, entering: usize) {
        let Arc { from, to, most } = self.arcs[entering];
        let fills = self.standing[entering] == Standing::Empty;
        let (tail, head) = if fills { (from, to) } else { (to, from) };
        // Flow goes down from where the paths meet to the tail, across, and up from the head.
        let (mut delta, mut leaving) = (most, NONE);
        let mut leaves_at_tail = false;
        let (mut down, mut up) = (tail, head);
        while down != up {
            if self.nodes[down as usize].depth >= self.nodes[up as usize].depth {
                let residual = self.residual(down, false);
                // The last blocking arc in the direction of the flow leaves.
                if residual < delta {
                    (delta, leaving, leaves_at_tail) = (residual, down, true);
                }
                down = self.nodes[down as usize].parent;
            } else {
                up = self.nodes[up as usize].parent;
            }
        }
        let join = down;
        up = head;
        while up != join {
            let residual = self.residual(up, true);
            if residual <= delta {
                (delta, leaving, leaves_at_tail) = (residual, up, false);
            }
            up = self.nodes[up as usize].parent;
        }
        self.push(
            entering,
            tail,
            head,
            join,
            if fills { delta } else { -delta },
        );
        if leaving == NONE {
            self.standing[entering] = if fills {
                Standing::Full
            } else {
                Standing::Empty
            };
            return;
        }
        let left = self.nodes[leaving as usize].arc as usize;
        self.standing[left] = if self.flow[left] == 0 {
            Standing::Empty
        } else {
            Standing::Full
        };
        self.standing[entering] = Standing::InTree;
        let (inner, outer) = if leaves_at_tail {
            (tail, head)
        } else {
            (head, tail)
        };
        self.hang(leaving, inner, outer, entering as u32);
    }

    /// How much more can flow between a node and its parent, upward or downward.
    #[inline]
    fn residual(&self, at: u32, upward: bool) -> i64 {
        let arc = self.nodes[at as usize].arc as usize;
        if (self.arcs[arc].from == at) == upward {
            self.arcs[arc].most - self.flow[arc]
        } else {
            self.flow[arc]
        }
    }

    fn push(&mut self, entering: usize, tail: u32, head: u32, join: u32, delta: i64) {
        self.flow[entering] += delta;
        let delta = delta.abs();
        for (mut at, upward) in [(tail, false), (head, true)] {
            while at != join {
                let Node { arc, parent, .. } = self.nodes[at as usize];
                let along = (self.arcs[arc as usize].from == at) == upward;
                self.flow[arc as usize] += if along { delta } else { -delta };
                at = parent;
            }
        }
    }

    /// Cuts the subtree of `cut` off and hangs it by its node `inner` on `outer`.
    fn hang(&mut self, cut: u32, inner: u32, outer: u32, arc: u32) {
        let (mut parent, mut by, mut at) = (outer, arc, inner);
        loop {
            let Node {
                parent: old_parent,
                arc: old_arc,
                ..
            } = self.nodes[at as usize];
            self.leave(at);
            self.nodes[at as usize].arc = by;
            self.adopt(parent, at);
            if at == cut {
                break;
            }
            (parent, by, at) = (at, old_arc, old_parent);
        }
        self.stack.push(inner);
        while let Some(at) = self.stack.pop() {
            let node = self.nodes[at as usize];
            let parent = self.nodes[node.parent as usize];
            let own = -i64::from((node.arc as usize) < self.payments);
            let potential = if self.arcs[node.arc as usize].from == at {
                parent.potential - own
            } else {
                parent.potential + own
            };
            let node = &mut self.nodes[at as usize];
            node.potential = potential;
            node.depth = parent.depth + 1;
            let mut child = node.first_child;
            while child != NONE {
                self.stack.push(child);
                child = self.nodes[child as usize].next;
            }
        }
    }

    fn adopt(&mut self, parent: u32, child: u32) {
        let first = std::mem::replace(&mut self.nodes[parent as usize].first_child, child);
        if first != NONE {
            self.nodes[first as usize].previous = child;
        }
        let node = &mut self.nodes[child as usize];
        node.parent = parent;
        node.next = first;
        node.previous = NONE;
    }

    fn leave(&mut self, child: u32) {
        let Node {
            parent,
            next,
            previous,
            ..
        } = self.nodes[child as usize];
        if previous == NONE {
            self.nodes[parent as usize].first_child = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
    }
}
