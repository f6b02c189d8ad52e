"""Class CAT(L) once more, slowly: every test as attention over a list of tokens, every network tried, Python integers only."""

import itertools
from fractions import Fraction


def register(context, row, i, V):
    """u of token i: argmax of integer scores, or the sign of a mean. `row`, codes, V = no token."""
    kind, a, b = context
    n = sum(s != V for s in row)
    if kind == "balance":
        seen = row[: i + 1]
        mean = Fraction(sum((s == a) - (s == b) for s in seen), i + 1)
        return 1 + (mean > 0) - (mean < 0)
    if kind == "pair":
        return (V + 2) * register(("back", 1, 0), row, i, V) + register(("back", 2, 0), row, i, V)
    if kind == "none":
        return 0
    target = {"back": i - a, "first": 0, "last": n - 1, "mirror": n - 1 - i}.get(kind)
    if kind == "repeat":
        scores = [2 + j if j < i and row[j] == row[i] != V else 0 for j in range(len(row))]
    else:
        scores = [2 * (j == target) for j in range(len(row))]
    best = max([1, *scores])
    chosen = None if best == 1 else scores.index(best)
    if kind == "repeat":
        return int(chosen is not None)
    return V if chosen is None else row[chosen]


def holds(predicate, s, u, V):
    kind, a, b = predicate
    if s == V:
        return False
    return {"token": s == a, "both": s == a and u == b, "match": s == u, "flag": u == a, "any": True}[kind]


def bit(head, context, row, V):
    """The bit of a test on one row."""
    kind, predicate, value = head
    n, length = len(row), sum(s != V for s in row)
    u = [register(context, row, i, V) for i in range(n)]
    if predicate[0] == "less":
        mean = Fraction(sum(n * ((s == predicate[1]) - (s == predicate[2])) for s in row), n)
        return mean >= value if kind == "compare" else mean == value
    good = [holds(predicate, row[i], u[i], V) for i in range(n)]
    mean = Fraction(sum(n * g for g in good), n)
    if kind in ("count", "exactly", "odd"):
        return {"count": mean >= value, "exactly": mean == value, "odd": mean % 2 == 1}[kind]
    if kind in ("place", "from end"):
        at = value if kind == "place" else length - 1 - value
        scores = [2 * (j == at) for j in range(n)]
        return max([1, *scores]) == 2 and good[scores.index(2)]
    side, what = kind.split()
    scores = [(n + 2 - j if side == "first" else 2 + j) * g for j, g in enumerate(good)]
    if max(scores) <= 1:
        return False
    j = scores.index(max(scores))
    return {"at": j >= value, "is": row[j] == value, "sees": u[j] == value}[what]


def least(columns, costs, price, depth):
    """The least cost plus price of a tree over columns (tuples of bits), with no bound at all."""

    def value(rows, depth):
        best = min((sum(costs[i][k] for i in rows) for k in range(len(costs[0]))), default=0)
        if depth:
            for c in columns:
                inside = [i for i in rows if c[i]]
                outside = [i for i in rows if not c[i]]
                best = min(best, price + value(inside, depth - 1) + value(outside, depth - 1))
        return best

    return value(range(len(costs)), depth)


def optimum(problem, tests):
    """The optimum of a problem over all contexts; `tests(context)` lists the heads that a context adds."""
    rows, V = problem.codes.tolist(), problem.shape.V
    costs, out = problem.costs.tolist(), []
    none = problem.contexts[0]
    for context in problem.contexts:
        heads = [*tests(none), *(tests(context) if context != none else [])]
        columns = {tuple(bool(bit(h, context, row, V)) for row in rows) for h in heads}
        out.append(least(sorted(columns), costs, problem.price, problem.depth) + problem.price * (context != none))
    return min(out)


def all_rows(V, n):
    return list(itertools.product(range(V), repeat=n))
