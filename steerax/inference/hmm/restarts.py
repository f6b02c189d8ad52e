"""Restarts of Baum–Welch, for every chain whose E-step a room prepares: several side by side, kept on disk, continued where they stopped."""

import concurrent.futures
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..._errors import ImpossibleTokenError, WorkerError
from ..._results import RESULTS, name_of
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ...runs import loop
from ...runs.executors import sweep
from ...runs.folder import RunFolder
from ...runs.progress import Progress
from ..devices import AXIS, here, mesh_of, over_devices, spread
from ..tokens import as_codes
from .filter import filter_tokens
from .kernels.counts import SMALLEST_MASS, chunk_blocks
from .kernels.em import Iteration, Pseudocounts, em_step
from .kernels.likelihoods import row_numbers

HISTORIES = ("log_likelihoods", "objective")


@runtime_checkable
class _HasMass(Protocol):
    @property
    def smallest_mass(self) -> Any: ...

    @property
    def doubtful(self) -> Any: ...


_Counted = TypeVar("_Counted", bound=_HasMass)
Chain = Any  # what a room climbs with: an `equinox.Module` with `initial`, and `parameters` that an iteration replaces


@runtime_checkable
class CanIterate(Protocol):
    """Data as the E-step of a room takes them: `data`, what one observation is called, and an iteration of EM."""

    @property
    def data(self) -> Sequences: ...

    @property
    def noun(self) -> str: ...

    def iterated(self, model: Any, pseudocounts: Pseudocounts) -> Iteration: ...


class Prepared(NamedTuple):
    """Sequences as the E-step takes them: rows of the emission table `[T B]` and lengths `[B]`, over the devices of the data,
    whose shares are made equal by empty sequences."""

    data: Sequences
    rows: Any
    lengths: Any
    noun: str = "token"

    @classmethod
    def of(cls, data: Sequences, model: HiddenMarkovModel) -> "Prepared":
        """Raises `DataError` for tokens that the model does not have."""
        mesh = mesh_of(data)
        codes = spread(mesh, as_codes(model, data), 1, fill=-1)
        return cls(data, row_numbers(codes), spread(mesh, data.lengths, 0, fill=0))

    def step(self, model: HiddenMarkovModel, pseudocounts: Pseudocounts, block: int, per_chunk: int) -> Iteration:
        """One iteration of EM."""
        if (mesh := mesh_of(self.data)) is None:
            return em_step(*model.arrays, self.rows, self.lengths, pseudocounts, block, per_chunk)
        sizes = {"block": block, "per_chunk": per_chunk, "axis": AXIS}
        over = over_devices(mesh, em_step, (None, None, None, 1, 0, None), None, **sizes)
        return here(over(*model.arrays, self.rows, self.lengths, pseudocounts))

    def counted(self, model: HiddenMarkovModel, step: Callable[[int, int], _Counted]) -> _Counted:
        """`step(block, per_chunk)` as `counted_safely` chooses it. Raises `ImpossibleTokenError`."""
        return counted_safely(
            step, self.rows.shape, model, self.data, lambda: filter_tokens(model, self.data).lost_mass
        )

    def iterated(self, model: HiddenMarkovModel, pseudocounts: Pseudocounts) -> Iteration:
        """One iteration of EM. Raises `ImpossibleTokenError`."""
        return self.counted(model, functools.partial(self.step, model, pseudocounts))


def counted_safely(
    step: Callable[[int, int], _Counted],
    shape: tuple[int, int],
    model: HiddenMarkovModel,
    data: Sequences,
    lost_mass: Callable[[], Any],
) -> _Counted:
    """`step(block, per_chunk)` with normalisation every eight observations where a step is cheap and in float64; once more
    after every one where a mass came near the smallest number, and with block 0, in scaled numbers, where mass would have
    been lost, which `lost_mass()` tells; it also raises for an impossible observation."""
    (length, batch), d = shape, model.n_states
    batch //= len(data.devices or [None])
    cheap = batch * d * d <= 100_000 and model.initial.dtype == jnp.float64
    counted = step(8, chunk_blocks(length, batch, d, 8)) if cheap else None
    if counted is None or float(counted.smallest_mass) <= SMALLEST_MASS:
        counted = step(1, chunk_blocks(length, batch, d, 1))
    impossible = float(counted.smallest_mass) == 0
    if impossible or bool(counted.doubtful):
        lost = lost_mass()
        if impossible or lost:
            counted = step(0, 0)
    return counted


