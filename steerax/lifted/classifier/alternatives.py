r"""All networks of depth ≤ 2 whose objective is within some slack of the optimum: the Rashomon set of the class.

A network counts if nothing in it is idle: every test splits the rows that reach it, two answers behind one test differ, and some test
looks at what the context says, in a way that no test without context does. Tests are counted as they are written, so that two which agree
on all rows considered are two. What the networks answer, row by row, and how many there are, is exact whatever their number;
only the list ends at a limit.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from .contexts import Context
from .heads import tests_of
from .kernels import unpacked
from .library import library
from .problem import Problem, Tree

BLOCK = 4_000_000  # costs of pairs of tests looked at together


@dataclass(frozen=True)
class Alternatives:
    """**Attributes:** `optimum`, `slack`, in integers of the objective; `count`, networks; `functions`, distinct answers on the rows considered
    among the networks listed; `networks`, those listed as (objective, context, tree), best first; `complete`, whether
    all are listed (up to tests that agree on all rows, of which the first stands for all); `answers [M K]`, whether some network gives row i the
    answer k; `firsts`, of every function the place of its first network in the list; `rules`, these in words."""

    optimum: int
    slack: int
    count: int
    functions: int
    networks: list[tuple[int, Context, Tree]] = field(repr=False)
    complete: bool
    answers: Bool[np.ndarray, "M K"] = field(repr=False)
    firsts: tuple[int, ...] = field(repr=False)
    rules: tuple[str, ...] = field(default=(), repr=False)

    @property
    def agreed(self) -> Bool[np.ndarray, " M"]:
        """The rows on which all networks agree."""
        return self.answers.sum(1) == 1

    def shifted(self, floor: int, skipped: int) -> "Alternatives":
        """With a constant added to the objectives, and without the first rows."""
        networks = [(value + floor, context, tree) for value, context, tree in self.networks]
        return replace(self, optimum=self.optimum + floor, networks=networks, answers=self.answers[skipped:])


class _Option:
    """The ways to end one side of a first test within a budget, by cost."""

    __slots__ = ("cost", "no", "test", "weight", "yes")

    def __init__(self, cost: np.ndarray, test: np.ndarray, yes: np.ndarray, no: np.ndarray, weight: np.ndarray):
        order = np.argsort(cost, kind="stable")
        self.cost, self.test, self.yes, self.no, self.weight = (a[order] for a in (cost, test, yes, no, weight))


def alternatives(problem: Problem, optimum: int, slack: int, rows: Int[np.ndarray, "M n"], limit: int) -> Alternatives:
    """**Arguments:** `problem`, of depth ≤ 2; `optimum`, its value; `slack`; `rows`, codes of further rows on which networks may differ;
    `limit`, of the list."""
    codes = np.concatenate([problem.codes, rows])
    N, K, price = len(problem.codes), problem.costs.shape[1], problem.price
    found = _Found(optimum + slack, np.zeros((len(codes), K), bool), limit)
    total = problem.costs.sum(0)
    for k in np.flatnonzero(total <= found.budget).tolist():
        found.add(int(total[k]), 1, Context("none"), k, lambda k=k: np.full(len(codes), k))
        found.answers[:, k] = True
    base = None
    for context in problem.contexts:
        tests = library(context, problem.shape, codes, base)
        base = base or tests
        heads = tests_of(Context("none"), problem.shape)
        heads = heads if context.kind == "none" else [*heads, *tests_of(context, problem.shape)]
        F = unpacked(tests.bits, len(codes)) ^ tests.flipped[:, None]
        repeats, own = tests.repeats, 0
        if context.kind != "none":
            repeats, own = np.concatenate([base.repeats, tests.repeats[base.base :]]), base.base
        work = _Work(
            problem, context, F, [heads[i] for i in tests.number], repeats, own, price * (context.kind != "none")
        )
        if len(F):
            work.collect(found, N, price)
    networks = sorted(found.networks, key=lambda network: network[0])
    firsts: dict[bytes, int] = {}
    for place, (_, _, _, answers) in enumerate(networks):
        firsts.setdefault(answers, place)
    return Alternatives(
        optimum,
        slack,
        found.count,
        len(firsts),
        [network[:3] for network in networks],
        len(networks) == found.listed,
        found.answers,
        tuple(firsts.values()),
    )


class _Found:
    """What was found so far."""

    def __init__(self, budget: int, answers: np.ndarray, limit: int):
        self.budget, self.answers, self.limit = budget, answers, limit
        self.count = self.listed = 0
        self.networks: list[tuple[int, Context, Tree, bytes]] = []

    def add(self, value: int, weight: int, context: Context, tree: Tree, labels: Any) -> None:
        """Count a network, and list it while there is room."""
        self.count, self.listed = self.count + weight, self.listed + 1
        if len(self.networks) < self.limit:
            self.networks.append((value, context, tree, labels().astype(np.int16).tobytes()))


@dataclass
class _Work:
    """One context: its distinct tests on all rows."""

    problem: Problem
    context: Context
    F: np.ndarray
    heads: list[Any]
    repeats: np.ndarray
    own: int  # the tests before are those without context
    added: int

    def collect(self, found: _Found, N: int, price: int) -> None:
        """Every first test with all pairs of sides within the budget."""
        budget = found.budget - self.added - price
        costs, G = self.problem.costs.astype(float), self.F[:, :N].astype(float)
        single, total = G @ costs, costs.sum(0)  # exact, as all that follow: sums are below 2**53
        size = max(1, BLOCK // (len(G) * costs.shape[1]))
        for start in range(0, len(G), size):
            some = G[start : start + size]
            both = np.stack([(some * costs[:, k]) @ G.T for k in range(costs.shape[1])], -1)  # [b m K]
            for f, inside in enumerate(both, start):
                parts = [(inside, single[f]), (single - inside, total - single[f])]
                least = [self._least(*part, price) for part in parts]
                if sum(least) > budget:
                    continue
                options = [
                    self._options(part, mask, price, budget - other)
                    for part, mask, other in zip(parts, (self.F[f], ~self.F[f]), least[::-1], strict=True)
                ]
                self._pairs(found, f, options, budget, price)

    def _least(self, inside: np.ndarray, whole: np.ndarray, price: int) -> int:
        """The value of a side with one more test at most. Tests that do not split it need no care: they are worth an answer and a price."""
        deep = inside.min(1) + (whole - inside).min(1)
        return int(min(whole.min(), deep.min() + price))

    def _options(self, part: tuple[np.ndarray, np.ndarray], mask: np.ndarray, price: int, budget: int) -> _Option:
        """All answers (test −1) and all second tests that split the rows of `mask`, with two different answers, within the budget."""
        inside, whole = (values.astype(np.int64) for values in part)
        rows = self.F[:, mask].sum(1)
        splits, K = (rows > 0) & (rows < mask.sum()), len(whole)
        parts = [(whole, np.full(K, -1), np.arange(K), np.arange(K), np.ones(K, np.int64))]
        for a in range(K):
            for b in range(K):
                if a != b:
                    cost = price + inside[:, a] + whole[b] - inside[:, b]
                    g = np.flatnonzero(splits & (cost <= budget))
                    parts.append((cost[g], g, np.full(len(g), a), np.full(len(g), b), self.repeats[g]))
        cost, test, yes, no, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
        keep = cost <= budget
        return _Option(cost[keep], test[keep], yes[keep], no[keep], weight[keep])

    def _pairs(self, found: _Found, f: int, options: list[_Option], budget: int, price: int) -> None:
        """Count, list, and mark the answers of all pairs of sides."""
        left, right = options
        own = int(self.repeats[f])
        used = [np.zeros(len(side.cost), bool) for side in options]
        for i in range(len(left.cost)):
            end = int(np.searchsorted(right.cost, budget - left.cost[i], side="right"))
            fits = np.arange(end)
            if left.test[i] < 0:  # two equal answers behind the first test would make it idle
                fits = fits[(right.test[:end] >= 0) | (right.yes[:end] != left.yes[i])]
            if max(f, int(left.test[i])) < self.own:  # the context must not be idle
                fits = fits[right.test[fits] >= self.own]
            if not len(fits):
                continue
            used[0][i] = True
            used[1][fits] = True
            room = max(0, found.limit - len(found.networks))
            for j in fits[:room].tolist():
                value = int(left.cost[i] + right.cost[j]) + price + self.added
                tree = (self.heads[f], self._tree(left, i), self._tree(right, j))
                labels = lambda i=i, j=j: np.where(self.F[f], self._labels(left, i), self._labels(right, j))
                found.add(value, int(left.weight[i] * right.weight[j]) * own, self.context, tree, labels)
            rest = fits[room:]
            found.count += int(left.weight[i]) * int(right.weight[rest].sum()) * own
            found.listed += len(rest)
        for mask, side, marked in zip((self.F[f], ~self.F[f]), options, used, strict=True):
            for i in np.flatnonzero(marked).tolist():
                labels = self._labels(side, i)
                found.answers[mask, labels[mask]] = True

    def _tree(self, side: _Option, i: int) -> Tree:
        test, yes = int(side.test[i]), int(side.yes[i])
        return yes if test < 0 else (self.heads[test], yes, int(side.no[i]))

    def _labels(self, side: _Option, i: int) -> np.ndarray:
        test = int(side.test[i])
        if test < 0:
            return np.full(self.F.shape[1], side.yes[i])
        return np.where(self.F[test], side.yes[i], side.no[i])
