"""The forward filter: the distribution of the hidden state and of the next observation, given those so far."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._errors import ImpossibleTokenError
from ..._results import RESULTS, is_traced
from ...data.scores import TokenScores
from ...data.sequences import Sequences
from ...models.hmm import HiddenMarkovModel
from ..devices import mesh_of, on_host
from ..hmm.filter import FilteredTokens, filter_codes
from ..hmm.kernels.scaled import filter_traced
from ..results import Filtered
from ..tokens import batch_first, check_choice, filtered_over, scored
from .inputs import with_inputs
from .lags import given_of, windows
from .observations import as_observations, newest, numbers_of, seen_chain
from .predictive import Predictive


class FilteredObservations(Filtered):
    r"""`Filtered` for a hidden Markov model of numbers: `predicted[t]` is $\pi_t$, the distribution of $X_t$ given $Z_{<t}$.

    **Attributes:** those of `Filtered`; `run`, the pass over the likelihoods; `factors` `[T *batch]`, by whose exponentials they
    were divided; `given` `[T+1 *batch k]`, what the emission reads besides an
    observation: those before, newest first, or the inputs of its time.
    """

    model: HiddenMarkovModel
    run: FilteredTokens
    factors: Float[Array | np.ndarray, "T *batch"]
    lengths: np.ndarray | None = None
    given: Float[Array, "T1 *batch k"] | None = None

    @property
    def tokens(self) -> Any:
        """Numbers of the observations `[T *batch]`, −1 for a missing or impossible one."""
        return self.run.tokens

    @property
    def predicted(self) -> Float[Array, "*batch T1 d"]:
        return self.run.predicted

    @property
    def filtered(self) -> Float[Array, "*batch T d"]:
        return self.run.filtered

    @property
    def log_likelihood(self) -> Float[Array | np.ndarray, "*batch"]:
        total = self.run.log_likelihood + self.factors.sum(0)
        return total if is_traced(total) else np.asarray(total)

    @property
    def log_likelihoods(self) -> Float[Array, "*batch T"]:
        possible = jnp.isfinite(jnp.asarray(self.run.log_q))
        return self.run.log_likelihoods + batch_first(jnp.where(possible, self.factors, 0), 1)

    @property
    def result(self) -> RESULTS:
        return self.run.result

    def next_all(self) -> Predictive:
        r"""$p(Z_t\mid Z_{<t})=\sum_x\pi_t(x)\,p(\cdot\mid x)$ for every $t=0\dots T$. Of an emission that reads
        the past it is unknown (NaN) where some of that is: for the first $L$ observations, and beyond the one that comes next. Of one that
        reads inputs it is unknown where these are, at $T$: see `Predictive.for_inputs`."""
        given = None if self.given is None else batch_first(self.given)
        return Predictive(newest(self.predicted, self.model.transition), self.model.emission, given)


def filter_series(hmm: HiddenMarkovModel, data: Any, on_impossible: str = "raise") -> FilteredObservations:
    r"""The filter of a hidden Markov model of numbers along one series `[T p]` or a `Sequences`; NaN is missing.

    $$\pi_0=\mu,\qquad \pi_{t+1}=\frac{A^\top(\pi_t\odot\ell_t)}{q_t},\qquad \ell_t(x)=p(z_t\mid x),\quad q_t=\pi_t^\top\ell_t,\qquad
    \log p(z)=\sum_t\log q_t .$$

    As `filter_tokens` of the room `hmm`, with $\ell_t$ in place of a column of the emission matrix: no mass underflows for good, and
    inside `jit` an impossible observation is stepped over and makes the log-likelihood −∞.

    **Raises:** `ImpossibleTokenError` for an observation of density zero, unless `on_impossible="skip"`; `DataError` for data that
    the model does not emit.
    """
    z = as_observations(hmm, data)
    lengths = np.asarray(data.lengths) if isinstance(data, Sequences) else None
    check_choice("on_impossible", on_impossible, ("raise", "skip"))
    chain, factors = seen_chain(hmm, jnp.asarray(z))
    if (mesh := mesh_of(data)) is None or is_traced(chain):
        run = filter_codes(chain, numbers_of(z, hmm.emission), lengths)
    else:
        found = filtered_over(mesh, filter_traced, chain.arrays, np.asarray(numbers_of(z, hmm.emission)), "skip")
        run = FilteredTokens(model=chain, lengths=lengths, **found)
    factors = factors if is_traced(factors) else np.asarray(factors)
    if on_impossible == "raise" and not is_traced(run.log_q):
        _raise_if_impossible(on_host(run.log_q), z[..., : hmm.n_channels])
    given = given_of(jnp.asarray(z), hmm.emission)
    return FilteredObservations(model=hmm, run=run, factors=factors, lengths=lengths, given=given)


def _raise_if_impossible(log_q: Float[np.ndarray, "T *batch"], z: Any) -> None:
    impossible = np.isneginf(log_q)
    if impossible.any():
        place = np.argwhere(impossible)[0]
        position, sequence = int(place[0]), int(place[1]) if len(place) > 1 else 0
        said = ", ".join(f"{value:g}" for value in np.asarray(z)[tuple(place)])
        raise ImpossibleTokenError(sequence, position, said, "Observation")


def score_series(hmm: HiddenMarkovModel, data: Sequences, *, on_impossible: str = "raise") -> TokenScores:
    r"""$\log p(Z_t\mid Z_{<t})$ of every observation of a data set; with `on_impossible="skip"` an impossible one scores −∞.
    Observations that an emission takes for given, as the first of an autoregression, have no score.

    **Raises:** as `filter_series`.
    """
    data = with_inputs(data, hmm.emission.n_inputs)
    scores, lags = scored(hmm, data, filter_series, on_impossible), hmm.emission.lags
    if lags == 0:
        return scores
    known = ~np.isnan(windows(as_observations(hmm, data), lags)).any(-1)
    return scores.on(scores.scored & np.swapaxes(known, 0, 1))
