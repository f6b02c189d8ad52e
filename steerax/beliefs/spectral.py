"""Spectral starts: operators from the probabilities that a predictor gives to short futures after some histories."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._errors import DataError
from ..inference.predictor import as_predictor
from ..inference.score import STRINGS, next_token_log_probabilities

_FUTURES = 48  # at most so many strings after each history
_READ = 200_000  # strings that the predictor is asked for


def spectral_start(
    predictor: Any, strings: Int[np.ndarray, "N T"], V: int, most: int, histories: int, rng: np.random.Generator
) -> tuple[list[Float[np.ndarray, " n"]], Float[np.ndarray, " m"]]:
    r"""Starts for dimensions 1, 2, …, `most` in the coordinates of `extract`, and the singular values of the futures.

    With $F_{uv}=P(v\mid u)$ for histories $u$ and futures $v$, and $F^z_{uv}=P(zv\mid u)$, the belief after $u$ is
    $b(u)=F_{u\cdot}Q$, $Q$ the leading right singular vectors; $T^z$ solves $b(u)T^z=F^z_{u\cdot}Q$ and $w$ solves $b(u)w=1$, by least
    squares. The basis is then changed so that $w=e_1$, and the initial belief solves $p_0T^u(1-w\,b(u))=0$ for short $u$. Futures
    are the strings of the largest length of which at most 48 occur.
    """
    tails = _common_futures(strings)
    longer = np.concatenate([np.concatenate([np.full((len(tails), 1), z, np.int32), tails], 1) for z in range(V)])
    histories = min(histories, max(3, _READ // ((V + 1) * len(tails))))
    F, joint = [], []
    for history in _histories(strings, tails.shape[1] + 1, histories, rng):
        F.append(_probability(predictor, history, tails, strings.shape[1]))
        joint.append(_probability(predictor, history, longer, strings.shape[1]).reshape(len(history), V, len(tails)))
    F, joint = np.concatenate(F), np.concatenate(joint)
    scale = 1 / np.sqrt(np.maximum(F.mean(0), 1e-12))
    values, right = np.linalg.svd(F * scale, full_matrices=False)[1:]
    begun = [np.unique(strings[:, :t], axis=0)[:_FUTURES] for t in (1, 2, 3) if t + tails.shape[1] <= strings.shape[1]]
    first = [_probability(predictor, history, tails, strings.shape[1]) for history in begun]
    starts = []
    for d in range(1, min(most, len(values)) + 1):
        Q = scale[:, None] * right[:d].T
        b = F @ Q
        moved = np.einsum("nzv,vd->znd", joint, Q)
        T = np.stack([np.linalg.lstsq(b, each, rcond=1e-9)[0] for each in moved])
        basis = _basis(np.linalg.lstsq(b, np.ones(len(b)), rcond=1e-9)[0])
        T = np.linalg.inv(basis) @ T @ basis
        beliefs = [f @ Q @ basis for f in first]
        starts.append(np.concatenate([T[:-1, :, 0].ravel(), T[:, :, 1:].ravel(), _initial(T, begun, beliefs)]))
    return starts, values / values[0]


def _basis(w: Float[np.ndarray, " d"]) -> Float[np.ndarray, "d d"]:
    """$S$ with first column $w$: in coordinates $pS$ the first number is the mass."""
    basis = np.eye(len(w))
    basis[:, 0] = w
    basis[:, 1:] = np.delete(np.eye(len(w)), np.abs(w).argmax(), 1)
    return basis


def _initial(T, begun: list[np.ndarray], beliefs: list[np.ndarray]) -> Float[np.ndarray, " n"]:
    """The numbers after the first of $p_0$, by least squares."""
    d, rows = T.shape[1], []
    for histories, found in zip(begun, beliefs, strict=True):
        for u, b in zip(histories, found, strict=True):
            product = np.eye(d)
            for z in u:
                product = product @ T[z]
            b = b / b[0] if abs(b[0]) > 1e-9 else b
            rows.append(product - np.outer(product[:, 0], b))
    M = np.concatenate(rows, 1)
    return np.linalg.lstsq(M[1:].T, -M[0], rcond=1e-9)[0]


def _common_futures(strings: Int[np.ndarray, "N T"]) -> Int[np.ndarray, "n L"]:
    """The substrings of the largest length that has at most 48 of them, or the most frequent tokens."""
    tails = None
    for L in range(1, max(1, strings.shape[1] // 2) + 1):
        windows = np.lib.stride_tricks.sliding_window_view(strings, L, 1).reshape(-1, L)
        found, n = np.unique(windows, axis=0, return_counts=True)
        if len(found) > _FUTURES and tails is not None:
            break
        tails = found[np.argsort(-n, kind="stable")[:_FUTURES]]
    assert tails is not None
    return tails.astype(np.int32)


def _histories(strings, room: int, number: int, rng: np.random.Generator) -> list[Int[np.ndarray, "n t"]]:
    """Prefixes of several lengths, with room for a future."""
    T = strings.shape[1]
    lengths = sorted({max(1, (T - room) * k // 3) for k in (1, 2, 3)})
    each = min(len(strings), -(-number // len(lengths)))
    return [strings[rng.choice(len(strings), each, replace=False), :t] for t in lengths]


def _probability(
    predictor, history: Int[np.ndarray, "n t"], tails: Int[np.ndarray, "m L"], length: int
) -> Float[np.ndarray, "n m"]:
    r"""$P(v\mid u)$ of every future after every history; strings are padded to `length`, so that one shape is compiled."""
    t, L = history.shape[1], tails.shape[1]
    read = np.zeros((len(history), len(tails), length), np.int32)
    read[:, :, :t], read[:, :, t : t + L] = history[:, None], tails
    read = read.reshape(-1, length)
    log_p = asked(predictor, read)[:, t - 1 : t - 1 + L]
    along = np.take_along_axis(log_p, read[:, t : t + L, None].astype(np.int64), 2)[..., 0].sum(1)
    return np.exp(along).reshape(len(history), len(tails))


def asked(predictor: Any, strings: Int[np.ndarray, "n T"]) -> Float[np.ndarray, "n T V"]:
    """The predictor's log-probabilities of the token after each position; few strings are filled up, so that one shape is
    compiled. **Raises:** `DataError` for a predictor that gives no numbers."""
    n, T = strings.shape
    if as_predictor(predictor).compiled and n < STRINGS:
        strings = np.concatenate([strings, np.zeros((STRINGS - n, T), strings.dtype)])
    log_p = next_token_log_probabilities(predictor, strings)[:n]
    if np.isnan(log_p).any():
        raise DataError("The predictor gave a probability that is not a number.")
    return log_p[:, log_p.shape[1] - T :]