@dataclasses.dataclass
class Restart:
    """State of one EM restart: `model` is the last model whose likelihood is known, `pending` the next one (its M-step
    ignored the empty states `lost`). `result` says why it stopped for good."""

    model: Chain
    pending: Chain
    lost: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    log_likelihoods: list[float] = dataclasses.field(default_factory=list)
    objective: list[float] = dataclasses.field(default_factory=list)
    degenerate: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    result: RESULTS | None = None

    def advance(self, prepared: CanIterate, pseudocounts: Pseudocounts):
        """One iteration of EM on the pending model: what `take` needs, in its order. A model that was climbed to and under which
        the data are impossible has likelihood zero: a state settled on observations that are all the same.

        **Raises:** `ImpossibleTokenError` if the start is such a model.
        """
        model = self.pending
        try:
            arrays, counts, log_prior, lost = prepared.iterated(model, pseudocounts)
        except ImpossibleTokenError:
            if not self.objective:
                raise
            return model, -np.inf, 0.0, self.lost
        log_likelihood, log_prior, lost = jax.device_get((counts.log_likelihood, log_prior, lost))
        return eqx.tree_at(lambda m: m.parameters, model, arrays), float(log_likelihood), float(log_prior), lost

    def take(
        self,
        after: Chain,
        log_likelihood: float,
        log_prior: float,
        lost: np.ndarray,
        least_gain: float,
        n_observed: int,
    ) -> bool:
        """Move on to the evaluated model, unless the objective fell by more than rounding explains."""
        value = log_likelihood + log_prior
        gain = value - self.objective[-1] if self.objective else np.inf
        size = max(abs(log_likelihood), abs(log_prior), n_observed)  # of what was added up, each to its own rounding
        fell = gain < -1e3 * float(jnp.finfo(self.model.initial.dtype).eps) * size
        if np.isnan(value) or fell or (self.objective and np.isinf(value)):
            self.result = RESULTS.breakdown
            if self.objective:
                return False  # the model before is the better one
        known = {state for _, state in self.degenerate}
        self.degenerate += [(len(self.objective), int(i)) for i in np.flatnonzero(self.lost) if int(i) not in known]
        self.model, self.pending, self.lost = self.pending, after, lost
        self.log_likelihoods.append(log_likelihood)
        self.objective.append(value)
        if gain < least_gain and self.result is None:
            self.result = RESULTS.successful
        return True


class Record:
    """The restarts of one fit in a run folder, written whole at most every `seconds`."""

    def __init__(self, folder: RunFolder, restarts: Sequence[Restart], seconds: float):
        self.folder, self.restarts, self.seconds = folder, restarts, seconds
        self.written = time.monotonic()

    def restore(self) -> None:
        """Put every restart where the newest checkpoint has it, if there is one."""
        latest = self.folder.latest()
        if latest is None:
            return
        arrays, state = latest
        for i, (restart, kept) in enumerate(zip(self.restarts, state["restarts"], strict=True)):
            for name in ("model", "pending"):
                leaves, structure = jax.tree.flatten(getattr(restart, name).parameters)
                read = [jnp.asarray(arrays[f"{i}.{name}.{j}"]) for j in range(len(leaves))]
                model = eqx.tree_at(lambda m: m.parameters, restart.model, jax.tree.unflatten(structure, read))
                setattr(restart, name, model)
            restart.lost = arrays[f"{i}.lost"]
            restart.log_likelihoods, restart.objective = (arrays[f"{i}.{n}"].tolist() for n in HISTORIES)
            restart.degenerate = [tuple(pair) for pair in kept["degenerate"]]
            restart.result = None if kept["result"] is None else getattr(RESULTS, kept["result"])

    def save(self) -> None:
        """Write the state of every restart."""
        arrays, state = {}, []
        for i, restart in enumerate(self.restarts):
            for name in ("model", "pending"):
                leaves = jax.tree.leaves(getattr(restart, name).parameters)
                arrays |= {f"{i}.{name}.{j}": np.asarray(leaf) for j, leaf in enumerate(leaves)}
            arrays |= {f"{i}.{name}": np.asarray(getattr(restart, name)) for name in ("lost", *HISTORIES)}
            result = None if restart.result is None else name_of(restart.result)
            state.append({"degenerate": restart.degenerate, "result": result})
        self.folder.save(sum(len(restart.objective) for restart in self.restarts), arrays, {"restarts": state})
        self.written = time.monotonic()

    def save_if_due(self) -> None:
        """`save`, unless the last time was less than `seconds` ago."""
        if time.monotonic() - self.written >= self.seconds:
            self.save()


