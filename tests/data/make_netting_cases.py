#!/usr/bin/env python3
"""Slow, obvious models of the liquidity-saving algorithms, and random cases with what they settle.

    python3 tests/data/make_netting_cases.py 60 > tests/data/netting_cases.json
    python3 tests/data/make_netting_cases.py 3000 7 > /tmp/many.json
    MILLRACE_NETTING_CASES=/tmp/many.json cargo test --test it netting

A payment is a dict: id, frm, to, amt, prio (0 urgent, 1 high, 2 normal); a queue goes by (prio, id).
"""
import json
import random
import sys


def order(ps):
    return sorted(ps, key=lambda p: (p["prio"], p["id"]))


def net(bal, ps):
    b = dict(bal)
    for p in ps:
        b[p["frm"]] -= p["amt"]
        b[p["to"]] += p["amt"]
    return b


def fifo_rest(bal, ps):
    """What is left when covered heads have settled until none is covered."""
    b = dict(bal)
    q = {k: [p for p in order(ps) if p["frm"] == k] for k in bal}
    while True:
        heads = [q[k][0] for k in sorted(q) if q[k] and b[k] >= q[k][0]["amt"]]
        if not heads:
            return b, [p for k in q for p in q[k]]
        h = heads[0]
        b[h["frm"]] -= h["amt"]
        b[h["to"]] += h["amt"]
        q[h["frm"]].pop(0)


class Acc:
    def __init__(self, bal, credit=0, ru=0, rh=0):
        self.bal, self.credit, self.ru, self.rh = bal, credit, ru, rh


def bears(acc, act, blim, mlim, k):
    a, out = acc[k], act[k]
    inflow = sum(p["amt"] for q in act.values() for p in q if p["to"] == k)
    u, h, n = (sum(p["amt"] for p in out if p["prio"] == c) for c in range(3))
    left = a.bal + a.credit + inflow - u - h - n
    ru, rh = max(0, a.ru - u), max(0, a.rh - h)
    if out and left < 0 or h and left < ru or n and left < ru + rh:
        return False
    for (i, j), limit in blim.items():
        if i == k:
            sent = sum(p["amt"] for p in out if p["to"] == j and p["prio"] == 2)
            back = sum(p["amt"] for p in act[j] if p["to"] == k)
            if sent and sent - back > limit:
                return False
    if k in mlim:
        own = {j for (i, j) in blim if i == k}
        sent = sum(p["amt"] for p in out if p["to"] not in own and p["prio"] == 2)
        back = sum(p["amt"] for q in act for p in act[q] if p["to"] == k and q not in own)
        if sent and sent - back > mlim[k]:
            return False
    return True


def grp(acc, ps, blim={}, mlim={}):
    """Everything in; while an account cannot bear its set, drop the last of it."""
    act = {k: [p for p in order(ps) if p["frm"] == k] for k in acc}
    while True:
        bad = [k for k in sorted(acc) if not bears(acc, act, blim, mlim, k)]
        if not bad:
            return [p for q in act.values() for p in q]
        act[bad[0]].pop()


def plain(bal):
    return {k: Acc(v) for k, v in bal.items()}


def bilateral(bal, ps):
    b, rest, done = dict(bal), order(ps), []
    while True:
        pairs = {}
        for p in rest:
            pairs.setdefault(tuple(sorted((p["frm"], p["to"]))), []).append(p)
        cand = []
        for k, both in pairs.items():
            ab, ba = (sum(p["amt"] for p in both if p["frm"] == x) for x in k)
            if ab and ba:
                cand.append((abs(ab - ba), k))
        for _, k in sorted(cand):
            s = grp(plain({x: b[x] for x in k}), pairs[k])
            while True:
                ids = {p["id"] for p in s}
                bad = [
                    p
                    for p in s
                    if any(
                        r["frm"] == p["frm"]
                        and (r["prio"], r["id"]) < (p["prio"], p["id"])
                        and r["id"] not in ids
                        for r in rest
                    )
                ]
                if not bad:
                    break
                s = grp(plain({x: b[x] for x in k}), [p for p in s if p not in bad])
            if len({p["frm"] for p in s}) == 2:
                b, done = net(b, s), done + s
                rest = [p for p in rest if p["id"] not in ids]
                break
        else:
            return done


