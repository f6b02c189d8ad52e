"""Kinds of models that can be fitted: what `fit` and `select` are asked for."""

import dataclasses
from typing import Any, Literal, get_args

from .._bounds import COUNT, COUNT_OR_ZERO
from .._errors import ConfigurationError

Start = Literal["stationary", "diffuse", "free"]


# names of emissions -> class in `models.emissions`, and its options
EMISSIONS: dict[str, tuple[str, dict[str, str]]] = {
    "gaussian": ("Gaussian", {}),
    "gaussian-diagonal": ("Gaussian", {"structure": "diagonal"}),
    "gaussian-tied": ("Gaussian", {"structure": "tied"}),
    "gaussian-spherical": ("Gaussian", {"structure": "spherical"}),
    "student-t": ("StudentT", {}),
    "student-t-diagonal": ("StudentT", {"structure": "diagonal"}),
    "poisson": ("Poisson", {}),
    "negative-binomial": ("NegativeBinomial", {}),
    "autoregressive": ("Autoregressive", {}),
    "regression": ("Regression", {}),
}


@dataclasses.dataclass(frozen=True)
class HMM:
    """A hidden Markov model: `n_states` of the chain, what it emits, and how many past states the next depends on (`order`).

    **Arguments:** `emission`: `"categorical"`, tokens; the name of an emission of numbers (`"gaussian"`, `"gaussian-diagonal"`,
    `"gaussian-tied"`, `"gaussian-spherical"`, `"student-t"`, `"student-t-diagonal"`, `"poisson"`, `"negative-binomial"`, `"autoregressive"` of one lag,
    `"regression"` on one input); or a kind of `sx.emissions`, such as `Autoregressive.kind(lags=2)`, `Regression.kind(inputs=2)`, `Mixture.kind(2, Gaussian.kind())` or `Product.kind((Gaussian.kind(), 2), (Poisson.kind(), 1))`.
    """

    n_states: int
    _: dataclasses.KW_ONLY
    order: int = 1
    emission: Any = "categorical"

    def __post_init__(self):
        _check(self)
        if isinstance(self.emission, str) and self.emission not in ("categorical", *EMISSIONS):
            known = ", ".join(map(repr, ("categorical", *EMISSIONS)))
            raise ConfigurationError(f"emission={self.emission!r} is unknown; choose one of {known}.")
        if not isinstance(self.emission, str) and (
            isinstance(self.emission, type) or not hasattr(self.emission, "started")
        ):
            raise ConfigurationError(
                f"emission takes a name or a kind such as steerax.emissions.Gaussian.kind(), not a {type(self.emission).__name__}."
            )

    @property
    def emits_tokens(self) -> bool:
        """Whether models of this kind emit tokens."""
        return self.emission == "categorical"


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
