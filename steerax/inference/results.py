r"""What the verbs return: one record for each, whatever the model.

Time is the same in every room: the state $X_t$ emits the observation $Z_t$, $t=0\dots T-1$, and $X_T$ emits the next one.
"""

import abc
import math
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from .._bounds import SHARE
from .._errors import ConfigurationError
from .._results import RESULTS


class Gaussian(eqx.Module):
    """Gaussian distributions: `mean` `[… d]` and `covariance` `[… d d]`; an index picks along the leading axes."""

    mean: Float[Array, "*batch d"]
    covariance: Float[Array, "*batch d d"]

    def __getitem__(self, index: Any) -> "Gaussian":
        return Gaussian(self.mean[index], self.covariance[index])


class Filtered(eqx.Module):
    r"""What `filter` returns; for a `Sequences` every array has a leading axis of sequences.

    **Attributes:** `predicted`, the distribution of $X_t$ given $Z_{<t}$ for $t=0\dots T$ (rows beyond a sequence's end are
    its forecasts); `filtered`, that of $X_t$ given $Z_{\le t}$ for $t=0\dots T-1$ — arrays of probabilities `[T+1 d]` and
    `[T d]` for a chain, `Gaussian` records for a linear model; `log_likelihoods` `[T]`, $\log p(Z_t\mid Z_{<t})$ in nats,
    zero where nothing is observed; `log_likelihood`, their sum; `lengths`, of the sequences; `result`.
    """

    model: eqx.AbstractVar[Any]
    lengths: eqx.AbstractVar[np.ndarray | None]

    @property
    @abc.abstractmethod
    def predicted(self) -> Any: ...

    @property
    @abc.abstractmethod
    def filtered(self) -> Any: ...

    @property
    @abc.abstractmethod
    def log_likelihood(self) -> Any: ...

    @property
    @abc.abstractmethod
    def log_likelihoods(self) -> Array: ...

    @property
    @abc.abstractmethod
    def result(self) -> RESULTS: ...

    @abc.abstractmethod
    def next_all(self) -> Any:
        r"""The distribution of $Z_t$ given $Z_{<t}$ for every $t=0\dots T$."""

    def next(self, t: int = -1) -> Any:
        r"""The distribution of the observation $Z_t$ given $Z_{<t}$: probabilities `[V]` of a token, or a `Gaussian`.

        Negative times count from the end: −1 is the observation that comes next, after each sequence's own end.

        **Raises:** `ConfigurationError` for a time outside $-T-1\dots T$.
        """
        every = self.next_all()
        shape = (every.mean if isinstance(every, Gaussian) else every).shape
        longest = shape[-2] - 1
        if not -longest - 1 <= t <= longest:
            raise ConfigurationError(f"There is no time {t}; the data have times {-longest - 1} to {longest}.")
        if self.lengths is None:
            return every[t]
        rows = np.arange(len(self.lengths))
        return every[rows, self.lengths + 1 + t if t < 0 else np.full(len(rows), t)]


class Smoothed(eqx.Module):
    r"""What `smooth` returns: `smoothed`, the distribution of $X_t$ given all observations, $t=0\dots T-1$ (probabilities
    `[T d]` of a chain, a `Gaussian` for a linear model; a leading axis for a `Sequences`, whose rows beyond a sequence's
    end are forecasts); `log_likelihood`, nats; `result`."""

    smoothed: Any
    log_likelihood: Any
    result: RESULTS


class DualFiltered(eqx.Module):
    r"""What `dual_filter` returns.

    **Attributes:** `predicted`, as in `Filtered` (for a linear model with `queries="last"` only that of the last time);
    `layers`, passes or layers that were applied; `residuals`, of each of them (a linear solver reports the verified one of
    its answer only; inside `jit` NaN beyond `layers`); `result`. Of a chain: `history` `[layers+1 T+1 d]`, the start and every layer's output, where they
    were kept. Of a linear model: `controls` `[T p k]` and `prior` `[k]` with `mean = prior - Σ_t u_tᵀ (Z_t - c)` (`None` with
    `queries="all"`); `solver` and `reason`, which one answered and why; `log_likelihood` (`Schur` only);
    `spectral_radius` of the layer (`Picard` only).
    """

    predicted: Any
    residuals: Float[Array | np.ndarray, " n"]
    layers: Any
    result: RESULTS
    history: Array | None = None
    controls: Array | None = None
    prior: Array | None = None
    solver: Any = eqx.field(static=True, default=None)
    reason: str | None = eqx.field(static=True, default=None)
    log_likelihood: Any = None
    spectral_radius: float | None = None


