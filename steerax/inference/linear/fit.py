"""Learn a linear-Gaussian model of any order from data with gaps."""

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

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...maths.keys import as_key
from ...models.linear_gaussian import LinearGaussianModel
from ...runs import loop
from ...runs.progress import Progress
from ..kinds import LinearGaussian
from ..results import Fitted
from .kernels.coordinates import Free, Stable
from .kernels.detectability import spectral_radius
from .kernels.em import Data, expectation, maximisation
from .kernels.quasi_newton import GoesOn, maximise_likelihood
from .select import canonical, n_parameters

WARM_UP = 5  # steps of expectation–maximisation before those along the gradient
_LARGEST_RADIUS = 1 - 1e-4  # of a model fitted with stable=True
METHODS = ("em", "gradient")


@dataclasses.dataclass
class _Climb:
    """A model on its way up: the weights `D` of the inputs, and the log-likelihoods so far, before and after each step."""

    model: LinearGaussianModel
    D: Float[Array, "p q"]
    data: Data
    tolerance: float
    stable: bool
    log_likelihoods: list[float] = dataclasses.field(default_factory=list)
    result: RESULTS | None = None

    def by_expectation_maximisation(self, steps: int, goes_on: GoesOn) -> None:
        """At most so many steps; the result stays open if they were spent while it was still gaining."""
        least, before = self.tolerance * int(self.data.mask.sum()), -np.inf
        for left in range(steps, -1, -1):
            statistics, likelihood = _expect(self.model, self.data, self.D)
            value = float(likelihood)
            if not goes_on(value, lambda: self.model):
                self.result = RESULTS.max_steps_reached
            elif left and not np.isfinite(value):
                self.result = RESULTS.breakdown
            elif left and value - before < least:
                self.result = RESULTS.breakdown if before - value > 1e-8 * abs(value) else RESULTS.successful
            if self.result is not None or not left:
                return
            before, previous, share = value, self.model, 1.0
            self.model, change = _maximise(previous, statistics, share)
            while self.stable and spectral_radius(np.asarray(self.model.transition)) > _LARGEST_RADIUS:
                share /= 2
                self.model, change = _maximise(previous, statistics, share)
            self.D = self.D + change

    def by_gradient(self, steps: int, goes_on: GoesOn) -> None:
        """At most so many quasi-Newton steps."""
        options = self.data, steps, self.tolerance, Stable() if self.stable else Free(), goes_on
        self.model, self.D, self.result = maximise_likelihood(self.model, self.D, *options)


_expect = jax.jit(expectation)
_maximise = jax.jit(maximisation)


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
) -> Fitted:
    """Maximum likelihood: every parameter, any order, gaps and ragged lengths.

    The likelihood rises in every step. It starts from `kind`, if that is a model; otherwise from a vector autoregression
    of the data (as many states as channels) or from slow random dynamics. It is returned in the basis of `canonical`,
    since data determine a model only up to a change of basis of its state, and belongs to the data less the effect of
    the inputs: other verbs take the data less `w @ D.T`, `D` being `input_weights`, and add it back for the future.

    **Arguments:**

    - `method`: `"em"`, expectation–maximisation; `"gradient"`, a few of its steps and then quasi-Newton steps along the
      exact gradient, which climb flat likelihoods much faster.
    - `max_iterations`; `tolerance`, the gain in nats per observed number below which it stops.
    - `restarts`: how many random starts are followed to their end, the best one kept; other starts are not random.
    - `on_iteration(iteration, log_likelihood, model)`: called after each; the answer `"stop"` ends the fit.

    With `stable=True` of the kind, `"em"` shortens the steps that would leave the stable models, and `"gradient"` moves in
    coordinates that reach all stable models and no others. Ctrl-C ends the fit with the best model so far.

    **Returns:** `Fitted`; `result` is `max_steps_reached` if it was still gaining, `breakdown` if a step lowered the
    likelihood by more than rounding or made it infinite (a variance went to zero).

    **Raises:** `DataError` for tokens, inputs that do not fit, or fewer than `order + 2` observations;
    `ConfigurationError` for sizes below one or an unknown method.
    """
    if method not in METHODS:
        raise ConfigurationError(f"method={method!r} is unknown; use 'em' or 'gradient'.")
    if min(max_iterations, restarts) < 1:
        raise ConfigurationError(f"max_iterations={max_iterations} and restarts={restarts} must be at least 1.")
    arrays, starts = _starts(kind, data, as_key(key), restarts)
    stable = isinstance(kind, LinearGaussian) and kind.stable
    climbs = [_Climb(model, D, arrays, tolerance, stable) for model, D in starts]
    _follow(climbs, method, max_iterations, on_iteration, progress)
    climbs = [climb for climb in climbs if climb.result is not None]
    compared = np.array([climb.log_likelihoods[-1] for climb in climbs])
    best = climbs[int(np.argmax(np.nan_to_num(compared, nan=-np.inf)))]
    model, nats, D = canonical(best.model), np.asarray(best.log_likelihoods), np.asarray(best.D)
    assert best.result is not None
    sizes = n_parameters(model) + D.size, int(arrays.mask.sum())
    return Fitted(model, nats, nats, *sizes, best.result, restarts=compared, input_weights=D)


