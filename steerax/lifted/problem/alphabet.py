r"""Finite alphabets for weights, and the integer tables of attention.

Only $B=Q^\top K$ acts in attention scores, and hard or mean attention sees $B$ up to a positive factor: the *gauge*.
"""

import functools
import itertools
import math

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError


def ternary(*shape: int) -> Int[np.ndarray, "..."]:
    """Every array of that shape with entries -1, 0, 1: `[3^size *shape]`."""
    return np.array(list(itertools.product((-1, 0, 1), repeat=math.prod(shape)))).reshape(-1, *shape)


@functools.cache
def score_matrices(dimension: int = 2, up_to_scale: bool = True) -> Int[np.ndarray, "..."]:
    r"""Every $B=Q^\top K$ with ternary $Q,K$, up to a positive factor (273 for two coordinates) or all distinct."""
    T = ternary(dimension, dimension)
    B = np.einsum("qca,kcb->qkab", T, T).reshape(-1, dimension * dimension)
    if up_to_scale:
        B = B // np.maximum(np.gcd.reduce(B, axis=1, keepdims=True), 1)
    B = np.unique(B, axis=0).reshape(-1, dimension, dimension)
    B.setflags(write=False)
    return B


def hard_attention() -> Int[np.ndarray, "2"]:
    """E = [1, 0]: all the weight on the best tokens, equally."""
    return np.array([1, 0])


def mean_attention() -> Int[np.ndarray, "1"]:
    """E = [1]: every token alike."""
    return np.array([1])


def softmax_attention(temperature: float = 1.0, bits: int = 16) -> Int[np.ndarray, "..."]:
    r"""$E[k]=\mathrm{round}(2^be^{-k/T})$, as long as it is positive, then a final 0.

    Against real softmax every weight is off by at most $2^{-b-1}$ of the best one.
    """
    if temperature <= 0 or not 1 <= bits <= 30:
        raise ConfigurationError("Softmax needs a temperature > 0 and 1 to 30 bits.")
    last = math.ceil(temperature * (bits + 1) * math.log(2))
    E = np.rint(2.0**bits * np.exp(-np.arange(last + 2) / temperature)).astype(np.int64)
    return E[: np.flatnonzero(E)[-1] + 2]
