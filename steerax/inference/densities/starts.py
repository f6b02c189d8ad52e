"""Where the search for a hidden Markov model of numbers begins."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ...data.sequences import Sequences
from ...maths.keys import generator
from ...models import emissions
from ...models.emissions.base import Family, Prior
from ...models.emissions.composed import spread_out
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition
from ..kinds import EMISSIONS, HMM
from .lags import windows

_WINDOW = 11  # observations about each, whose level and spread tell regimes apart
_ROUNDS = 10  # of the assignment of observations to the nearest centre
_AWAY = 0.1  # weight of an observation that the states share


def family_of(kind: HMM) -> Family:
    """What a kind emits."""
    if isinstance(kind.emission, str):
        name, options = EMISSIONS[kind.emission]
        return getattr(emissions, name).kind(**options)
    return kind.emission


def random_start(key: Any, data: Sequences, kind: HMM, prior: Prior, regimes: bool) -> HiddenMarkovModel:
    """A start whose states emit what observations that are alike have in common.

    Observations are grouped about centres that lie apart: by their values, or with `regimes` by the level and the spread of the
    eleven about each, with states that mostly stay; transitions are random. The initial distribution is uniform.
    """
    rng, d = generator(key), kind.n_states
    z = data.values[data.inside]
    points = _standardised(z[:, : z.shape[1] - data.n_inputs])
    if regimes:
        points = np.concatenate([_in_windows(part) for part in np.split(points, np.cumsum(data.lengths)[:-1])])
    label = _grouped(points, d, rng)
    weights = (1 - _AWAY) * np.eye(d)[label] + _AWAY / d
    dtype = prior.centre.dtype
    family = family_of(kind)
    read = np.swapaxes(windows(np.swapaxes(data.values, 0, 1), family.lags), 0, 1)[data.inside]
    emission = family.started(weights.astype(dtype), np.asarray(read, dtype), prior, rng)
    A = rng.dirichlet(np.ones(d), size=(d,) * kind.order)
    A = 0.05 * A + 0.95 * np.eye(d) if regimes else A
    n = d**kind.order
    transition = A if kind.order == 1 else OrderKTransition(jnp.asarray(A, dtype))
    return HiddenMarkovModel(np.full(n, 1 / n, dtype), transition, emission, channels=data.columns)


def _standardised(z: Float[np.ndarray, "N p"]) -> Float[np.ndarray, "N p"]:
    """Distances from the median in units of the middle half of the data, long ones shortened (arsinh), no further than the outermost
    hundredths: a group should not be what lies far out."""
    low, quarter, middle, three, high = np.nanquantile(z, [0.01, 0.25, 0.5, 0.75, 0.99], axis=0)
    filled = np.clip(np.where(np.isnan(z), middle, z), low, high) - middle
    return np.arcsinh(filled / np.where(three > quarter, three - quarter, np.where(high > low, high - low, 1)))


def _in_windows(points: Float[np.ndarray, "T p"]) -> Float[np.ndarray, "T two_p"]:
    """Level and logarithm of the spread of the observations about each."""
    if len(points) == 0:
        return np.zeros((0, 2 * points.shape[1]))
    about = np.minimum(_WINDOW, len(points))
    number = np.convolve(np.ones(len(points)), np.ones(about), "same")
    mean = lambda values: np.stack([np.convolve(v, np.ones(about), "same") / number for v in values.T], axis=-1)
    level = mean(points)
    return np.concatenate([level, 0.5 * np.log(mean(points**2) - level**2 + 1e-6)], axis=1)


def _grouped(points: Float[np.ndarray, "N p"], d: int, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """The nearest of `d` centres, which are then moved to the means of what is nearest to them, some rounds long."""
    sample = points[rng.choice(len(points), min(len(points), 20_000), replace=False)]
    centres = spread_out(sample, d, rng, np.full(len(sample), 1 / len(sample)))
    for _ in range(_ROUNDS):
        label = _nearest(sample, centres)
        centres = np.stack([sample[label == x].mean(0) if (label == x).any() else centres[x] for x in range(d)])
    return _nearest(points, centres)


def _nearest(points: Float[np.ndarray, "N p"], centres: Float[np.ndarray, "d p"]) -> Int[np.ndarray, " N"]:
    return ((centres**2).sum(1) - 2 * points @ centres.T).argmin(1)