class Fitted(eqx.Module):
    r"""What `fit` returns.

    **Attributes:** `model`; `log_likelihoods`, nats, of the start and after each iteration; `objective`, the same plus the
    log-prior (up to a constant), which never decreases; `n_parameters` that are free; `n_observed` numbers or tokens;
    `result`. Of a chain: `degenerate`, pairs (iteration, state) of states that lost all their expected counts and kept
    their row; `restarts`, log-likelihoods at which the starts were compared. Of a linear model: `input_weights` `[p q]`.
    """

    model: Any
    log_likelihoods: Float[np.ndarray, " n"]
    objective: Float[np.ndarray, " n"]
    n_parameters: int = eqx.field(static=True)
    n_observed: int = eqx.field(static=True)
    result: RESULTS
    degenerate: tuple[tuple[int, int], ...] = eqx.field(static=True, default=())
    restarts: Float[np.ndarray, " r"] | None = None
    input_weights: Float[np.ndarray, "p q"] | None = None

    @property
    def log_likelihood(self) -> float:
        """Nats, of the model."""
        return float(self.log_likelihoods[-1])

    @property
    def aic(self) -> float:
        r"""Akaike's criterion $2(p-\ell)$; smaller is better."""
        return 2 * (self.n_parameters - self.log_likelihood)

    @property
    def bic(self) -> float:
        r"""The Bayesian criterion $p\log n-2\ell$, `n` the observed numbers or tokens; smaller is better."""
        return self.n_parameters * math.log(max(self.n_observed, 1)) - 2 * self.log_likelihood

    def summary(self) -> str:
        """The result in a few lines of text."""
        lines = [
            f"{type(self.model).__name__} with {self.n_parameters} free parameters, fitted to {self.n_observed} observations",
            f"log-likelihood {self.log_likelihood:.6g} nats after {len(self.log_likelihoods) - 1} iterations",
            f"AIC {self.aic:.6g}, BIC {self.bic:.6g}",
            RESULTS[self.result],
        ]
        return "\n".join(line for line in lines if line)


class Candidate(eqx.Module):
    """One kind that `select` compared: `kind`, its `fitted` result, and nats per observation on held-out data, if any."""

    kind: Any
    fitted: Fitted
    held_out: float | None = None
    held_out_standard_error: float | None = None

    def value(self, criterion: str) -> float:
        """The criterion, smaller is better; infinite where it does not exist."""
        value = self.held_out if criterion == "held_out" else getattr(self.fitted, criterion)
        return math.inf if value is None or math.isnan(value) else float(value)


class Selection(eqx.Module):
    """What `select` returns: all `candidates`, the `best` of them by the `criterion`, and its `model`."""

    candidates: tuple[Candidate, ...]
    criterion: str = eqx.field(static=True)

    @property
    def best(self) -> Candidate:
        return min(self.candidates, key=lambda candidate: candidate.value(self.criterion))

    @property
    def model(self) -> Any:
        return self.best.fitted.model


def check_coverage(coverage: float) -> None:
    """Raises `ConfigurationError` unless `0 < coverage < 1`."""
    SHARE.check("coverage", coverage)


def query_times(queries: Any, T: int) -> Int[np.ndarray, " q"]:
    r"""Times in $0\dots T$ of queries: `"all"`, a time (negative ones count from the end, −1 is $T$) or several.

    **Raises:** `ConfigurationError` for anything else.
    """
    if isinstance(queries, str) and queries == "all":
        return np.arange(T + 1)
    try:
        times = np.atleast_1d(np.asarray(queries))
    except ValueError:  # of unlike lengths
        times = np.zeros(1)
    whole = times.ndim == 1 and times.dtype.kind in "iu"
    if not whole or (len(times) and not -T - 1 <= times.min() <= times.max() <= T):
        raise ConfigurationError(
            f"Queries are times between {-T - 1} and {T} (−1 is the end) or 'all', but {queries!r} was given."
        )
    return np.where(times < 0, times + T + 1, times)
