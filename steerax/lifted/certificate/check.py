r"""Checking a certificate without the search: its own evaluation, its own bound, no shared code.

Three levels. *witness*: the network is of the class and makes exactly `upper` errors, in exact fractions. *sample*:
random first layers lead to states that the certificate lists, and the bounds of random listed states hold, re-derived
by trying every last layer; with a statement of what this makes improbable. *full*: every network of the class is enumerated again,
whatever the certificate lists: the only level that covers the lower bound. (A sample cannot: of the 20 638 states of parity(5)
two betray a claim that is one too high.)
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Int

from ..._bounds import COUNT, SEED, bounded
from ..._errors import ConfigurationError, SteeraxError
from ..problem.problem import Problem
from ..problem.r1 import R1, Weights
from .certificate import Certificate
from .exhaustive import fewest_errors

CONFIDENCE = 0.95
LARGEST_FULL = 2**17  # states a full enumeration may visit
LARGEST_DEFAULT = 2**20  # states times sequences that it visits without being asked: five bits and two layers

Tokens = Int[np.ndarray, "N n 2"]


class CertificateError(SteeraxError):
    """A certificate claims something that is not so."""


@dataclass(frozen=True)
class Checked:
    """What a check established. **Attributes:** `level`; `statement`, in words; `examined`, states re-derived."""

    level: str
    statement: str
    examined: int


@bounded(samples=COUNT, seed=SEED)
def check(
    certificate: Certificate,
    level: str | None = None,
    *,
    samples: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Checked:
    """Check a certificate. Raises `CertificateError` with the reason if it is wrong.

    **Arguments:** `level`, "witness", "sample" or "full"; by default "full" where that takes about a minute at most, and
    "witness" beyond; `samples`, first layers and listed states drawn at level "sample"; `seed`; `progress(done, states)`,
    called by level "full". A certificate that passes "full" is `trusted` from then on.
    """
    if level not in (None, "witness", "sample", "full"):
        raise ConfigurationError(f'level={level!r}: choose "witness", "sample" or "full".')
    level = ("full" if is_quick(certificate) else "witness") if level is None else level
    _check_witness(certificate)
    if level == "witness":
        counted = f"The network makes exactly {certificate.upper} errors"
        return Checked(level, f"{counted}; that none makes fewer than {certificate.lower} was not checked.", 1)
    listed = len(certificate.nodes) or certificate.lower > unavoidable(certificate.problem)
    if level == "sample" and certificate.depth > 1 and listed:
        return _check_sample(certificate, samples, np.random.default_rng(seed))
    examined = _check_full(certificate, progress)
    object.__setattr__(certificate, "trusted", True)
    return Checked(level, f"No network of {certificate.about} makes fewer than {certificate.lower} errors.", examined)


def is_quick(certificate: Certificate) -> bool:
    """Whether a complete check takes about a minute at most."""
    model = certificate.problem.model
    states = (len(model.matrices) * len(model.rows) ** 2) ** (certificate.depth - 1)
    return (
        certificate.lower <= unavoidable(certificate.problem)
        or states * len(certificate.problem.labels) <= LARGEST_DEFAULT
    )


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise CertificateError(f"The certificate is wrong: {reason}.")


# the network in exact fractions -------------------------------------------------------------------------------------


def half_up(q: Fraction) -> int:
    """⌊q + 1/2⌋."""
    return math.floor(q + Fraction(1, 2))


def exact_label(model: R1, weights: Weights, tokens: list[int]) -> int:
    """The label of one sequence, straight from the definition of the class."""
    n, C = len(tokens), model.levels
    clip = lambda v: max(-C, min(C, v))
    x = []
    for i, b in enumerate(tokens):
        position = Fraction((2 * i - (n - 1)) * C, max(n - 1, 1))
        away = half_up(abs(position)) * (1 if position >= 0 else -1)
        x.append((2 * b - (model.vocabulary - 1), clip(away)))
    for B, V in weights.layers:
        moved = []
        for xi in x:
            scores = [sum(xi[a] * B[a][c] * xj[c] for a in (0, 1) for c in (0, 1)) for xj in x]
            best = [xj for xj, s in zip(x, scores, strict=True) if s == max(scores)]
            mean = [Fraction(sum(xj[c] for xj in best), len(best)) for c in (0, 1)]
            z = [Fraction(half_up(4 * m), 4) for m in mean]
            moved.append(tuple(clip(xi[a] + half_up(V[a][0] * z[0] + V[a][1] * z[1])) for a in (0, 1)))
        x = moved
    w, threshold, flipped = weights.readout
    return int((w[0] * x[0][0] + w[1] * x[0][1] >= threshold) != flipped)


def _check_witness(certificate: Certificate) -> None:
    problem, weights = certificate.problem, certificate.weights
    model = problem.model
    matrices = {tuple(B) for B in model.matrices.reshape(-1, 4).tolist()}
    rows = {tuple(v) for v in model.rows.tolist()}
    _require(len(weights.layers) == certificate.depth, f"the network has {len(weights.layers)} layers")
    for number, (B, V) in enumerate(weights.layers, start=1):
        _require((*B[0], *B[1]) in matrices, f"B of layer {number} is not in the class")
        _require(set(V) <= rows, f"V of layer {number} is not in the class")
    _require(weights.readout.w in {tuple(w) for w in model.directions.tolist()}, "the read-out is not in the class")
    predicted = np.array([exact_label(model, weights, row) for row in problem.tokens.tolist()])
    errors = problem.errors(predicted)
    _require(errors == certificate.upper, f"the network makes {errors} errors, not {certificate.upper}")
    _require(certificate.lower <= certificate.upper, "the lower bound exceeds the upper bound")


# states in plain NumPy ----------------------------------------------------------------------


def embedded(problem: Problem) -> Tokens:
    """The coordinates of all tokens of all sequences."""
    n = problem.model.length
    return problem.model.embedding[np.arange(n), problem.tokens]


def rounded_means(x: Int[np.ndarray, "N n 2"], matrices: Int[np.ndarray, "b 2 2"], queries: slice) -> np.ndarray:
    """4 z of the queries asked for, for every matrix: `[b N queries 2]`."""
    s = np.einsum("sia,bac,sjc->bsij", x[:, queries], matrices, x)
    best = (s == s.max(-1, keepdims=True)).astype(np.int64)
    count = best.sum(-1)[..., None]
    return (8 * np.einsum("bsij,sjc->bsic", best, x) + count) // (2 * count)


def moved(x: np.ndarray, z4: np.ndarray, v: np.ndarray, C: int) -> np.ndarray:
    """clip(x + ⌊v·z + 1/2⌋) for one coordinate x `[...]` and one row of V."""
    return np.clip(x + (2 * (z4 @ v) + 4) // 8, -C, C)


def unavoidable(problem: Problem) -> int:
    """The errors of every network: sequences with other labels whose tokens are embedded alike."""
    x, C = embedded(problem), problem.model.levels
    code = (x[..., 0] + C) * (2 * C + 1) + x[..., 1] + C
    group = np.unique(code, axis=0, return_inverse=True)[1].ravel()
    ones, all_ = np.bincount(group, problem.weights * problem.labels), np.bincount(group, problem.weights)
    return int(np.minimum(ones, all_ - ones).sum())


def _after_layer(x: Tokens, B: np.ndarray, V: np.ndarray, C: int) -> Tokens:
    """All tokens after one layer."""
    z4 = rounded_means(x, B[None], slice(None))[0]
    return np.stack([moved(x[..., a], z4, V[a], C) for a in (0, 1)], -1)


# levels sample and full ---------------------------------------------------------------------------------------------


def canonical(x: Tokens, C: int, swap: bool) -> bytes:
    """A state up to the order of the tokens behind the first and, with `swap`, the exchange of the coordinates."""

    def key(first: np.ndarray, second: np.ndarray) -> bytes:
        code = (first + C) * (2 * C + 1) + second + C
        return np.concatenate([code[:, :1], np.sort(code[:, 1:], axis=1)], axis=1).astype(np.uint8).tobytes()

    straight = key(x[..., 0], x[..., 1])
    return min(straight, key(x[..., 1], x[..., 0])) if swap else straight


def _closed_under_swap(model: R1) -> bool:
    ray = lambda B: tuple(int(b) // max(math.gcd(*B), 1) for b in B)
    matrices = {ray(B) for B in model.matrices.reshape(-1, 4).tolist()}
    rows = {tuple(v) for v in model.rows.tolist()}
    w = {tuple(w) for w in model.directions.tolist()}
    return (
        matrices == {(d, c, b, a) for a, b, c, d in matrices}
        and rows == {(b, a) for a, b in rows}
        and ((1, 0) in w) == ((0, 1) in w)
    )


def _check_sample(certificate: Certificate, samples: int, random: np.random.Generator) -> Checked:
    problem, model = certificate.problem, certificate.problem.model
    start, C, swap = embedded(problem), model.levels, _closed_under_swap(model)
    nodes, bounds = certificate.nodes.astype(np.int64), certificate.node_bounds
    _require(len(nodes) == len(bounds) > 0, "it lists no states")
    _require(certificate.lower <= int(bounds.min()), "a listed bound lies below the lower bound")

    def draw() -> tuple[np.ndarray, np.ndarray]:
        return random.choice(model.matrices), random.choice(model.rows, 2)

    listed = {
        canonical(_after_layer(start, node[:4].reshape(2, 2), node[4:].reshape(2, 2), C), C, swap) for node in nodes
    }
    for _ in range(samples):
        B, V = draw()
        found = canonical(_after_layer(start, B, V, C), C, swap) in listed
        _require(found, f"the first layer B={B.tolist()}, V={V.tolist()} leads to a state that is not listed")
    for i in random.choice(len(nodes), samples):
        x = _after_layer(start, nodes[i, :4].reshape(2, 2), nodes[i, 4:].reshape(2, 2), C)
        for _ in range(certificate.depth - 2):
            x = _after_layer(x, *draw(), C)
        errors = fewest_errors(x, model, problem.labels, problem.weights)
        _require(
            bool(errors >= bounds[i]),
            f"behind listed state {i} a network makes {errors} errors, not {bounds[i]} or more",
        )
    share = -math.log(1 - CONFIDENCE) / samples
    what = "of the listed bounds" if certificate.depth == 2 else "of the networks behind the listed states"
    statement = (
        f"With confidence {CONFIDENCE:.0%} each: fewer than {share:.2%} of all first layers lead to a state that is not "
        f"listed, and fewer than {share:.2%} {what} are wrong."
    )
    return Checked("sample", statement, 2 * samples)


def _check_full(certificate: Certificate, progress: Callable[[int, int], Any] | None) -> int:
    """How many states were examined, two threads at a time."""
    problem, model = certificate.problem, certificate.problem.model
    if certificate.lower <= unavoidable(problem):  # nothing to enumerate
        return 0
    states = {embedded(problem).tobytes(): embedded(problem)}
    for _ in range(certificate.depth - 1):
        reached: dict[bytes, Tokens] = {}
        for x in states.values():
            for state in _all_after(x, model):
                reached[state.tobytes()] = state
                if len(reached) > LARGEST_FULL:
                    raise ConfigurationError(
                        f"A full check would visit more than {LARGEST_FULL} states; use level='sample'."
                    )
        states = reached
    with ThreadPoolExecutor(2) as pool:
        fewest = pool.map(lambda x: fewest_errors(x, model, problem.labels, problem.weights), states.values())
        for done, errors in enumerate(fewest, start=1):
            if progress is not None:
                progress(done, len(states))
            if errors < certificate.lower:
                pool.shutdown(cancel_futures=True)
            _require(errors >= certificate.lower, f"a network with {errors} errors exists")
    return len(states)


def _all_after(x: Tokens, model: R1):
    """Every state after one layer, by brute force over B and V."""
    for z4 in np.unique(rounded_means(x, model.matrices, slice(None)), axis=0):
        y0, y1 = ([moved(x[..., a], z4, v, model.levels) for v in model.rows] for a in (0, 1))
        for a in y0:
            for b in y1:
                yield np.stack([a, b], -1)
