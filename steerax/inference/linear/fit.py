"""Learn a linear-Gaussian model of any order from data with gaps."""

from collections.abc import Callable
from typing import Any, NamedTuple

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
LARGEST_RADIUS = 1 - 1e-4  # of a model fitted with stable=True
METHODS = ("em", "gradient")


class _Options(NamedTuple):
    method: str
    max_iterations: int
    tolerance: float
    stable: bool


class _Climb(NamedTuple):
    """A model on its way up, the weights of the inputs, the log-likelihoods so far, and how it ended."""

    model: LinearGaussianModel
    D: Float[Array, "p q"]
    log_likelihoods: list[float]
    result: RESULTS


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
    options = _Options(method, max_iterations, tolerance, getattr(kind, "stable", False))
    climbs = _climb_all(starts, arrays, options, on_iteration, progress)
    best = max(climbs, key=lambda climb: np.nan_to_num(climb.log_likelihoods[-1], nan=-np.inf))
    model, nats = canonical(best.model), np.asarray(best.log_likelihoods)
    free, D = n_parameters(model) + best.D.size, np.asarray(best.D)
    compared = np.array([climb.log_likelihoods[-1] for climb in climbs])
    observed = int(arrays.mask.sum())
    return Fitted(model, nats, nats, free, observed, best.result, restarts=compared, input_weights=D)


def _climb_all(
    starts: list[tuple[LinearGaussianModel, Array]], data: Data, options: _Options, on_iteration: Any, progress: bool
) -> list[_Climb]:
    """Every start followed to its end, or until the caller or Ctrl-C ends the fit."""
    observed, climbs, asked = int(data.mask.sum()), [], False
    title, total = "Maximum likelihood", options.max_iterations * len(starts)
    with loop.interruptible() as interrupted, Progress(title, total, shown=progress) as bar:
        for start in starts:
            history = []

            def goes_on(value: float, model: Callable[[], LinearGaussianModel], history: list[float] = history) -> bool:
                nonlocal asked
                history.append(value)
                n = len(history) - 1
                bar.update(len(climbs) * options.max_iterations + n, f"{value / observed:.4f} nats per number")
                if n and on_iteration is not None:
                    asked = asked or on_iteration(n, value, model()) == "stop"
                return not (asked or interrupted())

            climb = _climb(*start, data, options, goes_on)
            climbs.append(_Climb(*climb[:2], history, RESULTS.interrupted if interrupted() else climb[2]))
            if asked or interrupted():
                break
    return climbs


def _climb(
    model: LinearGaussianModel, D: Float[Array, "p q"], data: Data, options: _Options, goes_on: GoesOn
) -> tuple[LinearGaussianModel, Float[Array, "p q"], RESULTS]:
    """Expectation–maximisation, then (if asked) quasi-Newton steps: `(model, D, result)`."""
    steps = options.max_iterations if options.method == "em" else min(WARM_UP, options.max_iterations)
    model, D, result = _expectation_maximisation(model, D, data, steps, options, goes_on)
    rest = options.max_iterations - steps
    if result is not None or rest == 0:
        return model, D, RESULTS.max_steps_reached if result is None else result
    coordinates = Stable() if options.stable else Free()
    return maximise_likelihood(model, D, data, rest, options.tolerance, coordinates, goes_on)


def _expectation_maximisation(
    model: LinearGaussianModel, D: Float[Array, "p q"], data: Data, steps: int, options: _Options, goes_on: GoesOn
) -> tuple[LinearGaussianModel, Float[Array, "p q"], RESULTS | None]:
    """`(model, D, result)`, the result `None` if the steps were spent while it was still gaining."""
    least, before, step = options.tolerance * int(data.mask.sum()), -np.inf, 0
    while True:
        statistics, likelihood = _expect(model, data, D)
        value = float(likelihood)
        wanted = goes_on(value, lambda model=model: model)
        if step == steps:
            return model, D, None if wanted else RESULTS.max_steps_reached
        if not np.isfinite(value):
            return model, D, RESULTS.breakdown
        if value - before < least:
            return model, D, RESULTS.breakdown if before - value > 1e-8 * abs(value) else RESULTS.successful
        if not wanted:
            return model, D, RESULTS.max_steps_reached
        before, previous, share, step = value, model, 1.0, step + 1
        model, change = _maximise(previous, statistics, share)
        while options.stable and spectral_radius(np.asarray(model.transition)) > LARGEST_RADIUS:
            share /= 2
            model, change = _maximise(previous, statistics, share)
        D = D + change


_expect = jax.jit(expectation)
_maximise = jax.jit(maximisation)


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
