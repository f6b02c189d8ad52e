"""Learn a linear-Gaussian model of any order from data with gaps."""

import concurrent.futures
import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ..._bounds import COUNT, NOT_NEGATIVE, bounded
from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences, without_mask
from ...maths.keys import as_key
from ...models.linear_gaussian import LinearGaussianModel
from ...runs import loop
from ...runs.executors import sweep
from ...runs.progress import Progress
from ..devices import mesh_of, over_devices, smallest_on_host, spread
from ..kinds import LinearGaussian
from ..results import Fitted
from .filter import run_filter
from .kernels.coordinates import SMALLEST_VARIANCE, Coordinates
from .kernels.detectability import spectral_radius
from .kernels.em import Data, expect, maximisation
from .kernels.quasi_newton import GoesOn, maximise_likelihood, to_model
from .kernels.units import Units, in_units_of_channels
from .select import canonical, n_parameters

WARM_UP = 5  # steps of expectation–maximisation before those along the gradient
_LARGEST_RADIUS = 1 - 1e-4  # of a stable model made by expectation–maximisation
METHODS = ("em", "gradient")


@dataclasses.dataclass
class _Climb:
    """A model of standardised data on its way up: the weights `D` of the inputs, and the log-likelihoods so far, before and
    after each step."""

    model: LinearGaussianModel
    D: Float[Array, "p q"]
    data: Data
    tolerance: float
    coordinates: Coordinates
    log_likelihoods: list[float] = dataclasses.field(default_factory=list)
    result: RESULTS | None = None

    def by_expectation_maximisation(self, steps: int, goes_on: GoesOn) -> None:
        """At most so many steps; the result stays open if they were spent while it was still gaining."""
        least, before, last = self.tolerance * int(self.data.mask.sum()), -np.inf, (self.model, self.D)
        for left in range(steps, -1, -1):
            statistics, likelihood = expect(self.model, self.data, self.D)
            value = float(likelihood)
            if not np.isfinite(value):
                (self.model, self.D), self.result = last, RESULTS.breakdown
                return
            if not goes_on(value, lambda: (self.model, self.D)):
                self.result = RESULTS.max_steps_reached
            elif left and value - before < least:
                self.result = RESULTS.breakdown if before - value > 1e-8 * abs(value) else RESULTS.successful
            if self.result is not None or not left:
                return
            before, last, share = value, (self.model, self.D), 1.0
            self.model, change = _maximise(last[0], statistics, share)
            if not np.isfinite(self.model.transition).all():
                (self.model, self.D), self.result = last, RESULTS.breakdown
                return
            while self.coordinates.stable and spectral_radius(np.asarray(self.model.transition)) > _LARGEST_RADIUS:
                share /= 2
                self.model, change = _maximise(last[0], statistics, share)
            self.D = self.D + change

    def by_gradient(self, steps: int, goes_on: GoesOn) -> None:
        """At most so many quasi-Newton steps."""
        self.model, self.D = to_model(self.coordinates.from_model(self.model, self.D), self.coordinates)
        if not self.log_likelihoods:
            value = float(expect(self.model, self.data, self.D)[1])
            if not np.isfinite(value):
                self.result = RESULTS.breakdown
                return
            goes_on(value, lambda: (self.model, self.D))
        options = self.data, steps, self.tolerance, self.coordinates, goes_on
        self.model, self.D, self.result = maximise_likelihood(self.model, self.D, *options)

    def without_noise(self) -> bool:
        """Whether some combination of the channels is predicted as exactly as the model's noise floor allows."""
        z, mask, _, w = self.data
        run = over_devices(mesh_of(z), run_filter, (None, 0, 0), 0)(self.model, z - w @ self.D.T, mask)
        least = smallest_on_host(lambda U: np.linalg.svd(U, compute_uv=False), run.U)
        return least < 4 * SMALLEST_VARIANCE**0.5


_maximise = jax.jit(maximisation)