def multiple(bal, ps):
    b, rest, done = dict(bal), list(ps), []
    while True:
        before = len(done)
        for run in (
            lambda b, r: r if all(v >= 0 for v in net(b, r).values()) else [],
            lambda b, r: grp(plain(b), r),
            bilateral,
            lambda b, r: grp(plain(b), r),
        ):
            s = run(b, rest)
            b, done = net(b, s), done + s
            rest = [p for p in rest if p not in s]
        if len(done) == before:
            return done


def greedy(bal, ps):
    """Normal payments freely, urgent and high ones from the end and back from the front; the better
    of this and gridlock resolution."""
    act, removed = order(ps), []
    b = net(bal, act)
    while True:
        short = [k for k in bal if b[k] < 0]
        if not short:
            break
        k = min(short, key=lambda x: (b[x], x))
        out = [p for p in act if p["frm"] == k]
        c = [p for p in out if p["prio"] == 2]
        cure = [p for p in c if p["amt"] >= -b[k]]
        if not c:
            p = out[-1]
        elif cure:
            p = min(cure, key=lambda p: (p["amt"], -p["id"]))
        else:
            p = max(c, key=lambda p: (p["amt"], p["id"]))
        act.remove(p)
        removed.append(p)
        b[k] += p["amt"]
        b[p["to"]] -= p["amt"]
    removed = order(removed)
    changed = True
    while changed:
        changed = False
        for p in removed:
            first = [r for r in removed if r["frm"] == p["frm"] and r["prio"] < 2]
            free = p is first[0] if first else True
            if free and b[p["frm"]] >= p["amt"]:
                b[p["frm"]] -= p["amt"]
                b[p["to"]] += p["amt"]
                act.append(p)
                removed.remove(p)
                changed = True
                break
    whole = grp(plain(bal), ps)
    return act if sum(p["amt"] for p in act) > sum(p["amt"] for p in whole) else whole


def case(rng, kind):
    names = ["B%02d" % i for i in range(rng.randint(2, 6))]
    ps = []
    small = rng.choice([12, 40, 60])
    for i in range(rng.randint(2, 22)):
        a, b = rng.sample(names, 2)
        prio = rng.choice([0, 1, 2, 2, 2] if rng.random() < 0.7 else [2])
        ps.append(dict(id=i + 1, frm=a, to=b, amt=rng.randint(1, small), prio=prio))
    if kind == "greedy" and rng.random() < 0.5:
        for p in ps:
            p["prio"] = 2
    credit = {k: rng.choice([0, 0, 5]) if kind == "grp" else 0 for k in names}
    start = {k: rng.choice([0, rng.randint(0, 20), rng.randint(0, 60)]) + credit[k] for k in names}
    b, rest = fifo_rest(start, ps)
    accounts = {
        k: Acc(
            b[k] - credit[k],
            credit[k],
            rng.choice([0, 0, 4, 8]) if kind == "grp" else 0,
            rng.choice([0, 0, 3]) if kind == "grp" else 0,
        )
        for k in names
    }
    blim, mlim = {}, {}
    if kind == "grp":
        pairs = [(x, y) for x in names for y in names if x != y]
        blim = {p: rng.randint(0, 15) for p in pairs if rng.random() < 0.2}
        mlim = {k: rng.randint(0, 20) for k in names if rng.random() < 0.2}
        settled = grp(accounts, rest, blim, mlim)
    else:
        settled = {"bilateral": bilateral, "multiple": multiple, "greedy": greedy}[kind](b, rest)
    at = names.index
    return dict(
        algorithm=kind,
        accounts=[[a.bal, a.credit, a.ru, a.rh] for a in accounts.values()],
        payments=[[p["id"], at(p["frm"]), at(p["to"]), p["amt"], p["prio"]] for p in sorted(rest, key=lambda p: p["id"])],
        bilateral=[[at(i), at(j), v] for (i, j), v in blim.items()],
        multilateral=[[at(k), v] for k, v in mlim.items()],
        settled=sorted(p["id"] for p in settled),
    )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    cases = []
    for kind in ("grp", "bilateral", "multiple", "greedy"):
        made = 0
        while made < count:
            one = case(rng, kind)
            # Most random queues settle nothing; keep a few of those.
            if one["settled"] or rng.random() < 0.1:
                cases.append(one)
                made += 1
    print("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]")
