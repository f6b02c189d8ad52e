"""Mixed-state presentation: the beliefs that an observer of a process can hold, and how tokens move between them."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array

from .._bounds import COUNT, COUNT_OR_ZERO, SHARE, bounded
from .._errors import ConfigurationError
from ..maths.beliefs import children, reachable
from ..models.generalised import as_generalised

_MOST_DENSE = 8192  # beliefs whose chain is a matrix of half a gigabyte


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
        """The Markov chain on the beliefs; rows of beliefs that were not followed are zero.

        **Raises:** `ConfigurationError` for more than 8192 beliefs, whose chain stands in `edges` and `probabilities`.
        """
        if len(self.beliefs) > _MOST_DENSE:
            raise ConfigurationError(
                f"A matrix of {len(self.beliefs):,} beliefs is too large; use edges and probabilities."
            )
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

    Two beliefs are one if all their probabilities agree when rounded to a relative `tolerance` (for a process with negative
    entries: to that share of their largest entry); what differs by less than half of it always does. Different strings often lead to one belief; then few beliefs stand for all strings.

    **Arguments:** `depth`: strings of at most so many tokens; `None` goes on until nothing new appears, or ends before the level that
    would bring more than `max_beliefs`.

    **Raises:** `ConfigurationError` for a model without beliefs.
    """
    process = as_generalised(model)
    p0, T, w = (np.asarray(a, np.float64) for a in process.arrays)
    beliefs, found, closed = reachable(p0[None], T, w, max_beliefs if depth is None else 10**9, tolerance, depth)
    edges = np.array([edge[:3] for edge in found], int).reshape(-1, 3)
    odds = np.array([edge[3] for edge in found])
    n = len(beliefs)
    chain = coo_array((odds, (edges[:, 0], edges[:, 2])), shape=(n, n)).tocsr()
    uncertain, followed = _entropy(children(beliefs, T, w)[1]), np.isin(np.arange(n), edges[:, 0])
    here, weights = np.arange(n) == 0, np.eye(n)[0]  # a probability may become too small to be seen, a belief may not
    depths, counts, entropy = np.full(n, -1), [], []
    while True:
        new = here & (depths < 0)
        depths[new] = len(counts)
        counts.append(int(here.sum()))
        entropy.append(float(weights @ uncertain))
        if not followed[here].all() or (not new.any() if depth is None else len(counts) > depth):
            break
        here, weights = here @ (chain > 0) > 0, weights @ chain
    return MixedStates(beliefs, depths, np.array(counts), edges, odds, np.array(entropy), closed)


def _entropy(q: Float[np.ndarray, "n V"]) -> Float[np.ndarray, " n"]:
    return -(q * np.log(np.where(q > 0, q, 1))).sum(1)