@bounded(restarts=COUNT, max_iterations=COUNT, tolerance=NOT_NEGATIVE)
def fit_series(
    kind: LinearGaussian | LinearGaussianModel,
    data: Sequences,
    key: Any = 0,
    *,
    method: str = "gradient",
    max_iterations: int = 200,
    tolerance: float = 1e-6,
    restarts: int = 1,
    on_iteration: Callable[[int, float, LinearGaussianModel], Any] | None = None,
    progress: bool = True,
    executor: concurrent.futures.Executor | None = None,
) -> Fitted:
    """Maximum likelihood: every parameter, any order, gaps and ragged lengths.

    The likelihood rises in every step. It starts from `kind`, if that is a model (its start counts as `"free"`); otherwise from a vector
    autoregression of the data (as many states as channels) or from slow random dynamics. Every channel is brought to mean zero and
    spread one meanwhile, so that units of the data play no part. The model is returned in the basis of `canonical`, since data
    determine a model only up to a change of basis of its state, and belongs to the data less the effect of the inputs: other verbs
    take the data less `w @ D.T`, `D` being `input_weights`, and add it back for the future.

    **Arguments:**

    - `method`: `"em"`, expectation–maximisation, with `start="free"` only; `"gradient"`, a few of its steps and then quasi-Newton
      steps along the exact gradient, which climb flat likelihoods much faster.
    - `max_iterations`; `tolerance`, the gain in nats per observed number below which it stops.
    - `restarts`: how many random starts are followed to their end, the best one kept; other starts are not random.
    - `on_iteration(iteration, log_likelihood, model)`: called after each; the answer `"stop"` ends the fit.
    - `executor`: whose workers follow the starts, to the same numbers (see `sweep`), without `on_iteration`.

    Of stable models, `"em"` shortens the steps that would leave them, and `"gradient"` moves in coordinates that reach all of them
    and no others. Ctrl-C ends the fit with the best model so far. `result` is `max_steps_reached` if it was still gaining,
    `noise_free` if the data are predicted without error (a constant or repeated channel), `breakdown` if a step lowered the
    likelihood by more than rounding or made it infinite; the model is the best finite one.

    **Raises:** `DataError` for tokens, a channel that is never observed, inputs that do not fit, or fewer observed numbers
    than free parameters; `ConfigurationError` for sizes below one or an unknown method; `WorkerError` as `sweep`.
    """
    if method not in METHODS:
        raise ConfigurationError(f"method={method!r} is unknown; use 'em' or 'gradient'.")
    given = kind if isinstance(kind, LinearGaussianModel) else None
    asked = kind if isinstance(kind, LinearGaussian) else LinearGaussian(kind.n_states, kind.order, start="free")
    if method == "em" and asked.start != "free":
        raise ConfigurationError(
            f"method='em' has no step for a {asked.start} start; use method='gradient', or LinearGaussian(…, start='free')."
        )
    if given is not None:
        given.check_channels(data.columns)
    arrays, units, n_free = _standardised(asked, data, None if given is None else given.n_channels)
    if given is None:
        starts = _starts(asked, arrays, as_key(key), restarts)
    else:
        starts = [jax.tree.map(jnp.asarray, units.into(given, np.zeros((given.n_channels, 0))))]
    coordinates = Coordinates(asked.stable or asked.start == "stationary", asked.start)
    climbs = _climbs(starts, arrays, mesh_of(data), tolerance, coordinates)
    if executor is None:
        _follow(climbs, units, method, max_iterations, on_iteration, progress)
    else:
        climbs = sweep(_followed, [(climb, units, method, max_iterations) for climb in climbs], executor)
    return _best(climbs, units, n_free, data.columns or (None if given is None else given.channels))


def _climbs(starts: list, arrays: Data, mesh: Any, tolerance: float, coordinates: Coordinates) -> list[_Climb]:
    """Where the climbs begin, with the data in place."""
    placed = Data(*(spread(mesh, a, 0, fill=0) for a in arrays))
    return [_Climb(model, D, placed, tolerance, coordinates) for model, D in starts]


def _best(climbs: list[_Climb], units: Units, n_free: int, channels: tuple[str, ...] | None) -> Fitted:
    """The result in the units of the data."""
    climbs = [climb for climb in climbs if climb.result is not None and climb.log_likelihoods]
    if not climbs:
        raise DataError("The likelihood of the start is not finite; start from another model or use fewer states.")
    compared = np.array([climb.log_likelihoods[-1] for climb in climbs])
    best = climbs[int(np.argmax(compared))]
    assert best.result is not None
    ended = best.result if best.result == RESULTS.interrupted or not best.without_noise() else RESULTS.noise_free
    model, D = units.back(canonical(best.model), np.asarray(best.D, float))
    model, nats = in_units_of_channels(model, units.size), np.asarray(best.log_likelihoods)
    model = type(model)(**{**vars(model), "channels": channels})
    return Fitted(model, nats, nats, n_free, int(best.data.mask.sum()), ended, restarts=compared, input_weights=D)


