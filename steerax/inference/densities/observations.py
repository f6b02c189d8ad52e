"""Series as a hidden Markov model reads them: checked, and turned into one likelihood for each state and time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._errors import DataError
from ..._results import is_traced
from ...data.convert import converted, one_frame
from ...data.sequences import Sequences
from ...models.emissions.base import AbstractEmission
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import OrderKTransition, as_transition
from ..hmm.kernels.likelihoods import Likelihoods
from .inputs import refuse_missing, refuse_missing_traced
from .lags import refuse_gaps, windows


class SeenChain(eqx.Module):
    """A chain and the likelihoods of some observations: what kernels take for a hidden Markov model, with `z` the numbers
    0, 1, 2, … of the observations as tokens."""

    initial: Float[Array, " d"]
    transition: Float[Array, "d d"] | OrderKTransition
    emission: Likelihoods

    vocabulary = None

    @property
    def arrays(self):
        """As those of a `HiddenMarkovModel`."""
        return self.initial, self.transition, self.emission


def as_observations(
    model: HiddenMarkovModel, data: Any, along_time: bool = True
) -> Float[Array | np.ndarray, "T *batch w"]:
    """The observations, with inputs behind them, in the model's precision, time first, NaN where missing and beyond the end; on the host unless traced.
    With `along_time` false the first axis is one of streams.

    **Raises:** `DataError` for another shape, an infinite value, one outside of the support of the emission, a gap
    inside of a sequence where the emission reads the past, or an input that is missing.
    """
    emission, p = model.emission, model.emission.n_columns
    data = one_frame(converted(data, "observations"), data, model.check_channels)
    several = isinstance(data, Sequences)
    if several:
        model.check_channels(data.columns)
        if data.is_tokens:
            raise DataError(f"The data are tokens; the model reads series of {p} channels.")
    z: Any = data.values if several else data if is_traced(data) else np.asarray(data)
    z = z[:, None] if z.ndim == 1 and p == 1 and not several else z
    real = jnp.issubdtype(z.dtype, jnp.floating) or jnp.issubdtype(z.dtype, jnp.integer)
    if z.ndim != 2 + several or z.shape[-1] != p or z.shape[-2] == 0 or not real:
        behind = f", the last {q} of them known inputs" if (q := emission.n_inputs) else ""
        raise DataError(
            f"The observations are {z.dtype}{list(z.shape)}; the model needs numbers [T {p}]{behind}, T at least 1."
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is named below
        z = z.astype(model.initial.dtype)
    if is_traced(z):
        z = eqx.error_if(z, jnp.isinf(z), "An observation is infinite.")
        z = refuse_missing_traced(z, model.n_channels) if emission.n_inputs else z
        z = jnp.swapaxes(z, 0, 1) if several else z
        return refuse_gaps(z) if emission.lags and along_time else z
    for wrong, said in (
        (np.isinf(z), f"infinite, or too large for {z.dtype}"),
        (emission.outside(z), f"not among {emission.support}"),
    ):
        if wrong.any():
            *sequence, t, c = map(int, np.argwhere(wrong)[0])
            of = f" of sequence {sequence[0]}" if sequence else ""
            raise DataError(f"The observation {z[(*sequence, t, c)]:g} in channel {c} at position {t}{of} is {said}.")
    if q := emission.n_inputs:
        inside = data.inside if several else np.ones(z.shape[:-1], bool)
        refuse_missing(z[..., -q:], inside, None if model.channels is None else model.channels[-q:])
    z = np.swapaxes(z, 0, 1) if several else z
    return refuse_gaps(z) if emission.lags and along_time else z


def lifted(log_likelihoods: Float[Array, "*n b"], transition: Any) -> Float[Array, "*n d"]:
    """Those of a chain of tuples of states, which emit what their newest state does."""
    chain = as_transition(transition)
    times = chain.shape[0] // chain.n_base_states
    return log_likelihoods if times == 1 else jnp.concatenate([log_likelihoods] * times, axis=-1)


def newest(weights: Float[Array, "*n d"], transition: Any) -> Float[Array, "*n b"]:
    """Distributions of the newest state of a tuple."""
    b = as_transition(transition).n_base_states
    return weights if weights.shape[-1] == b else weights.reshape(*weights.shape[:-1], -1, b).sum(-2)


@jax.jit
def seen_chain(model: HiddenMarkovModel, z: Float[Array, "T *batch p"]) -> tuple[SeenChain, Float[Array, "T *batch"]]:
    """The chain with the likelihoods of all observations, and the logarithms of the factors they were divided by."""
    read = windows(z, model.emission.lags)
    found = lifted(model.emission.log_likelihoods(read.reshape(-1, read.shape[-1])), model.transition)
    likelihoods, factors = Likelihoods.of(found)
    return SeenChain(model.initial, model.transition, likelihoods), factors.reshape(z.shape[:-1])


def numbers_of(
    z: Float[Array | np.ndarray, "T *batch w"], emission: AbstractEmission
) -> Int[Array | np.ndarray, "T *batch"]:
    """The numbers of the observations, which stand for tokens; −1 where all channels are missing."""
    here, shape, z = jnp if is_traced(z) else np, z.shape[:-1], z[..., : emission.n_channels]
    numbers = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    return here.where(here.isnan(z).all(-1), np.int32(-1), numbers)
