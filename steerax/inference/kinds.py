"""Kinds of models that can be fitted: what `fit` and `select` are asked for."""

import dataclasses
from typing import Any, Literal, get_args

from .._bounds import COUNT, COUNT_OR_ZERO
from .._errors import ConfigurationError

Start = Literal["stationary", "diffuse", "free"]


@dataclasses.dataclass(frozen=True)
class HMM:
    """A hidden Markov model of tokens: `n_states` of the chain, and how many past ones the next depends on (`order`)."""

    n_states: int
    _: dataclasses.KW_ONLY
    order: int = 1

    def __post_init__(self):
        _check(self)


@dataclasses.dataclass(frozen=True)
class Lagged:
    """A hidden chain of tokens whose step reads the tokens at `lags` lags (`LaggedHMM`).

    **Arguments:** `n_states`; `lags`; `reads`, `"tokens"`; `attention`, whether the weights of the lags read the tokens there too;
    `emission_lags`, how many past tokens the emission reads.
    """

    n_states: int
    lags: int
    reads: str = "tokens"
    attention: bool = True
    _: dataclasses.KW_ONLY
    emission_lags: int = 0

    def __post_init__(self):
        COUNT.check("n_states", self.n_states)
        COUNT.check("lags", self.lags)
        COUNT_OR_ZERO.check("emission_lags", self.emission_lags)
        if self.reads not in ("tokens",):
            raise ConfigurationError(
                f"reads={self.reads!r}: fit learns lags of 'tokens'; for lags of states start fit_by_gradient from a LaggedHMM."
            )


@dataclasses.dataclass(frozen=True)
class LinearGaussian:
    r"""A linear-Gaussian model of series: `n_states`, the `order` of its memory, and known regressors.

    **Arguments:**

    - `inputs`: `w`, `[T q]` (or `[B T q]` for a `Sequences`), with $Z_t=HX_t+c+Dw_t+W_t$.
    - `start`, the distribution of $X_0$: `"stationary"`, that of the process itself, which then is stable; `"diffuse"`, variance
      $10^6$ of the data's, for series without a level of their own; `"free"`, mean estimated, and the covariance too where
      there are more sequences than states. States before time 0 are left out of every model, whatever its order.
    - `stable`: keep the spectral radius below one with another start too.
    """

    n_states: int
    order: int = 1
    inputs: Any = dataclasses.field(default=None, compare=False, repr=False)
    _: dataclasses.KW_ONLY
    stable: bool = False
    start: Start = "stationary"

    def __post_init__(self):
        _check(self)
        if self.start not in get_args(Start):
            raise ConfigurationError(f"start={self.start!r} is unknown; use 'stationary', 'diffuse' or 'free'.")


def _check(kind: HMM | LinearGaussian) -> None:
    COUNT.check("n_states", kind.n_states)
    COUNT.check("order", kind.order)
