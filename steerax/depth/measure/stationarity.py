r"""Is a layer still learning? The stationarity residual $\partial_\theta H_l=L\,\partial\ell/\partial\theta_l$ without its noise.

The gradient of one batch is signal plus noise, and late in training the noise dominates and may even grow. From
gradients $g_1..g_n$ of disjoint, equally large batches the signal is estimated without bias:
$$\widehat{|\mathbb Eg|^2}=\frac1{n(n-1)}\sum_{i\ne j}\langle g_i,g_j\rangle,\qquad
\text{meter}=\widehat{|\mathbb Eg|^2}\Big/\tfrac1n\sum_i|g_i|^2 .$$
The estimate may be negative: then there is no measurable signal left. Multiply by $L^2$ for $|\partial_\theta H_l|^2$.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._bounds import COUNT, bounded
from ..._errors import ConfigurationError, DataError
from ...training.loss import negative_log_likelihoods
from ...transformer.gpt import GPT, Block
from .scoring import in_full_precision


class Stationarity(NamedTuple):
    r"""Per layer, and per group of parameters within a layer.

    `signal` `[L]`, $\widehat{|\mathbb Eg|^2}$ (unbiased, may be negative); `se` `[L]`, its jackknife standard error;
    `batch` `[L]`, $\mathbb E|g|^2$; `effective_decay` `[L]`, $\lambda_{eff}=-\langle g,\theta\rangle/|\theta|^2$, the weight
    decay at which the layer would be stationary; `groups`, group name → (signal, batch, effective decay), each `[L]`;
    `number` of batches.
    """

    signal: np.ndarray
    se: np.ndarray
    batch: np.ndarray
    effective_decay: np.ndarray
    groups: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    number: int

    @property
    def meter(self) -> np.ndarray:
        """Signal over batch: near 1, all batches agree and the layer moves; near 0, only noise is left."""
        return self.signal / np.where(self.batch > 0, self.batch, 1)


def unbiased_square(gram: Float[np.ndarray, "n n"]) -> tuple[float, float]:
    """Mean of the off-diagonal inner products, and its jackknife standard error (conservative where the mean is 0)."""
    n = len(gram)
    rows = gram.sum(1) - np.diag(gram)
    total = rows.sum()
    if n < 3:
        return total / (n * (n - 1)), float("inf")
    without = (total - 2 * rows) / ((n - 1) * (n - 2))
    return total / (n * (n - 1)), float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))


def _group_rows(block: Block) -> dict[str, Float[np.ndarray, "L k"]]:
    """The leaves of a stacked block as rows, one per layer: matrices by name, LayerNorms together."""
    rows: dict[str, list[np.ndarray]] = {}
    for name in ("ln_attention", "qkv", "out", "ln_mlp", "up", "down"):
        group = "layernorm" if name.startswith("ln_") else name
        for leaf in jax.tree.leaves(getattr(block, name)):
            leaf = np.asarray(leaf)
            rows.setdefault(group, []).append(leaf.reshape(leaf.shape[0], -1))
    return {group: np.concatenate(parts, axis=1) for group, parts in rows.items()}


def from_gradients(theta: Block, gradients: list[Block]) -> Stationarity:
    """The statistics from gradients of disjoint, equally large batches. Needs two; a standard error needs three."""
    n = len(gradients)
    if n < 2:
        raise ConfigurationError("Unbiased stationarity needs gradients of at least two disjoint batches.")
    rows, parameters = [_group_rows(g) for g in gradients], _group_rows(theta)
    L = len(next(iter(parameters.values())))
    grams, projections, squares, groups = 0, 0, 0, {}
    for name, p in parameters.items():
        g = np.stack([r[name] for r in rows])  # [n L k]
        gram = np.einsum("ilk,jlk->lij", g, g, dtype=np.float64, optimize=True)
        projection = np.einsum("ilk,lk->l", g, p, dtype=np.float64, optimize=True) / n
        square = (p.astype(np.float64) ** 2).sum(1)
        signal = np.asarray([unbiased_square(gram[l])[0] for l in range(L)])
        groups[name] = (signal, np.einsum("lii->l", gram) / n, -projection / np.where(square > 0, square, 1))
        grams, projections, squares = grams + gram, projections + projection, squares + square
    grams = np.asarray(grams)
    pairs = [unbiased_square(grams[l]) for l in range(L)]
    signal, se = np.asarray(pairs).T
    batch = np.einsum("lii->l", grams) / n
    return Stationarity(signal, se, batch, -projections / np.where(squares > 0, squares, 1), groups, n)


@eqx.filter_jit
def block_gradient(gpt: GPT, tokens: Int[Array, "B N"]) -> Block:
    """Gradient of the mean loss per scored token in the blocks."""

    def loss(blocks: Any):
        whole = eqx.tree_at(lambda g: g.blocks, gpt, blocks)
        scored = (tokens[:, 1:] >= 0).sum()
        return negative_log_likelihoods(whole, tokens).sum() / scored

    return jax.grad(loss)(gpt.blocks)


@bounded(batches=COUNT)
def stationarity(gpt: GPT, tokens: Int[Array | np.ndarray, "B N"], batches: int = 8) -> Stationarity:
    """Stationarity of every layer on sequences of `N` tokens (predicting each token after the first).

    The sequences are cut into `batches` disjoint batches of equal size, and the remainder is left out. Sequences
    should be independent: overlapping windows hide the noise.

    **Raises:** `DataError` if there are fewer sequences than batches or a batch has nothing to predict;
    `ConfigurationError` for fewer than two batches.
    """
    size, gpt = len(tokens) // batches if batches > 0 else 0, in_full_precision(gpt)
    if size < 1:
        raise DataError(f"{len(tokens)} sequences cannot be cut into {batches} batches; give more or ask for fewer.")
    parts = [jnp.asarray(tokens[i * size : (i + 1) * size]) for i in range(batches)]
    if any(not (np.asarray(part)[:, 1:] >= 0).any() for part in parts):
        raise DataError("A batch has no token to predict; give longer sequences.")
    return from_gradients(gpt.blocks, [jax.tree.map(np.asarray, block_gradient(gpt, part)) for part in parts])