class EMLoop(NamedTuple):
    """EM loop settings: the data, the prior, nats that an iteration must gain, the callbacks and the stopping rule."""

    prepared: CanIterate
    pseudocounts: Pseudocounts
    least_gain: float
    on_iteration: Callable[[int, float, Any], Any] | None
    interrupted: Callable[[], bool]
    asked: threading.Event  # set when the caller asks to stop
    record: Record | None
    shown: bool

    def __call__(self, restarts: Sequence[Restart], limit: int) -> None:
        """Bring some restarts to `limit` iterations each, side by side on the cores of a CPU; the callback is called by
        one at a time."""
        title = f"Baum-Welch, {len(restarts)} restarts" if len(restarts) > 1 else "Baum-Welch"
        turn = threading.Lock()
        with Progress(title, limit * len(restarts), shown=self.shown) as bar:

            def note(restart: Restart) -> None:
                done = sum(max(len(r.objective) - 1, 0) for r in restarts)
                n, value = len(restart.objective) - 1, restart.log_likelihoods[-1]
                bar.update(done, f"{value / self.prepared.data.n_observed:.4f} nats per {self.prepared.noun}")
                if self.on_iteration is not None and self.on_iteration(n, value, restart.model) == "stop":
                    self.asked.set()
                if self.record is not None:
                    self.record.save_if_due()

            def run(restart: Restart) -> None:
                while restart.result is None and len(restart.objective) <= limit:
                    if restart.objective and (self.asked.is_set() or self.interrupted()):
                        break
                    evaluated = restart.advance(self.prepared, self.pseudocounts)
                    with turn:  # so that what is saved belongs together
                        if restart.take(*evaluated, self.least_gain, self.prepared.data.n_observed):
                            note(restart)

            if len(restarts) == 1 or jax.default_backend() != "cpu" or self.prepared.data.devices is not None:
                for restart in restarts:
                    run(restart)
                return
            with concurrent.futures.ThreadPoolExecutor(min(len(restarts), os.cpu_count() or 1)) as pool:
                list(pool.map(run, restarts))

    def elsewhere(self, restarts: list[Restart], limit: int, executor: concurrent.futures.Executor) -> None:
        """Bring the restarts to `limit` iterations by the workers of an executor; each is saved when it is there."""
        unfinished = [i for i, r in enumerate(restarts) if r.result is None and len(r.objective) <= limit]
        settings = self.prepared, self.pseudocounts, self.least_gain, limit

        def take(n: int, climbed: Restart) -> None:
            vars(restarts[unfinished[n]]).update(vars(climbed))
            if self.record is not None:
                self.record.save()

        try:
            sweep(_climbed, [(restarts[i], *settings) for i in unfinished], executor, take)
        except WorkerError as error:
            if self.record is None:
                raise
            kept = f"are in {self.record.folder.path}, where resume=True goes on"
            raise WorkerError(error.finished, error.number, kept) from error


def _climbed(case: tuple) -> Restart:
    """One restart after its iterations, in a worker."""
    restart, prepared, pseudocounts, least_gain, limit = case
    with loop.interruptible() as interrupted:
        asked = threading.Event()
        EMLoop(prepared, pseudocounts, least_gain, None, interrupted, asked, None, False)([restart], limit)
    return restart
