r"""Exact anytime search for the best network of class CAT(L), L ≤ 3.

For each context γ: its distinct tests, the best network with one test, then all pairs of tests (depth 2 in closed form). Depth 3 takes
one first test after the other, those with the smallest lower bound first, and solves either side in closed form. Bounds, all valid at
any interruption:

* *collision*: what no answer to equal rows avoids is taken off before (`Problem.merged`);
* *price*: a side costs at least min(leaf, λ), so a context whose price reaches the best value is not searched;
* *similarity and cached subsets*: $v(S)\ge v(S')-\sum_{i\in S'\setminus S}\max_kc_{ik}$, for every side $S'$ that was solved;
* *one more layer*: a side of a first test costs at least min(leaf, λ + min_g Σ over its two cells of a bound of the cell), where the cell's
  bound is that of the price or of similarity to the sides it is part of, which depth 2 has solved: for all pairs at once.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._errors import ConfigurationError
from .contexts import Context
from .heads import number_of_tests
from .kernels import HUGE, Costed, Planes, Sides, compile_kernels, floors, packed, pairs, planes_of, singles, unpacked
from .library import Library, as_heads, library
from .problem import Problem, Tree
from .subset import Best, Whole, choose, leaf, one_test, two_tests, with_labels


@dataclass(frozen=True)
class SearchProgress:
    """What a search knows so far: bounds of the objective, and first tests or contexts settled, of how many, at which depth."""

    lower: int
    upper: int
    done: int
    total: int
    depth: int


@dataclass(frozen=True)
class Solution:
    """**Attributes:** `context`, `tree`, the network; `upper`, its objective; `lower`, which no network of the class is below; `tests`,
    distinct on the data, of each context searched; `seconds`; `stopped`, why the search ended early: "", "time" or "interrupted"."""

    context: Context
    tree: Tree
    upper: int
    lower: int
    tests: dict[Context, int]
    seconds: float
    stopped: str


class _OutOfTime(Exception):
    """The time limit was reached."""


@dataclass
class _Part:
    """One context: its price, tests, and a lower bound of all networks that use it."""

    context: Context
    price: int
    low: int
    library: Library | None = None
    tests: Costed | None = None
    sides: Sides = field(default_factory=lambda: Sides.empty(0))
    floors: np.ndarray = field(default_factory=lambda: np.zeros((2, 0), np.int64))
    best: int = 0


def search(
    problem: Problem,
    time_limit: float | int | None = None,
    memory_limit: int | None = None,
    threads: int = 1,
    progress: Callable[[SearchProgress], Any] | None = None,
) -> Solution:
    """The best network, or the best found within the time with a lower bound; an interruption from the keyboard ends it likewise.

    **Raises:** `ConfigurationError` if the tests need more than `memory_limit` bytes.
    """
    compile_kernels()
    with ThreadPoolExecutor(threads) as pool:
        return _Search(problem, time_limit, memory_limit, pool if threads > 1 else None, progress).run()


class _Search:
    """The incumbent, the lower bounds and the clock."""

    def __init__(
        self,
        problem: Problem,
        time_limit: float | int | None,
        memory_limit: int | None,
        pool: ThreadPoolExecutor | None,
        progress: Callable[[SearchProgress], Any] | None,
    ):
        self.started, self.pool, self.progress = time.monotonic(), pool, progress
        self.deadline = math.inf if time_limit is None else self.started + 0.97 * time_limit
        self.memory_limit, self.held = memory_limit, 0
        self.problem, self.floor = problem.merged()
        self.price = problem.price
        self.planes: Planes = planes_of(self.problem.costs)
        self.masks = packed(self.planes.masks)
        self.total_weight = int((self.planes.values.max(1, initial=0) * self.planes.masks.sum(1)).sum())
        best = leaf(self.problem.costs.sum(0))
        self.upper, self.fewest, self.found = best.value, 0, (Context("none"), None, best.tree)
        self.parts = [_Part(c, price := self.price * (c.kind != "none"), price + self.price) for c in problem.contexts]

    def run(self) -> Solution:
        """Search, and write down what is known."""
        stopped = ""
        try:
            if self.problem.depth:
                self.shallow()
            if self.problem.depth == 3:
                self.deep()
        except _OutOfTime:
            stopped = "time"
        except KeyboardInterrupt:
            stopped = "interrupted"
        context, part, tree = self.found
        if part is not None:
            assert part.library is not None
            tree = as_heads(tree, part.library, context, self.problem.shape)
        sizes = {part.context: len(part.library.bits) for part in self.parts if part.library is not None}
        return Solution(
            context,
            tree,
            self.upper + self.floor,
            self.lower + self.floor,
            sizes,
            time.monotonic() - self.started,
            stopped,
        )

    @property
    def lower(self) -> int:
        """No network of the class is below."""
        return min([self.upper, *(part.low for part in self.parts)])

    def tick(self) -> None:
        """Raises `_OutOfTime` if time is up."""
        if time.monotonic() > self.deadline:
            raise _OutOfTime

    def room(self, size: int) -> None:
        """Raises `ConfigurationError` if the memory is used up."""
        if self.memory_limit is not None and self.held + size > self.memory_limit:
            raise ConfigurationError(
                f"The tests of {len(self.problem.contexts)} contexts on {len(self.problem.codes)} distinct rows need more than memory_limit="
                f"{self.memory_limit} bytes; raise it, or choose fewer contexts or tests."
            )

    def offer(self, part: _Part, best: Best) -> None:
        """Take a network that is better, or as good with fewer tests."""
        value = best.value + part.price
        if best.tree is not None and (value, best.tests) < (self.upper, self.fewest):
            self.upper, self.fewest, self.found = value, best.tests, (part.context, part, best.tree)

    def tell(self, done: int, total: int, depth: int) -> None:
        """Call the progress callback, if there is one."""
        if self.progress is not None:
            self.progress(SearchProgress(self.lower + self.floor, self.upper + self.floor, done, total, depth))

    def shallow(self) -> None:
        """Depth 1 of all contexts, then depth 2 of all."""
        base = None
        for i, part in enumerate(self.parts):
            if part.low >= self.upper and base is not None:
                continue  # its price alone is too high
            self.tick()
            part.library = library(part.context, self.problem.shape, self.problem.codes, base, self.tick, self.room)
            base = base or part.library
            self.held += part.library.bytes
            part.tests = Costed.create(part.library.bits, self.masks, self.planes.values)
            best = one_test(part.tests, self.price)
            self.offer(part, best)
            if self.problem.depth == 1 or not len(part.library.bits):
                part.low = max(part.low, best.value + part.price)
            else:  # one test, or at least two
                part.low = max(part.low, min(best.value, 2 * self.price) + part.price)
            self.tell(i + 1, len(self.parts), 1)
        if self.problem.depth > 1:
            for i, part in enumerate(self.parts):
                if part.tests is not None and part.low < self.upper:
                    try:
                        self.fill(part)
                    finally:  # what was tried before time was up
                        best = with_labels(choose(part.tests, part.sides, self.price), part.tests)
                        self.offer(part, best)
                    part.best = min(best.value, int(part.tests.total.min()))
                    if self.problem.depth == 2:
                        part.low = max(part.low, min(best.value + part.price, self.upper))
                self.tell(i + 1, len(self.parts), 2)

    def base(self, part: _Part, known: Any, first: Any) -> int:
        """Take what the first context, that of all others too, knows of its pairs; how many tests that settles."""
        assert part.library is not None
        start = part.library.base
        if part is self.parts[0] or first[0].shape != (start,):
            return 0
        for own, of_base in zip(known, first, strict=True):
            own[:start] = of_base
        return start

    def fill(self, part: _Part) -> None:
        """Both sides of every first test, from those of the tests without context and the pairs with a new one."""
        assert part.tests is not None
        part.sides = Sides.empty(m := len(part.tests.bits))
        start = self.base(part, part.sides, self.parts[0].sides)
        for by in part.sides[2:]:
            by[by == start] = m  # none yet
        pairs(part.tests, part.sides, start, self.pool, self.tick)

    def deep(self) -> None:
        """Depth 3, for the contexts in the order of their lower bounds after one look at all pairs."""
        open_ = [part for part in self.parts if part.tests is not None and part.low < self.upper]
        for part in open_:
            assert part.tests is not None
            values = self.one_layer(part)
            cells = np.full((2, len(part.tests.bits)), HUGE)
            # Bounds of pairs of old tests need not fall with the new ones, whose values are lower: all pairs once more.
            floors(part.tests, (values[0], values[1]), self.price, cells, 0, self.pool, self.tick)
            part.floors = np.minimum(part.tests.leaves, self.price + cells)
            self.similar(part, np.ones(len(self.problem.codes), bool), part.best)
            part.low = max(part.low, min(int(part.floors.sum(0).min()) + self.price + part.price, self.upper))
        for part in sorted(open_, key=lambda part: (part.low, part.best)):
            if part.low < self.upper:
                self.roots(part)

    def one_layer(self, part: _Part) -> np.ndarray:
        """v₁ of either side of every test `[2 m]`."""
        assert part.tests is not None
        return np.minimum(part.tests.leaves, self.price + part.sides.least)

    def roots(self, part: _Part) -> None:
        """Every first test of a context that may beat the best network: both sides in closed form."""
        assert part.tests is not None
        self.room(len(part.tests.bits) * len(self.problem.codes))
        F, weight = unpacked(part.tests.bits, len(self.problem.codes)), self.weight(part.tests.bits, self.masks)
        weights = np.stack([weight, self.total_weight - weight])
        whole = Whole(F, self.planes, self.price, weights, self.one_layer(part))
        settled, values = np.zeros(len(F), bool), np.full(len(F), HUGE)  # the value is known, or too high
        greedy, base, bounds = part.tests.leaves.sum(0), part.price + self.price, part.floors
        while True:
            low = np.where(settled, values, base + bounds[0] + bounds[1])
            part.low = max(part.low, min(int(low.min()), self.upper))
            self.tell(int(settled.sum()), len(F), 3)
            open_ = np.flatnonzero(~settled & (low < self.upper))
            if not len(open_):
                return
            f = int(open_[np.lexsort((greedy[open_], low[open_]))[0]])
            trees: dict[int, Best] = {}
            for side in (0, 1) if bounds[0, f] <= bounds[1, f] else (1, 0):
                self.tick()
                inside = F[f] if side == 0 else ~F[f]
                best = two_tests(whole, inside, self.upper - base - int(bounds[1 - side, f]), self.tick)
                bounds[side, f] = max(bounds[side, f], best.value)
                self.similar(part, inside, best.value)
                if best.tree is None:
                    break
                trees[side] = best
            settled[f], values[f] = True, base + int(bounds[:, f].sum())
            if len(trees) == 2:
                tests = 1 + trees[0].tests + trees[1].tests
                self.offer(part, Best(int(values[f]) - part.price, tests, (f, trees[0].tree, trees[1].tree)))

    def weight(self, bits: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """What the rows of every column cost at most `[m]`."""
        return singles(bits, masks, self.planes.values.max(1, initial=0)[:, None])[:, 0]

    def similar(self, part: _Part, inside: np.ndarray, value: int) -> None:
        """Raise the bounds of all sides by the value of one: the rows that it has more cost their weight at most."""
        assert part.tests is not None
        own = self.masks & packed(inside[None])
        both = self.weight(part.tests.bits, own)
        total = int((self.planes.values.max(1, initial=0) * self.planes.masks[:, inside].sum(1)).sum())
        np.maximum(part.floors[0], value - (total - both), out=part.floors[0])
        np.maximum(part.floors[1], value - both, out=part.floors[1])


def sizes_of(problem: Problem) -> dict[Context, int]:
    """The tests of each context as they are written."""
    return {context: number_of_tests(context, problem.shape) for context in problem.contexts}
