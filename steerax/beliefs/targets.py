"""What a probe looks for: the exact belief after each token, its linear part, the remainder, and the constrained belief."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._errors import DataError
from ..data.convert import as_sequences
from ..inference.verbs import filter as exact_filter
from ..models.generalised import GeneralisedHMM
from .second_moments import WienerFilter

TARGETS = ("exact", "wiener", "remainder", "constrained")


def strings_of(tokens: Any, process: GeneralisedHMM) -> Int[np.ndarray, "B T"]:
    """Strings of one length without gaps. **Raises:** `DataError` for others."""
    data = as_sequences(tokens, "tokens", process.vocabulary)
    if not data.is_tokens or data.has_gaps or int(data.lengths.min()) != data.max_length:
        raise DataError("Probes read strings of one length without gaps; cut the sequences, or leave out the others.")
    if data.number < 4:
        raise DataError(f"A probe is fitted on half of the strings; {data.number} are too few.")
    if data.n_tokens > process.n_tokens:
        raise DataError(f"The strings hold token {data.n_tokens - 1}; the process has 0 … {process.n_tokens - 1}.")
    return np.asarray(data.values)


def weights_of(weights: Any, strings: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Weights of strings and positions, equal by default. **Raises:** `DataError` for some that cannot be weights."""
    if weights is None:
        return np.ones(strings.shape)
    w = np.asarray(weights, np.float64)
    if w.shape not in (strings.shape, strings.shape[1:], (len(strings), 1)):
        raise DataError(f"Weights have the shape of the strings, {strings.shape}, not {w.shape}.")
    if not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise DataError("Weights are finite, not negative, and not all zero.")
    return np.array(np.broadcast_to(w, strings.shape))


def targets_of(
    process: GeneralisedHMM, strings: Int[np.ndarray, "B T"], filter: WienerFilter
) -> dict[str, Float[np.ndarray, "B T d"]]:
    """The beliefs after each token by the names of `TARGETS`."""
    exact = np.asarray(exact_filter(process, as_sequences(strings, "tokens")).predicted, np.float64)[:, 1:]
    linear = filter.belief(strings)[:, 1:]
    values = exact, linear, exact - linear, constrained_belief(filter.model, strings)
    return dict(zip(TARGETS, values, strict=True))


def constrained_belief(process: GeneralisedHMM, strings: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B T d"]:
    r"""$r_{t+1}=\pi+(r_t-\pi+\pi T^{z}/p_z-\pi)$ moved by the transition: each token adds its own news, which then decays by
    the eigenvalues of the transition [PiotrowskiRiechersFilanShai2025]."""
    pi, T, w = (np.asarray(a, np.float64) for a in process.arrays)
    news = np.einsum("i,zij->zj", pi, T) / np.maximum(pi @ (T @ w).T, 1e-300)[:, None] - pi
    r, out = np.zeros((len(strings), len(pi))), []
    for z in strings.T:
        r = r @ T.sum(0) + news[z]
        out.append(pi + r)
    return np.stack(out, 1)
