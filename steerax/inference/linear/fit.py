"""Learn a linear-Gaussian model of any order from data with gaps."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ConfigurationError, DataError
from ..._results import RESULTS
from ...data.sequences import Sequences
from ...maths.keys import as_key
from ...models.linear_gaussian import LinearGaussianModel
from ..kinds import LinearGaussian
from ..results import Fitted
from .kernels.detectability import spectral_radius
from .kernels.em import Data, expectation, maximisation
from .kernels.quasi_newton import Free, Stable, maximise_likelihood
from .select import canonical, n_parameters

WARM_UP = 5  # steps of expectation–maximisation before those along the gradient
LARGEST_RADIUS = 1 - 1e-4  # of a model fitted with stable=True
METHODS = ("em", "gradient")


def fit_series(
    kind: LinearGaussian | LinearGaussianModel,
    data: Sequences,
    key: Any = 0,
    *,
    method: str = "gradient",
    max_iterations: int = 200,
    tolerance: float = 1e-6,
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

    With `stable=True` of the kind, `"em"` shortens the steps that would leave the stable models, and `"gradient"` moves in
    coordinates that reach all stable models and no others.

    **Returns:** `Fitted`; `result` is `max_steps_reached` if it was still gaining, `breakdown` if a step lowered the
    likelihood by more than rounding or made it infinite (a variance went to zero).

    **Raises:** `DataError` for tokens, inputs that do not fit, or fewer than `order + 2` observations;
    `ConfigurationError` for sizes below one or an unknown method.
    """
    if method not in METHODS:
        raise ConfigurationError(f"method={method!r} is unknown; use 'em' or 'gradient'.")
    if max_iterations < 1:
        raise ConfigurationError(f"max_iterations must be at least 1, not {max_iterations}.")
    if isinstance(kind, LinearGaussianModel):
        arrays, stable = _checked(data, None, kind.order), False
        model, D = kind, jnp.zeros((kind.n_channels, 0), kind.observation.dtype)
    else:
        arrays, stable = _checked(data, kind.inputs, kind.order), kind.stable
        model, D = _start(arrays, kind.n_states, kind.order, as_key(key))
    if stable:
        radius = spectral_radius(np.asarray(model.transition))
        model = eqx.tree_at(lambda m: m.transition, model, _shrunk(model.transition, 0.98 / max(radius, 0.98)))
    steps = max_iterations if method == "em" else min(WARM_UP, max_iterations)
    model, D, history, result = _climb(model, D, arrays, steps, tolerance, stable)
    if method == "gradient" and result == RESULTS.max_steps_reached and max_iterations > steps:
        coordinates = Stable() if stable else Free()
        model, D, more, result = maximise_likelihood(model, D, arrays, max_iterations - steps, tolerance, coordinates)
        history += more
    model, nats = canonical(model), np.asarray(history)
    free, observed = n_parameters(model) + D.size, int(arrays.mask.sum())
    return Fitted(model, nats, nats, free, observed, result, input_weights=np.asarray(D))


def _climb(
    model: LinearGaussianModel, D: Float[Array, "p q"], data: Data, max_iterations: int, tolerance: float, stable: bool
):
    """Expectation–maximisation: `(model, D, log-likelihoods, result)`."""
    observed, history = int(data.mask.sum()), []
    for _ in range(max_iterations):
        statistics, likelihood = _expect(model, data, D)
        history.append(float(likelihood))
        if not np.isfinite(history[-1]):
            return model, D, history, RESULTS.breakdown
        if len(history) > 1 and history[-1] - history[-2] < tolerance * observed:
            fell = history[-2] - history[-1] > 1e-8 * abs(history[-1])
            return model, D, history, RESULTS.breakdown if fell else RESULTS.successful
        previous, (model, change) = model, _maximise(model, statistics, 1.0)
        share = 1.0
        while stable and spectral_radius(np.asarray(model.transition)) > LARGEST_RADIUS:
            share /= 2
            model, change = _maximise(previous, statistics, share)
        D = D + change
    history.append(float(_expect(model, data, D)[1]))
    return model, D, history, RESULTS.max_steps_reached


_expect = jax.jit(expectation)
_maximise = jax.jit(maximisation)


def _checked(data: Sequences, inputs: Any, order: int) -> Data:
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


def _shrunk(taps, factor):
    """Taps whose roots are all multiplied by the factor."""
    return taps * factor ** jnp.arange(1, len(taps) + 1, dtype=taps.dtype)[:, None, None]


def _start(data: Data, d, order, key) -> tuple[LinearGaussianModel, Array]:
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


def _least_squares(z, mask, w) -> np.ndarray:
    """Slopes of each channel on the inputs and a constant, `[p q]`."""
    a = np.concatenate([w, np.ones((*w.shape[:2], 1))], axis=2)
    seen = np.moveaxis(mask, 2, 0)
    fits = [np.linalg.lstsq(a[s], c[s])[0][:-1] for c, s in zip(np.moveaxis(z, 2, 0), seen, strict=True)]
    return np.stack(fits)


def _interpolated(series, seen):
    t = np.arange(len(series))
    columns = [np.interp(t, t[s], c[s]) if s.any() else np.zeros(len(t)) for c, s in zip(series.T, seen.T, strict=True)]
    return np.stack(columns, axis=1)


def _autoregression(parts, order, covariance):
    """Ridge regression of each value on its `order` predecessors, zeros before the start as in the model."""
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
