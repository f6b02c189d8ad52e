"""Mixed-state presentation: the beliefs that an observer of a process can hold, and how tokens move between them."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._bounds import COUNT, COUNT_OR_ZERO, SHARE, bounded
from ..models.generalised import as_generalised

_ZERO = -1e9  # the logarithm that stands for a probability of zero


@dataclasses.dataclass(frozen=True)
class MixedStates:
    r"""What `mixed_states` returns.

    **Attributes:** `beliefs` `[n d]`, every one that was reached, in the order of discovery (the first is the initial one);
    `depths` `[n]`, after how many tokens first; `counts`, how many different ones after exactly 0, 1, 2 … tokens; `edges`
    `[m 3]`, (belief, token, next belief), and `probabilities` `[m]` of the tokens; `entropy`, $H(Z_n\mid Z_{<n})$ in nats for
    $n=0,1,\dots$; `closed`, whether no further token leads to a belief that is not among them.
    """

    beliefs: Float[np.ndarray, "n d"]
    depths: Int[np.ndarray, " n"]
    counts: Int[np.ndarray, " levels"]
    edges: Int[np.ndarray, "m 3"]
    probabilities: Float[np.ndarray, " m"]
    entropy: Float[np.ndarray, " levels"]
    closed: bool

    @property
    def transitions(self) -> Float[np.ndarray, "n n"]:
        """The Markov chain on the beliefs; rows of beliefs that were not followed are zero."""
        chain = np.zeros((len(self.beliefs),) * 2)
        np.add.at(chain, (self.edges[:, 0], self.edges[:, 2]), self.probabilities)
        return chain

    @property
    def new(self) -> Int[np.ndarray, " levels"]:
        """How many beliefs were reached for the first time after 0, 1, 2 … tokens."""
        return np.bincount(self.depths, minlength=len(self.counts))


@bounded(depth=COUNT_OR_ZERO, max_beliefs=COUNT, tolerance=SHARE)
def mixed_states(
    model: Any, depth: int | None = None, *, max_beliefs: int = 20_000, tolerance: float = 1e-9
) -> MixedStates:
    r"""Every belief $p_0T^{z_0}\cdots T^{z_{n-1}}/(\cdots w)$ that strings of positive probability lead to, level by level.

    Two beliefs are one if all their probabilities agree to a relative `tolerance` (for a process with negative entries: to
    that share of their largest entry). Different strings often lead to one belief; then few beliefs stand for all strings.

    **Arguments:** `depth`: strings of at most so many tokens; `None` goes on until nothing new appears or `max_beliefs` were
    found, which ends the search in either case with the level that is then complete.

    **Raises:** `ConfigurationError` for a model without beliefs.
    """
    process = as_generalised(model)
    p0, T, w = (np.asarray(a, np.float64) for a in process.arrays)
    classical = process.is_classical
    known, depths, edges, odds = p0[None], [0], [], []
    level, weights, counts, entropy = np.array([0]), np.ones(1), [1], []
    followed, closed = set(), False
    while True:
        after = np.einsum("ni,zij->nzj", known[level], T)
        q = after @ w
        possible = q > 64 * np.finfo(float).eps * np.abs(after) @ np.abs(w)
        possible &= q > 0
        entropy.append(float(-(weights[:, None] * np.where(possible, q * np.log(np.where(possible, q, 1)), 0)).sum()))
        if closed if depth is None else len(counts) > depth:
            break
        row, z = np.nonzero(possible)
        reached = after[row, z] / q[row, z][:, None]
        to, fresh = _numbered(known, reached, tolerance, classical)
        if depth is None and len(known) + len(fresh) > max_beliefs:
            break
        known = np.concatenate([known, reached[fresh]])
        depths += [len(counts)] * len(fresh)
        is_new = np.array([i not in followed for i in level])[row]
        edges.append(np.stack([level[row], z, to], 1)[is_new])
        odds.append(q[row, z][is_new])
        followed.update(level.tolist())
        masses = np.bincount(to, weights[row] * q[row, z], len(known))
        level = np.unique(to)
        weights = masses[level]
        counts.append(len(level))
        closed = followed.issuperset(level.tolist())
    closed = closed or followed.issuperset(range(len(known)))
    none = np.zeros((0, 3), int)
    return MixedStates(known, np.array(depths), np.array(counts), np.concatenate([none, *edges]),
                       np.concatenate([np.zeros(0), *odds]), np.array(entropy), closed)  # fmt: skip


def _numbered(
    known: Float[np.ndarray, "n d"], reached: Float[np.ndarray, "m d"], tolerance: float, classical: bool
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " f"]]:
    """The number of each belief, and which of them are the first with a new one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    old, new = _coordinates(known, classical), _coordinates(reached, classical)
    distance, number = KDTree(old).query(new, p=np.inf)
    to = np.where(distance <= tolerance, number, -1)
    left = np.flatnonzero(to < 0)
    if len(left) == 0:
        return to, left
    pairs = KDTree(new[left]).query_pairs(tolerance, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(left),) * 2)
    group = connected_components(graph, directed=False)[1]
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # in the order of appearance
    to[left] = len(known) + order[group]
    return to, left[np.sort(first)]


def _coordinates(beliefs: Float[np.ndarray, "n d"], classical: bool) -> Float[np.ndarray, "n d"]:
    """Numbers whose differences are relative ones."""
    if not classical:
        return beliefs / np.abs(beliefs).max(1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.where(beliefs > 0, np.log(beliefs), _ZERO)
