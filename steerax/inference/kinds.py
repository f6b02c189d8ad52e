"""Kinds of models that can be fitted: what `fit` and `select` are asked for."""

import dataclasses
from typing import Any

from .._errors import ConfigurationError


@dataclasses.dataclass(frozen=True)
class HMM:
    """A hidden Markov model of tokens: `n_states` of the chain, and how many past ones the next depends on (`order`)."""

    n_states: int
    _: dataclasses.KW_ONLY
    order: int = 1

    def __post_init__(self):
        _check(self)


@dataclasses.dataclass(frozen=True)
class LinearGaussian:
    r"""A linear-Gaussian model of series: `n_states`, the `order` of its memory, and known regressors.

    **Arguments:** `inputs`: `w`, `[T q]` (or `[B T q]` for a `Sequences`), with $Z_t=HX_t+c+Dw_t+W_t$; `stable`: keep the
    spectral radius below one.
    """

    n_states: int
    order: int = 1
    inputs: Any = dataclasses.field(default=None, compare=False, repr=False)
    _: dataclasses.KW_ONLY
    stable: bool = False

    def __post_init__(self):
        _check(self)


def _check(kind: HMM | LinearGaussian) -> None:
    if min(kind.n_states, kind.order) < 1:
        raise ConfigurationError(f"{kind!r} needs at least one state and an order of at least 1.")
