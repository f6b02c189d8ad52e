r"""The best network with at most two layers of tests on some rows: $v_2(\mu)$ of the Bellman equation, in closed form.

$v_2(\mu)=\min\{\mathrm{leaf}(\mu),\ \lambda+\min_f[v_1(\mu|f)+v_1(\mu|\neg f)]\}$ and $v_1(\mu)=\min\{\mathrm{leaf}(\mu),\ \lambda+\min_g
[\mathrm{leaf}(\mu|g)+\mathrm{leaf}(\mu|\neg g)]\}$. Costs are those above what no answer avoids, so a side that needs a test is worth λ at least.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt

from .kernels import Costed, Planes, Sides, packed, pairs, rows, singles


class Best(NamedTuple):
    """A value, the number of tests, and the tree: a label, or (column, tree where its bit is set, tree where not).

    Among equal values it has the fewest tests, then the first columns. `tree` is None where only the bound `value` is known.
    """

    value: int
    tests: int
    tree: Any


def leaf(total: Int[np.ndarray, " K"]) -> Best:
    """The best answer."""
    k = int(total.argmin())
    return Best(int(total[k]), 0, k)


def one_test(tests: Costed, price: int) -> Best:
    """v₁: at most one test."""
    best = leaf(tests.total)
    if not len(tests.bits):
        return best
    both = tests.leaves.sum(0)
    f = int(both.argmin())
    value = price + int(both[f])
    if value >= best.value:
        return best
    return Best(value, 1, (f, int(tests.single[f].argmin()), int((tests.total - tests.single[f]).argmin())))


def choose(tests: Costed, sides: Sides, price: int) -> Best:
    """v₂ with at least one test, from what `kernels` found for either side of every first test."""
    own, deep, labels = tests.leaves, sides.least + price, []
    value, number = price + np.minimum(own, deep).sum(0), 1 + (deep < own).sum(0)
    ties = np.flatnonzero(value == value.min())
    f = int(ties[number[ties].argmin()])
    for side, by in enumerate(sides[2:]):
        total = tests.total - tests.single[f] if side else tests.single[f]
        labels.append(leaf(total).tree if own[side, f] <= deep[side, f] else (int(by[f]), side))
    return Best(int(value[f]), int(number[f]), (f, *labels))


def with_labels(best: Best, tests: Costed) -> Best:
    """The second tests of `choose` with their answers, counted once more."""
    if not isinstance(best.tree, tuple):
        return best
    f, *sides = best.tree

    def finish(side: Any) -> Any:
        if not isinstance(side, tuple):
            return side
        g, outside = side
        first = ~tests.bits[f] if outside else tests.bits[f]
        of = Costed.create(tests.bits[g : g + 1], tests.masks & first[None, :], tests.values)
        return g, int(of.single[0].argmin()), int((of.total - of.single[0]).argmin())

    return best._replace(tree=(f, *map(finish, sides)))


def distinct(F: Bool[np.ndarray, "m N"]) -> tuple[UInt[np.ndarray, "k W"], Int[np.ndarray, " k"]]:
    """The columns that differ and are not constant, packed, and which they are; complements are one, the first is kept."""
    words = packed(F ^ F[:, :1])
    found: dict[bytes, int] = {bytes(words.shape[1] * 8): -1}
    for i, row in enumerate(words):
        found.setdefault(row.tobytes(), i)
    which = np.array(list(found.values())[1:], np.int64)
    return words[which], which


class Whole(NamedTuple):
    """All columns on all rows, and what is known of their sides: the rows of a side cost `weight [2 m]` at most, and the best network with
    one test on a side is worth `value [2 m]`."""

    F: Bool[np.ndarray, "m N"]
    planes: Planes
    price: int
    weight: Int[np.ndarray, "2 m"]
    value: Int[np.ndarray, "2 m"]


def two_tests(whole: Whole, inside: Bool[np.ndarray, " N"], budget: int, tick: Callable[[], None]) -> Best:
    """v₂ on the rows `inside`, exactly if it is below `budget`; else a value ≥ `budget` that is a lower bound, without a tree.

    First tests whose bounds reach the budget are left out: a side is worth min(leaf, λ) at least, and what the same side of all
    rows is worth, less what the rows it lacks may cost.
    """
    F, planes, price = whole.F, whole.planes, whole.price
    masks = packed(planes.masks[:, inside])
    total = (planes.masks[:, inside].sum(1)[:, None] * planes.values).sum(0)
    best = leaf(total)
    if best.value <= price or budget <= price:
        return best if best.value < budget else Best(min(best.value, price), 0, None)
    bits, which = distinct(F[:, inside])
    tests = Costed.create(bits, masks, planes.values)
    best = min(best, one_test(tests, price), key=lambda b: b[:2])
    if best.value > 2 * price and len(bits):
        rest = _rest(whole, inside, which, tests)
        floors = price + np.maximum(np.minimum(tests.leaves, price), rest).sum(0)
        open_, sides = np.flatnonzero(floors < min(best.value, budget)), Sides.empty(len(bits))
        open_ = open_[np.argsort(floors[open_], kind="stable")]
        if 2 * len(open_) > len(bits):  # half of the pairs are those of the other half
            pairs(tests, sides, tick=tick)
            open_ = open_[:0]
        size = 8
        while len(open_):
            rows(tests, open_[:size], sides, tick)
            low = choose(tests, sides, price).value  # first tests whose bounds reach what was found are done
            open_ = open_[size:]
            open_, size = open_[floors[open_] < min(best.value, budget, low)], 2 * size
        deeper = choose(tests, sides, price)
        if deeper.value < best.value:
            best = with_labels(deeper, tests)
    if best.value >= budget:
        return Best(budget, 0, None)
    return Best(best.value, best.tests, _renumbered(best.tree, which, F, inside))


def _rest(
    whole: Whole, inside: Bool[np.ndarray, " N"], which: Int[np.ndarray, " k"], tests: Costed
) -> Int[np.ndarray, "2 k"]:
    """The value of either side of the columns on all rows, less the weight of the rows that are not `inside`."""
    weight = tests.weights[:, None]
    part = singles(tests.bits, tests.masks, weight)[:, 0]
    both = np.stack([part, int((tests.weights * whole.planes.masks[:, inside].sum(1)).sum()) - part])
    flipped = whole.F[which, int(inside.argmax())]  # columns that `distinct` complemented
    pick = lambda a: np.where(flipped[None, :], a[::-1, which], a[:, which])
    return pick(whole.value) - (pick(whole.weight) - both)


def _renumbered(tree: Any, which: np.ndarray, F: np.ndarray, inside: np.ndarray) -> Any:
    """Numbers of columns of F for those of the subset; a column that was complemented changes its sides."""
    if not isinstance(tree, tuple):
        return tree
    f, yes, no = tree
    yes, no = (_renumbered(part, which, F, inside) for part in (yes, no))
    j, flipped = int(which[f]), bool(F[which[f], inside][0])
    return (j, no, yes) if flipped else (j, yes, no)
