#!/usr/bin/env python3
"""Writes the seeded queues that the solver is measured on, and what slow models settle of them:

    python3 tests/data/make_solver_cases.py > tests/data/solver_cases.json

needs numpy and scipy (HiGHS solves the linear programs). A payment is [debtor, creditor, amount,
class (0 urgent, 1 high, 2 normal)]. For each share of what it owes that every bank has (liquidity,
per mille) a level says the balances and what of the value settles: by gridlock resolution (grp), by
greedy bypass (greedy, where it does not take too long), by rounding the linear relaxation
(lp_rounding), and at most (lp_bound, the relaxation itself). The last two know no classes.
"""
import json
import math
import random

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import lil_matrix

SIZES = ((5, 14, 20), (10, 60, 20), (20, 200, 6), (50, 2000, 2))
LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2)


def queue(seed, banks, count, sigma=1.3):
    """Debtors and creditors by Zipf's law, lognormal amounts."""
    rng = random.Random(seed)
    names = list(range(banks))
    weights = [1 / (i + 1) for i in names]
    payments = []
    while len(payments) < count:
        a, b = rng.choices(names, weights)[0], rng.choices(names, weights)[0]
        if a == b:
            continue
        amount = max(1, int(math.exp(rng.gauss(6, sigma))))
        payments.append((a, b, amount, rng.choices([0, 1, 2], [5, 15, 80])[0]))
    return payments


def value(payments, chosen):
    return sum(payments[p][2] for p in chosen)


def net(balances, payments, chosen):
    left = list(balances)
    for p in chosen:
        left[payments[p][0]] -= payments[p][2]
        left[payments[p][1]] += payments[p][2]
    return left


def order(payments, chosen):
    return sorted(chosen, key=lambda p: (payments[p][3], p))


def grp(balances, payments):
    """Everything in; a bank in deficit drops the last of its queue."""
    queues = [[] for _ in balances]
    for p in order(payments, range(len(payments))):
        queues[payments[p][0]].append(p)
    left = net(balances, payments, range(len(payments)))
    while True:
        short = [k for k, has in enumerate(left) if has < 0]
        if not short:
            return [p for q in queues for p in q]
        p = queues[short[0]].pop()
        left[payments[p][0]] += payments[p][2]
        left[payments[p][1]] -= payments[p][2]


def readd(left, payments, chosen, dropped):
    """What was dropped comes back in order wherever its debtor has the money, to a fixpoint."""
    dropped = order(payments, dropped)
    while True:
        fits = next((p for p in dropped if left[payments[p][0]] >= payments[p][2]), None)
        if fits is None:
            return chosen, left
        left[payments[fits][0]] -= payments[fits][2]
        left[payments[fits][1]] += payments[fits][2]
        chosen.append(fits)
        dropped.remove(fits)


def repair(balances, payments, chosen, dropped, lowest_class_first):
    """The bank that lacks most drops the smallest payment that cures it, else its largest."""
    chosen, dropped = list(chosen), list(dropped)
    left = net(balances, payments, chosen)
    while True:
        short = [k for k, has in enumerate(left) if has < 0]
        if not short:
            return readd(left, payments, chosen, dropped)
        k = min(short, key=lambda x: (left[x], x))
        own = [p for p in chosen if payments[p][0] == k]
        if lowest_class_first:
            last = max(payments[p][3] for p in own)
            own = [p for p in own if payments[p][3] == last]
        cure = [p for p in own if payments[p][2] >= -left[k]]
        if cure:
            p = min(cure, key=lambda p: (payments[p][2], -p))
        else:
            p = max(own, key=lambda p: (payments[p][2], p))
        chosen.remove(p)
        dropped.append(p)
        left[payments[p][0]] += payments[p][2]
        left[payments[p][1]] -= payments[p][2]


def relax(balances, payments, some):
    matrix = lil_matrix((len(balances), len(some)))
    for at, p in enumerate(some):
        matrix[payments[p][0], at] += payments[p][2]
        matrix[payments[p][1], at] -= payments[p][2]
    gain = -np.array([payments[p][2] for p in some], float)
    result = linprog(gain, A_ub=matrix.tocsr(), b_ub=balances, bounds=(0, 1), method="highs-ds")
    return result.x, -result.fun


def lp_rounding(balances, payments):
    left, rest, done = list(balances), list(range(len(payments))), []
    while rest:
        shares, _ = relax(left, payments, rest)
        best = None
        for least in (0.999999, 0.9, 0.75, 0.5):
            chosen = [p for p, share in zip(rest, shares) if share >= least]
            dropped = [p for p, share in zip(rest, shares) if share < least]
            chosen, after = repair(left, payments, chosen, dropped, False)
            if best is None or value(payments, chosen) > value(payments, best[0]):
                best = (chosen, after)
        if not best[0]:
            break
        done += best[0]
        left = best[1]
        settled = set(best[0])
        rest = [p for p in rest if p not in settled]
    return done


def levels(banks, payments):
    owed = [sum(p[2] for p in payments if p[0] == k) for k in range(banks)]
    everything = range(len(payments))
    for liquidity in LEVELS:
        balances = [int(sum_ * liquidity) for sum_ in owed]
        greedy = None
        if len(payments) <= 200:
            greedy = value(payments, repair(balances, payments, everything, [], True)[0])
        yield dict(
            liquidity=int(liquidity * 1000),
            balances=balances,
            grp=value(payments, grp(balances, payments)),
            greedy=greedy,
            lp_rounding=value(payments, lp_rounding(balances, payments)),
            lp_bound=round(relax(balances, payments, list(everything))[1]),
        )


if __name__ == "__main__":
    cases = []
    for banks, count, seeds in SIZES:
        for at in range(seeds):
            seed = 1000 * count + at
            payments = queue(seed, banks, count)
            cases.append(
                dict(seed=seed, banks=banks, payments=payments, levels=list(levels(banks, payments)))
            )
    lines = (json.dumps(case, separators=(",", ":")) for case in cases)
    print("[\n" + ",\n".join(lines) + "\n]")