def _follow(
    climbs: list[_Climb], units: Units, method: str, max_iterations: int, on_iteration: Any, progress: bool
) -> None:
    """Every climb to its end, one after the other, or until the caller or Ctrl-C ends the fit. Log-likelihoods and models
    are told in the units of the data."""
    warm_up, asked = max_iterations if method == "em" else min(WARM_UP, max_iterations), threading.Event()
    total, counts = max_iterations * len(climbs), np.asarray(climbs[0].data.mask.sum((0, 1)))
    observed, shift = int(counts.sum()), units.log_size(counts)
    with loop.interruptible() as interrupted, Progress("Maximum likelihood", total, shown=progress) as bar:

        def note(climb: _Climb, value: float, model: Callable[[], tuple[LinearGaussianModel, Array]]) -> bool:
            n, value = len(climb.log_likelihoods), value - shift
            climb.log_likelihoods.append(value)
            done = sum(max(len(c.log_likelihoods) - 1, 0) for c in climbs)
            bar.update(done, f"{value / observed:.4f} nats per number")
            if n and on_iteration is not None:
                told, D = model()
                if on_iteration(n, value, units.back(told, np.asarray(D, float))[0]) == "stop":
                    asked.set()
            return not (asked.is_set() or interrupted())

        for climb in climbs:
            if climb.coordinates.start != "free":  # its first steps keep the start, so they do not count
                climb.by_expectation_maximisation(WARM_UP, lambda *_: not interrupted())
                climb.result = None
                climb.by_gradient(max_iterations, functools.partial(note, climb))
            else:
                climb.by_expectation_maximisation(warm_up, functools.partial(note, climb))
                if climb.result is None and warm_up < max_iterations:
                    climb.by_gradient(max_iterations - warm_up, functools.partial(note, climb))
            if climb.result is None:
                climb.result = RESULTS.max_steps_reached
            if interrupted():
                climb.result = RESULTS.interrupted
            if asked.is_set() or interrupted():
                return


def _followed(case: tuple) -> _Climb:
    """One climb at its end, in a worker."""
    climb, units, method, max_iterations = case
    _follow([climb], units, method, max_iterations, None, False)
    return climb


def _standardised(kind: LinearGaussian, data: Sequences, n_channels: int | None) -> tuple[Data, Units, int]:
    """The data, on the host, in units in which every channel has mean zero and spread one, these units, and how many
    parameters are free."""
    if data.is_tokens:
        raise DataError("A linear-Gaussian model needs observations (floats); these data are tokens.")
    z, inside = np.asarray(data.values, float), np.asarray(data.inside)
    if n_channels not in (None, z.shape[2]):
        raise DataError(f"The model has {n_channels} channels; the data have {z.shape[2]}.")
    mask = ~np.isnan(z) & inside[..., None]
    observed = mask.reshape(-1, mask.shape[-1]).any(axis=0)
    if not np.all(observed):
        missing = int(np.argmin(observed))
        raise DataError(f"Channel {missing} has no observed number, so nothing can be said of it; leave it out.")
    w = np.zeros((*mask.shape[:2], 0)) if kind.inputs is None else np.asarray(without_mask(kind.inputs), float)
    w = w[None] if w.ndim == 2 else w
    if w.ndim != 3 or w.shape[:2] != mask.shape[:2] or not np.isfinite(w[inside]).all():
        raise DataError(
            f"The inputs have shape {w.shape}; {mask.shape[0]} sequences of up to {mask.shape[1]} steps need "
            f"finite numbers [{mask.shape[0]} {mask.shape[1]} q] ([T q] for one sequence)."
        )
    d, p, start = kind.n_states, data.values.shape[-1], 0
    if kind.start == "free":
        start = d + (d * (d + 1) // 2 if inside.any(1).sum() > d else 0)
    n_free = n_parameters(kind.order, d, p, w.shape[-1], start)
    if mask.sum() < n_free:
        raise DataError(
            f"There are {int(mask.sum())} observed numbers for {n_free} free parameters ({d} states, order "
            f"{kind.order}, {p} channels); use fewer states, a lower order or more data."
        )
    units, dtype = Units.of(z, mask, w, inside), jnp.result_type(float)
    z = _on_grid(np.where(mask, (z - units.centre) / units.size, 0.0))
    w = _on_grid(np.where(inside[..., None], (w - units.input_centre) / units.input_size, 0.0))
    return Data(z.astype(dtype), mask, inside, w.astype(dtype)), units, n_free


def _on_grid(a: np.ndarray) -> np.ndarray:
    """Rounded to 36 binary places: the same data in other units then give the same numbers to the last bit, and the same
    fit."""
    return np.round(a * 2.0**36) / 2.0**36


def _starts(
    kind: LinearGaussian, data: Data, key: Key[Array, ""], restarts: int
) -> list[tuple[LinearGaussianModel, Float[Array, "p q"]]]:
    """Models and weights of the inputs to start from."""
    random = kind.n_states != data.z.shape[2]
    keys = [key, *(jax.random.fold_in(key, i) for i in range(2, restarts + 1))] if random else [key]
    starts = [_start(data, kind.n_states, kind.order, each) for each in keys]
    stable = kind.stable or kind.start == "stationary"
    return [(_stable(model), D) if stable else (model, D) for model, D in starts]


def _stable(model: LinearGaussianModel) -> LinearGaussianModel:
    """The model with its roots multiplied so that none is larger than 0.98."""
    factor = 0.98 / max(spectral_radius(np.asarray(model.transition)), 0.98)
    powers = factor ** jnp.arange(1, model.order + 1, dtype=model.transition.dtype)
    return eqx.tree_at(lambda m: m.transition, model, model.transition * powers[:, None, None])


def _start(data: Data, d: int, order: int, key: Key[Array, ""]) -> tuple[LinearGaussianModel, Float[Array, "p q"]]:
    """A vector autoregression on interpolated data if `d` is the number of channels, else slow random dynamics; and
    the weights of the inputs by least squares."""
    z, mask, inside, w = (np.asarray(a) for a in data)
    p = z.shape[2]
    D = _least_squares(z, mask, w)
    z = (z - w @ D.T) * mask
    mean = z.sum((0, 1)) / np.maximum(mask.sum((0, 1)), 1)
    parts = [_interpolated(s - mean, seen)[: n.sum()] for s, seen, n in zip(z, mask, inside, strict=True)]
    stacked = np.concatenate(parts)
    covariance = stacked.T @ stacked / len(stacked) + 1e-6 * np.eye(p)
    if d == p:
        taps, Q = _autoregression(parts, order, covariance)
        H, S_0 = np.eye(p), covariance
    else:
        H = np.asarray(jax.random.normal(key, (p, d))) / np.sqrt(d)
        taps = np.zeros((order, d, d))
        taps[0] = 0.9 * np.linalg.qr(np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (d, d))))[0]
        scale = np.trace(covariance) / p
        Q, S_0 = 0.2 * scale * np.eye(d), scale * np.eye(d)
    R = 0.5 * Q if d == p else 0.5 * covariance
    model = LinearGaussianModel(np.zeros(d), S_0, taps, H, Q if d != p else 0.5 * Q, R, mean)
    return jax.tree.map(lambda a: jnp.asarray(a, data.z.dtype), (model, D))


