r"""Exact dynamic programming over the layers of class R1.

The state is the whole training set after some layers; Bellman's equation
$V_l(\Lambda)=\min_aV_{l+1}(\Phi_{a\#}\Lambda)$ is solved depth first. The last layer and the read-out are eliminated
together in closed loops; the layer before it is generated, merged, bounded and solved, and nothing of it is stored.
States are taken in the order of their bounds (ties at random, from the seed), in waves that share one incumbent, so
that counts do not depend on the number of threads.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, UInt

from ..._bounds import COUNT, COUNT_OR_ZERO, POSITIVE, SEED, bounded
from ..._errors import ConfigurationError
from ..certificate.certificate import Certificate
from ..problem.problem import Problem
from ..problem.r1 import Layer, Readout, Weights
from . import kernels_numpy
from .expand import Wave, children, collision_bounds, expand, sequence_keys
from .tables import Reductions, Tables, build_tables, build_target, closed_under_swap

FIRST_WAVE, LAST_WAVE = 16, 512  # small waves first: the incumbent falls early


class _OutOfTime(Exception):
    """The time limit was reached in the middle of an expansion."""


_Actions = tuple[tuple[int, int, int], ...]  # (B, row of V, row of V), as indices, layer by layer


@dataclass(frozen=True)
class SearchProgress:
    """What a search knows so far: bounds, states finished of those after the first layer, states seen in all."""

    lower: int
    upper: int
    done: int
    total: int
    states: int


@bounded(depth=COUNT, time_limit=POSITIVE, memory_limit=COUNT_OR_ZERO, devices=COUNT, seed=SEED)
def solve(
    problem: Problem,
    depth: int,
    time_limit: float | int | None = None,
    memory_limit: int | None = None,
    devices: int | None = None,
    *,
    reductions: Reductions | None = None,
    backend: Literal["auto", "numpy", "numba"] = "auto",
    seed: int = 0,
    progress: Callable[[SearchProgress], None] | None = None,
) -> Certificate:
    """The network of the class with the fewest errors, with proof.

    **Arguments:** `depth`, layers; `time_limit`, seconds after which the bounds reached are returned; `memory_limit`,
    bytes one expansion may take; `devices`, threads; `reductions`, what may be skipped; `backend` ("auto" compiles only
    where the problem is large enough to gain); `seed`, of the order among equal bounds; `progress`, called now and then.
    Raises `ConfigurationError` if the depth is below 1, or the problem exceeds the memory or the keys of the search.
    """
    if len(problem.model.cells) ** problem.model.length >= 2**63:
        raise ConfigurationError("The states of these sequences have no 64-bit key; use shorter ones or fewer levels.")
    search = _Search(problem, reductions or Reductions(), backend, devices, seed, time_limit, progress, depth)
    if memory_limit is not None and depth > 1 and search.memory > memory_limit:
        raise ConfigurationError(
            f"One expansion takes up to {search.memory / 2**20:.0f} MiB, more than the memory limit of "
            f"{memory_limit / 2**20:.0f} MiB; raise it, or solve for fewer sequences."
        )
    return search.run(depth)


class _Search:
    """The incumbent, the counts and the clock of one search."""

    def __init__(
        self,
        problem: Problem,
        reductions: Reductions,
        backend: str,
        devices: int | None,
        seed: int,
        time_limit: float | int | None,
        progress: Callable[[SearchProgress], None] | None,
        depth: int,
    ):
        self.problem, self.reductions, self.progress = problem, reductions, progress
        self.tables, self.target = build_tables(problem.model, reductions), build_target(problem)
        self.swap = closed_under_swap(problem.model)
        self.workers = devices or os.cpu_count() or 1
        self.random = np.random.default_rng(seed)
        self.started = time.monotonic()
        self.deadline = math.inf if time_limit is None else self.started + time_limit
        self.slice = math.inf if time_limit is None else min(time_limit / 50, 0.2)  # seconds between looks at the clock
        self.rate = math.inf  # seconds the last layer takes for a state
        small = len(problem.tokens) <= 16 and depth <= 2
        self.compiled = threading.Event()
        self.numba = reductions.masks and (backend == "numba" or (backend == "auto" and not small))
        if self.numba:
            self.compile()
        self.upper, self.path = self.target.total + 1, ()  # the incumbent: errors, and the actions that lead to
        self.state: np.ndarray | None = None  # the state on which its last layer acts
        self.states = self.pairs = 0

    def compile(self) -> None:
        """Make the compiled kernels ready; where time is short, beside the search, which starts with those in NumPy."""

        def work() -> None:
            from . import kernels_numba

            kernels_numba.terminal(self.initial_state()[None], self.tables, self.target, 0, True, 1)
            self.compiled.set()

        if math.isinf(self.deadline):
            work()
        else:
            threading.Thread(target=work, daemon=True).start()

    @property
    def memory(self) -> int:
        """Bytes of one expansion: the children as bytes, their sorted copies and their 64-bit keys."""
        N, n = self.problem.tokens.shape
        return len(self.tables.matrices) * len(self.tables.rows) ** 2 * N * (6 * n + 40)

    @property
    def late(self) -> bool:
        """Whether time is up."""
        return time.monotonic() > self.deadline

    def tick(self) -> None:
        """Raises `_OutOfTime` if time is up."""
        if self.late:
            raise _OutOfTime

    def run(self, depth: int) -> Certificate:
        """Solve, and write down what was proven."""
        start = self.initial_state()
        nodes, node_bounds = np.zeros((0, 8), np.int64), np.zeros(0, np.int64)
        identity = np.flatnonzero((self.tables.rows == 0).all(1))
        if len(identity):  # a layer that does nothing: shallower networks are networks of the class
            stand = (0, int(identity[0]), int(identity[0]))
            for shallower in range(1, depth):
                self.descend(start, shallower, (stand,) * (depth - shallower), quick=shallower > 1)
        elif depth > 1:
            self.any_network(start, depth)
        if depth == 1:
            lower = self.descend(start, 1, ())
        else:
            try:
                wave, node_bounds = self.first_layer(start, depth)
                nodes = np.array([self.as_node(a) for a in wave.actions])
                lower = min(self.upper, int(node_bounds.min()))
            except _OutOfTime:
                lower = self.unavoidable(start)
        return Certificate(
            self.problem, depth, lower, self.upper, self.recover(), nodes, np.minimum(node_bounds, self.upper),
            {
                "states": self.states, "pairs": self.pairs, "first_layer_states": len(nodes),
                "matrices": len(self.tables.matrices), "directions": len(self.tables.normal),
                "backend": "numba" if self.compiled.is_set() else "numpy",
                "seconds": round(time.monotonic() - self.started, 3),
            },
        )  # fmt: skip

    def initial_state(self) -> UInt[np.ndarray, "N n"]:
        """The embedded training set."""
        codes = self.problem.model.codes(self.problem.model.embedding)
        return codes[np.arange(codes.shape[0]), self.problem.tokens].astype(np.uint8)

    def any_network(self, state: np.ndarray, depth: int) -> None:
        """The first incumbent: the first action of every layer but the last."""
        first = self.tables.take(np.zeros(1, np.int64))
        for _ in range(depth - 1):
            state = next(children(state, first))[0][0]
        self.last_layer(state[None], [((0, 0, 0),) * (depth - 1)])

    def unavoidable(self, state: np.ndarray) -> int:
        """The errors that no further layer can avoid, because sequences with other labels are in the same state."""
        keys = sequence_keys(state[None], self.tables, self.reductions.multisets)
        return int(collision_bounds(keys, self.target)[0])

    def expand(self, state: np.ndarray) -> Wave:
        """All children by ascending bounds, equal ones at random. Raises `_OutOfTime`."""
        wave = expand(state, self.tables, self.target, self.reductions, self.swap, self.tick)
        shuffled = self.random.permutation(len(wave))
        return wave.take(shuffled[np.argsort(wave.bounds[shuffled], kind="stable")])

    def first_layer(self, start: np.ndarray, depth: int) -> tuple[Wave, Int[np.ndarray, "K"]]:
        """All states after the first layer and a proven bound for each. Raises `_OutOfTime`."""
        wave = self.expand(start)
        if depth == 2:
            return wave, self.finish(wave, (), report=True)
        bounds = wave.bounds.copy()
        for i in range(len(wave)):
            if self.late or wave.bounds[i] >= self.upper:
                break  # the bounds ascend: nothing behind this state can be better
            bounds[i] = max(bounds[i], self.descend(wave.states[i], depth - 1, (tuple(wave.actions[i].tolist()),)))
            self.tell(bounds, i + 1, len(wave))
        return wave, bounds

    def descend(self, state: np.ndarray, left: int, path: _Actions, quick: bool = False) -> int:
        """A lower bound of the errors with `left` more layers: min(incumbent, optimum) unless time runs out."""
        if left == 1:
            return int(self.last_layer(state[None], [path])[0])
        try:
            wave = self.expand(state)
        except _OutOfTime:
            return 0
        if quick:
            wave = wave.take(np.arange(min(len(wave), 4 * LAST_WAVE)))
        if left == 2:
            return int(self.finish(wave, path).min())
        bounds = wave.bounds.copy()
        for i in range(len(wave)):
            if self.late or wave.bounds[i] >= self.upper:
                break
            bounds[i] = max(
                bounds[i], self.descend(wave.states[i], left - 1, (*path, tuple(wave.actions[i].tolist())), quick)
            )
        return min(self.upper, int(bounds.min()))

    def finish(self, wave: Wave, path: _Actions, report: bool = False) -> Int[np.ndarray, "K"]:
        """The last layer on every state of a wave that may beat the incumbent; bounds for all."""
        bounds, start, size = wave.bounds.copy(), 0, FIRST_WAVE
        while start < len(wave) and wave.bounds[start] < self.upper and not self.late:
            part = slice(start, min(start + size, len(wave)))
            paths = [(*path, tuple(a)) for a in wave.actions[part].tolist()]
            bounds[part] = np.maximum(bounds[part], self.last_layer(wave.states[part], paths))
            start, size = part.stop, min(2 * size, LAST_WAVE)
            if report:
                self.tell(bounds, start, len(wave))
        return np.minimum(bounds, self.upper)

    def last_layer(self, states: np.ndarray, paths: list[_Actions]) -> Int[np.ndarray, "P"]:
        """min(incumbent, optimum of one more layer and a read-out) for every state, 0 where time ran out; updates the
        incumbent."""
        values, start, upper = np.zeros(len(states), np.int64), 0, self.upper
        while start == 0 or (start < len(states) and not self.late):
            size = len(states) if math.isinf(self.slice) else max(self.workers, int(self.slice / max(self.rate, 1e-9)))
            part, began = slice(start, start + size), time.monotonic()
            values[part], pairs = self.terminal(states[part], self.tables, upper)
            done = len(values[part])
            self.rate = (time.monotonic() - began) / done
            start, self.states, self.pairs = start + size, self.states + done, self.pairs + pairs
            best = part.start + int(values[part].argmin())
            if values[best] < self.upper:
                self.upper, self.path, self.state = int(values[best]), paths[best], states[best].copy()
        return values

    def terminal(self, states: np.ndarray, tables: Tables, upper: int) -> tuple[Int[np.ndarray, "P"], int]:
        """The kernel of `last_layer`: values, and the pairs of a state and a matrix whose read-outs were tried."""
        of, flags = (states, tables, self.target, upper), self.reductions
        if self.numba and self.compiled.is_set():
            from . import kernels_numba

            return kernels_numba.terminal(*of, flags.terminal, self.workers)
        return kernels_numpy.terminal(*of, flags.terminal, flags.masks)

    def tell(self, bounds: np.ndarray, done: int, total: int) -> None:
        """Call the progress callback, if there is one."""
        if self.progress is not None:
            self.progress(SearchProgress(min(self.upper, int(bounds.min())), self.upper, done, total, self.states))

    def as_node(self, action: Any) -> list[int]:
        """An action as the eight weights it stands for."""
        b, k, m = action
        return [*self.tables.matrices[b].ravel().tolist(), *self.tables.rows[k].tolist(), *self.tables.rows[m].tolist()]

    def recover(self) -> Weights:
        """The weights of the incumbent: its path, and the last layer and read-out found once more by counting."""
        layers = [self.as_layer(action) for action in self.path]
        if self.state is None:
            raise RuntimeError("There is no incumbent.")
        few = np.arange(len(self.tables.matrices))
        while len(few) > 1:  # the half of the matrices that reaches the incumbent's errors
            half, other = np.split(few, [len(few) // 2])
            (errors,), _ = self.terminal(self.state[None], self.tables.take(half), self.upper + 1)
            few = half if errors <= self.upper else other
        tables, b = self.tables.take(few), int(few[0])
        z = kernels_numpy.attended(self.state[None], tables)
        attended = z[:, tables.direction[0, self.state[:, 0]], np.arange(len(self.state))]
        (y0,), (y1,) = kernels_numpy.coordinates(self.state[None], attended, tables)
        for i, tau, flipped, k, m, errors in kernels_numpy.readout_errors(y0, y1, tables, self.target):
            if errors == self.upper:
                w0, w1 = tables.readouts[i].tolist()
                return Weights((*layers, self.as_layer((b, k, m))), Readout((w0, w1), tau, flipped))
        raise RuntimeError("The incumbent cannot be reconstructed; the kernels disagree.")

    def as_layer(self, action: Any) -> Layer:
        """An action as a layer."""
        a, b, c, d, *V = self.as_node(action)
        return Layer(((a, b), (c, d)), ((V[0], V[1]), (V[2], V[3])))