def _follow(climbs: list[_Climb], method: str, max_iterations: int, on_iteration: Any, progress: bool) -> None:
    """Every climb to its end, one after the other, or until the caller or Ctrl-C ends the fit."""
    warm_up, asked = max_iterations if method == "em" else min(WARM_UP, max_iterations), threading.Event()
    total, observed = max_iterations * len(climbs), int(climbs[0].data.mask.sum())
    with loop.interruptible() as interrupted, Progress("Maximum likelihood", total, shown=progress) as bar:

        def note(climb: _Climb, value: float, model: Callable[[], LinearGaussianModel]) -> bool:
            n = len(climb.log_likelihoods)
            climb.log_likelihoods.append(value)
            done = sum(max(len(c.log_likelihoods) - 1, 0) for c in climbs)
            bar.update(done, f"{value / observed:.4f} nats per number")
            if n and on_iteration is not None and on_iteration(n, value, model()) == "stop":
                asked.set()
            return not (asked.is_set() or interrupted())

        for climb in climbs:
            climb.by_expectation_maximisation(warm_up, functools.partial(note, climb))
            if climb.result is None and warm_up < max_iterations:
                climb.by_gradient(max_iterations - warm_up, functools.partial(note, climb))
            if climb.result is None:
                climb.result = RESULTS.max_steps_reached
            if interrupted():
                climb.result = RESULTS.interrupted
            if asked.is_set() or interrupted():
                return


def _arrays(data: Sequences, inputs: Any, order: int) -> Data:
    if data.is_tokens:
        raise DataError("A linear-Gaussian model needs observations (floats); these data are tokens.")
    mask = np.isfinite(data.values)
    if mask.sum() < order + 2:
        raise DataError(f"There are {int(mask.sum())} observed numbers; order {order} needs at least {order + 2}.")
    w = np.zeros((*mask.shape[:2], 0)) if inputs is None else np.asarray(inputs, float)
    w = w[None] if w.ndim == 2 else w
    if w.ndim != 3 or w.shape[:2] != mask.shape[:2] or not np.isfinite(w[np.asarray(data.inside)]).all():
        raise DataError(
            f"The inputs have shape {w.shape}; {mask.shape[0]} sequences of up to {mask.shape[1]} steps need "
            f"finite numbers [{mask.shape[0]} {mask.shape[1]} q] ([T q] for one sequence)."
        )
    dtype = jnp.result_type(float)
    z, w = (
        jnp.asarray(np.where(keep, a, 0.0), dtype) for keep, a in ((mask, data.values), (data.inside[..., None], w))
    )
    return Data(z, jnp.asarray(mask), jnp.asarray(data.inside), w)


def _starts(
    kind: LinearGaussian | LinearGaussianModel, data: Sequences, key: Key[Array, ""], restarts: int
) -> tuple[Data, list[tuple[LinearGaussianModel, Float[Array, "p q"]]]]:
    """The data as arrays, and the starts: models and weights of the inputs."""
    if isinstance(kind, LinearGaussianModel):
        none = jnp.zeros((kind.n_channels, 0), kind.observation.dtype)
        return _arrays(data, None, kind.order), [(kind, none)]
    arrays = _arrays(data, kind.inputs, kind.order)
    random = kind.n_states != arrays.z.shape[2]
    keys = [key, *(jax.random.fold_in(key, i) for i in range(2, restarts + 1))] if random else [key]
    starts = [_start(arrays, kind.n_states, kind.order, each) for each in keys]
    return arrays, [(_stable(model), D) if kind.stable else (model, D) for model, D in starts]


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
    covariance = np.cov(stacked.T).reshape(p, p) + 1e-12 * np.eye(p)
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
    return LinearGaussianModel(np.zeros(d), S_0, taps, H, Q if d != p else 0.5 * Q, R, mean), jnp.asarray(D)


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