def _least_squares(
    z: Float[np.ndarray, "B T p"], mask: Bool[np.ndarray, "B T p"], w: Float[np.ndarray, "B T q"]
) -> Float[np.ndarray, "p q"]:
    """Slopes of each channel on the inputs, beside a constant."""
    a = np.concatenate([w, np.ones((*w.shape[:2], 1))], axis=2)
    seen = np.moveaxis(mask, 2, 0)
    fits = [np.linalg.lstsq(a[s], c[s])[0][:-1] for c, s in zip(np.moveaxis(z, 2, 0), seen, strict=True)]
    return np.stack(fits)


def _interpolated(series: Float[np.ndarray, "T p"], seen: Bool[np.ndarray, "T p"]) -> Float[np.ndarray, "T p"]:
    """Gaps filled by straight lines."""
    t = np.arange(len(series))
    columns = [np.interp(t, t[s], c[s]) if s.any() else np.zeros(len(t)) for c, s in zip(series.T, seen.T, strict=True)]
    return np.stack(columns, axis=1)


def _autoregression(
    parts: list[Float[np.ndarray, "_ p"]], order: int, covariance: Float[np.ndarray, "p p"]
) -> tuple[Float[np.ndarray, "m p p"], Float[np.ndarray, "p p"]]:
    """Ridge regression of each value on its `order` predecessors (zeros before the start, as in the model): taps and the
    covariance of the residuals."""
    p = parts[0].shape[1]
    rows, goals = [], []
    for part in parts:
        padded = np.concatenate([np.zeros((order, p)), part])
        rows.append(np.concatenate([padded[order - j - 1 : len(padded) - j - 1] for j in range(order)], axis=1)[1:])
        goals.append(part[1:])
    a, b = np.concatenate(rows), np.concatenate(goals)
    ridge = 1e-3 * np.trace(covariance) / p * np.eye(order * p)
    B = np.linalg.solve(a.T @ a + ridge, a.T @ b).T
    left = b - a @ B.T
    return np.moveaxis(B.reshape(p, order, p), 1, 0), left.T @ left / len(left) + 1e-9 * covariance
