"""Edge-emitting processes of computational mechanics, and ways to combine processes. All start from their stationary belief."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from .._bounds import PROBABILITY, SHARE, bounded
from .._errors import ConfigurationError, DataError
from ..data.vocabulary import Vocabulary
from .generalised import GeneralisedHMM, as_generalised

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _machine(
    n_states: int, *edges: tuple[int, int, int, float], symbols: Sequence[str] | None = None
) -> GeneralisedHMM:
    """The process of edges (state, token, next state, probability)."""
    operators = np.zeros((max(z for _, z, _, _ in edges) + 1, n_states, n_states))
    for i, z, j, p in edges:
        operators[z, i, j] += p
    return GeneralisedHMM(None, operators, vocabulary=None if symbols is None else Vocabulary(tuple(symbols)))


@bounded(p=SHARE)
def coin(p: float = 0.5) -> GeneralisedHMM:
    """Independent tokens, 1 with probability `p`: one state, entropy $H(p)$."""
    return _machine(1, (0, 0, 0, 1 - p), (0, 1, 0, p))


@bounded(p=SHARE)
def zero_one_random(p: float = 0.5) -> GeneralisedHMM:
    """Z1R: a 0, a 1, then a token that is 1 with probability `p`, and again [ShaiEtAl2024]. Entropy rate $H(p)/3$."""
    return _machine(3, (0, 0, 1, 1.0), (1, 1, 2, 1.0), (2, 0, 0, 1 - p), (2, 1, 0, p))


@bounded(p=SHARE)
def golden_mean(p: float = 0.5) -> GeneralisedHMM:
    """No two ones in a row: after a 0 (or at the start) a 1 comes with probability `p` [Weiss1973]. Entropy rate $H(p)/(1+p)$."""
    return _machine(2, (0, 0, 0, 1 - p), (0, 1, 1, p), (1, 0, 0, 1.0))


@bounded(p=SHARE)
def even(p: float = 0.5) -> GeneralisedHMM:
    """Ones come in runs of even length: memory without a bound, two states [Weiss1973]. Entropy rate $H(p)/(1+p)$."""
    return _machine(2, (0, 0, 0, 1 - p), (0, 1, 1, p), (1, 1, 0, 1.0))


@bounded(p=SHARE, q=SHARE)
def sns(p: float = 0.5, q: float = 0.5) -> GeneralisedHMM:
    """The simple nonunifilar source: two states, infinitely many beliefs [Crutchfield1994, MarzenCrutchfield2015].

    State 0 emits 0 and stays with probability `p`; state 1 emits 0 and stays with probability `q`, and emits 1 when it leaves.
    """
    return _machine(2, (0, 0, 0, p), (0, 0, 1, 1 - p), (1, 0, 1, q), (1, 1, 0, 1 - q))


@bounded(p=SHARE, q=SHARE)
def rrxor(p: float = 0.5, q: float = 0.5) -> GeneralisedHMM:
    """Random, random, then the exclusive or of both: five states, 36 beliefs [CrutchfieldFeldman2003].

    `p` and `q` are the probabilities of a 0 in the two random tokens. Pairs of tokens are independent where both are one half.
    """
    return _machine(5, (0, 0, 1, p), (0, 1, 2, 1 - p), (1, 0, 4, q), (1, 1, 3, 1 - q),
                    (2, 0, 3, q), (2, 1, 4, 1 - q), (3, 1, 0, 1.0), (4, 0, 0, 1.0))  # fmt: skip


@bounded(epsilon=PROBABILITY)
def leaky_rrxor(p: float = 0.5, q: float = 0.5, epsilon: float = 0.1) -> GeneralisedHMM:
    r"""$(1-\varepsilon)$ of `rrxor` and $\varepsilon$ of a step that emits any token and moves to any state with equal probability."""
    T = np.asarray(rrxor(p, q).operators, np.float64)
    return GeneralisedHMM(None, (1 - epsilon) * T + epsilon / (T.shape[0] * T.shape[2]))


def days_of_week() -> GeneralisedHMM:
    """Words about a day, whose state is the day that was meant last: seven states, eleven tokens.

    After each day: its successor by name with weight 5, any other day by name with weight 1 each, "tomorrow", "yesterday", and
    "weekend" and "weekday" (any such day with equal probability) with weight 1 each.
    """
    n, edges = len(_DAYS), []
    for i in range(n):
        for j in range(n):
            edges.append((i, j, j, 5.0 if j == (i + 1) % n else 1.0))
            edges.append((i, n + 2, j, 0.5 if j >= 5 else 0.0))
            edges.append((i, n + 3, j, 0.2 if j < 5 else 0.0))
        edges += [(i, n, (i + 1) % n, 1.0), (i, n + 1, (i - 1) % n, 1.0)]
    total = 5.0 + 6.0 + 4.0
    scaled = [(i, z, j, w / total) for i, z, j, w in edges]
    return _machine(n, *scaled, symbols=(*_DAYS, "tomorrow", "yesterday", "weekend", "weekday"))


def parentheses(open_probabilities: Any = (1.0, 0.5, 0.5)) -> GeneralisedHMM:
    """Balanced parentheses of limited depth: the state is the depth, which opens with the given probability at depth 0, 1, …
    and closes otherwise; below the last one it only closes.

    **Raises:** `ConfigurationError` unless the first probability is one and the others lie in (0, 1].
    """
    try:
        p = np.asarray(open_probabilities, np.float64)
    except (TypeError, ValueError):
        p = np.zeros(0)
    if p.ndim != 1 or len(p) == 0 or p[0] != 1 or not ((p > 0) & (p <= 1)).all():
        raise ConfigurationError(f"open_probabilities are 1 first and then lie in (0, 1], not {open_probabilities!r}.")
    operators = np.stack([np.diag(p, k=1), np.diag(1 - np.append(p[1:], 0.0), k=-1)])
    return GeneralisedHMM(None, operators, vocabulary=Vocabulary(("(", ")")))


@bounded(p=PROBABILITY, q=PROBABILITY)
def mr_name(p: float = 0.4, q: float = 0.25) -> GeneralisedHMM:
    """Two filler words and, now and then, "Mr." followed by a name: a word that one context word makes certain.

    A filler is followed by "Mr." with probability `q`, by the other filler with `p`, and by itself otherwise.

    **Raises:** `ConfigurationError` unless $p+q\\le1$ and $q>0$.
    """
    if not (q > 0 and p + q <= 1):
        raise ConfigurationError(f"mr_name needs q > 0 and p + q <= 1, but got p={p}, q={q}.")
    stay = 1 - p - q
    rows = [[0, 0, 0, 1.0], [q, stay, p, 0], [q, p, stay, 0], [0, 0.5, 0.5, 0]]  # Mr., something, blah, name
    edges = [(i, j, j, float(rows[i][j])) for i in range(4) for j in range(4)]
    return _machine(4, *edges, symbols=("Mr.", "something", "blah", "name"))


def product(*models: Any) -> GeneralisedHMM:
    r"""Independent processes side by side, one token for all of them: $T^{(z,z')}=T^z\otimes T^{z'}$ (factored processes).

    Token $(z,z')$ has the code $zV'+z'$. The belief is the product of beliefs.

    **Raises:** `ConfigurationError` without models.
    """
    parts = _parts("product", models)
    p0, T, w = (np.asarray(a, np.float64) for a in parts[0].arrays)
    names = [
        list(part.vocabulary.symbols) if part.vocabulary else [str(z) for z in range(part.n_tokens)] for part in parts
    ]
    symbols = names[0]
    for part, more in zip(parts[1:], names[1:], strict=True):
        q0, S, v = (np.asarray(a, np.float64) for a in part.arrays)
        size = len(w) * len(v)
        p0, w = np.kron(p0, q0), np.kron(w, v)
        T = np.einsum("aij,bkl->abikjl", T, S).reshape(-1, size, size)
        symbols = [f"{one}|{other}" for one in symbols for other in more]
    return GeneralisedHMM(p0, T, evaluation=w, vocabulary=Vocabulary(tuple(symbols)))


def mixture(models: Sequence[Any], weights: Any = None) -> GeneralisedHMM:
    """One of several processes with the same tokens, drawn once and kept: a process that is not ergodic.

    **Arguments:** `weights`, probabilities of the processes (equal by default).

    **Raises:** `ConfigurationError` without models; `DataError` for other numbers of tokens or weights that are no distribution.
    """
    parts = _parts("mixture", models)
    p = np.full(len(parts), 1 / len(parts)) if weights is None else np.asarray(weights, np.float64)
    if p.shape != (len(parts),) or not (p >= 0).all() or abs(p.sum() - 1) > 1e-9:
        raise DataError(f"The weights of {len(parts)} processes are as many probabilities with sum one, not {weights}.")
    if len({(part.n_tokens, part.vocabulary) for part in parts}) > 1:
        raise DataError("The processes of a mixture must have the same tokens.")
    arrays = [[np.asarray(a, np.float64) for a in part.arrays] for part in parts]
    operators = np.stack([_block_diagonal([a[1][z] for a in arrays]) for z in range(parts[0].n_tokens)])
    p0 = np.concatenate([weight * a[0] for weight, a in zip(p, arrays, strict=True)])
    w = np.concatenate([a[2] for a in arrays])
    return GeneralisedHMM(p0, operators, evaluation=w, vocabulary=parts[0].vocabulary)


def _parts(verb: str, models: Sequence[Any]) -> list[GeneralisedHMM]:
    if not models:
        raise ConfigurationError(f"{verb} needs at least one process.")
    return [as_generalised(model) for model in models]


def _block_diagonal(blocks: list[Float[np.ndarray, "d d"]]) -> Float[np.ndarray, "D D"]:
    from scipy.linalg import block_diag

    return np.asarray(block_diag(*blocks))
