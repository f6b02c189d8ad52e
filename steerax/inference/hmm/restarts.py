"""Starts of Baum–Welch on their way up: several side by side, kept on disk, continued where they stopped."""

import concurrent.futures
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ...runs.files import RunFolder
from ...runs.progress import Progress
from .filter import forward_filter
from .kernels.counts import SMALLEST_MASS, chunk_blocks
from .kernels.em import Pseudocounts, em_step, prepare

HISTORIES = ("log_likelihoods", "objective")


class Problem(NamedTuple):
    """The data as the E-step takes them, its static sizes, and when a start has arrived."""

    rows: Any
    lengths: Any
    counts: Pseudocounts
    block: int
    data: Sequences
    least_gain: float  # nats that an iteration must gain to go on

    @classmethod
    def of(cls, data: Sequences, model: HiddenMarkovModel, counts: Pseudocounts, tolerance: float) -> "Problem":
        rows, block = prepare(data, model)
        return cls(rows, jnp.asarray(data.lengths), counts, block, data, tolerance * data.n_observed)


@dataclasses.dataclass
class Climb:
    """One start on its way up: `model` has been evaluated; `pending` comes next, made without counts of the states
    `lost`. `ended`, the name of a member of `RESULTS`, says why it stopped for good."""

    model: HiddenMarkovModel
    pending: HiddenMarkovModel
    lost: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    log_likelihoods: list[float] = dataclasses.field(default_factory=list)
    objective: list[float] = dataclasses.field(default_factory=list)
    degenerate: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    ended: str | None = None

    def take(self, problem: Problem, after: HiddenMarkovModel, log_likelihood: float, log_prior: float, lost) -> bool:
        """Move on to the evaluated model, unless the objective fell by more than rounding explains."""
        value = log_likelihood + log_prior
        gain = value - self.objective[-1] if self.objective else np.inf
        if gain < -1e3 * float(jnp.finfo(self.model.emission.dtype).eps) * abs(value):
            self.ended = "breakdown"
            return False
        known = {state for _, state in self.degenerate}
        self.degenerate += [(len(self.objective), int(i)) for i in np.flatnonzero(self.lost) if int(i) not in known]
        self.model, self.pending, self.lost = self.pending, after, lost
        self.log_likelihoods.append(log_likelihood)
        self.objective.append(value)
        if gain < problem.least_gain:
            self.ended = "successful"
        return True


def iterate(problem: Problem, model: HiddenMarkovModel):
    """`(next model, log-likelihood, log-prior, lost states)`."""
    length, batch = problem.rows.shape
    for block in dict.fromkeys((problem.block, 1)):
        per_chunk = chunk_blocks(length, batch, model.n_states, block)
        arrays, found, log_prior, lost = em_step(
            *model.arrays, problem.rows, problem.lengths, problem.counts, block, per_chunk
        )
        *numbers, lost = jax.device_get((found.smallest_mass, found.log_likelihood, log_prior, lost))
        smallest, log_likelihood, log_prior = map(float, numbers)
        if smallest > SMALLEST_MASS:
            break
    if smallest == 0:
        forward_filter(model, problem.data)  # names the impossible token
    new = eqx.tree_at(lambda m: m.arrays, model, arrays)
    return new, log_likelihood, log_prior, lost


class Record:
    """The climbs of one fit in a run folder, written whole at most every `seconds`."""

    def __init__(self, folder: RunFolder, climbs: Sequence[Climb], seconds: float):
        self.folder, self.climbs, self.seconds = folder, climbs, seconds
        self.written = time.monotonic()

    def restore(self) -> None:
        """Put every climb where the newest checkpoint has it, if there is one."""
        found = self.folder.latest()
        if found is None:
            return
        arrays, state = found
        for i, (climb, kept) in enumerate(zip(self.climbs, state["climbs"], strict=True)):
            for name in ("model", "pending"):
                leaves, structure = jax.tree.flatten(getattr(climb, name).arrays)
                read = [jnp.asarray(arrays[f"{i}.{name}.{j}"]) for j in range(len(leaves))]
                setattr(climb, name, eqx.tree_at(lambda m: m.arrays, climb.model, jax.tree.unflatten(structure, read)))
            climb.lost = arrays[f"{i}.lost"]
            climb.log_likelihoods, climb.objective = (arrays[f"{i}.{n}"].tolist() for n in HISTORIES)
            climb.degenerate, climb.ended = [tuple(pair) for pair in kept["degenerate"]], kept["ended"]

    def save(self) -> None:
        """Write the state of every climb."""
        arrays = {}
        for i, climb in enumerate(self.climbs):
            for name in ("model", "pending"):
                leaves = jax.tree.leaves(getattr(climb, name).arrays)
                arrays |= {f"{i}.{name}.{j}": np.asarray(leaf) for j, leaf in enumerate(leaves)}
            arrays |= {f"{i}.{name}": np.asarray(getattr(climb, name)) for name in ("lost", *HISTORIES)}
        state = [{"degenerate": climb.degenerate, "ended": climb.ended} for climb in self.climbs]
        self.folder.save(sum(len(climb.objective) for climb in self.climbs), arrays, {"climbs": state})
        self.written = time.monotonic()

    def save_if_due(self) -> None:
        """`save`, unless the last time was less than `seconds` ago."""
        if time.monotonic() - self.written >= self.seconds:
            self.save()


class Ascent(NamedTuple):
    """How to climb: what to maximise, whom to tell, and when to stop."""

    problem: Problem
    on_iteration: Callable[[int, float, HiddenMarkovModel], Any] | None
    interrupted: Callable[[], bool]
    asked: threading.Event  # set when the caller asks to stop
    record: Record | None
    shown: bool

    def __call__(self, climbs: Sequence[Climb], limit: int) -> None:
        """Bring some starts to `limit` iterations each, side by side on the cores of a CPU; the caller is asked one
        at a time."""
        title = f"Baum-Welch, {len(climbs)} starts" if len(climbs) > 1 else "Baum-Welch"
        turn = threading.Lock()
        with Progress(title, limit * len(climbs), shown=self.shown) as bar:

            def note(climb: Climb) -> None:
                done = sum(max(len(c.objective) - 1, 0) for c in climbs)
                nats = climb.log_likelihoods[-1] / self.problem.data.n_observed
                bar.update(done, f"{nats:.4f} nats per token")
                n, value = len(climb.objective) - 1, climb.log_likelihoods[-1]
                if self.on_iteration is not None and self.on_iteration(n, value, climb.model) == "stop":
                    self.asked.set()
                if self.record is not None:
                    self.record.save_if_due()

            def on(climb: Climb) -> None:
                while climb.ended is None and len(climb.objective) <= limit:
                    if climb.objective and (self.asked.is_set() or self.interrupted()):
                        break
                    evaluated = iterate(self.problem, climb.pending)
                    with turn:  # so that what is saved belongs together
                        if climb.take(self.problem, *evaluated):
                            note(climb)

            if len(climbs) == 1 or jax.default_backend() != "cpu":
                for climb in climbs:
                    on(climb)
                return
            with concurrent.futures.ThreadPoolExecutor(min(len(climbs), os.cpu_count() or 1)) as pool:
                list(pool.map(on, climbs))
