//! Parts of a choice: what is too large for one command goes in several, each of which can settle by
//! itself behind those before it.

use super::board::Board;
use super::layout::{Layout, NONE};
use super::problem::{PaymentIndex, Problem};
use std::cmp::Reverse;

/// Whether payments (ascending) can settle together.
pub fn fits(problem: &Problem, payments: &[PaymentIndex]) -> bool {
    let layout = Layout::of(problem);
    let is_wanted = mask(problem, payments);
    let mut board = Board::new(problem, &layout);
    board.take(|at| is_wanted[at as usize]);
    board.is_feasible() && board.chosen() == payments
}

/// Payments out of a choice (ascending) that can settle together and are `most` at most: all of it
/// where it is small enough. What is left can settle behind them. Empty only where no part of it
/// that was found can go by itself.
pub fn first_part(problem: &Problem, choice: &[PaymentIndex], most: usize) -> Vec<PaymentIndex> {
    if choice.len() <= most {
        return choice.to_vec();
    }
    let layout = Layout::of(problem);
    let mut largest = choice.to_vec();
    largest.sort_by_key(|at| Reverse(problem.payments()[*at as usize].amount));
    // What can go one by one ...
    let mut singly = Board::new(problem, &layout);
    singly.fill(&largest, most);
    // ... or the largest together, without those that then lack what pays them.
    let is_wanted = largest_with_chains(problem, &layout, &largest, most);
    let mut together = Board::new(problem, &layout);
    together.take(|at| is_wanted[at as usize]);
    together.repair();
    together.fill(&largest, most);
    if together.value() > singly.value() {
        together.chosen()
    } else {
        singly.chosen()
    }
}

/// Of payments in that order as many as `most` allows, each with what goes before it.
fn largest_with_chains(
    problem: &Problem,
    layout: &Layout,
    order: &[PaymentIndex],
    most: usize,
) -> Vec<bool> {
    let mut is_wanted = mask(problem, &[]);
    let mut reached = vec![0; problem.accounts().len()];
    let mut count = 0;
    for at in order {
        let debtor = problem.payments()[*at as usize].debtor;
        let chain = layout.chain(debtor);
        let reach = match layout.place[*at as usize] {
            NONE => chain.len(),
            place => place as usize + 1,
        };
        let before = chain.get(reached[debtor as usize]..reach).unwrap_or(&[]);
        let more = before.len() + usize::from(layout.place[*at as usize] == NONE);
        if count + more <= most {
            for at in before {
                is_wanted[*at as usize] = true;
            }
            is_wanted[*at as usize] = true;
            reached[debtor as usize] = reach.max(reached[debtor as usize]);
            count += more;
        }
    }
    is_wanted
}

fn mask(problem: &Problem, payments: &[PaymentIndex]) -> Vec<bool> {
    let mut mask = vec![false; problem.payments().len()];
    for at in payments {
        mask[*at as usize] = true;
    }
    mask
}
