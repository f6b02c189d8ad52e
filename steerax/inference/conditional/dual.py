"""The dual filter of a conditionally Markov model: inference as layers, from any start to the filter."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ...models.conditional import AbstractConditionalHMM
from ..doubling import Windows
from ..hmm.kernels.scaled import Scaled
from ..layers import Layers
from ..results import DualFiltered
from ..tokens import Tokens
from .filter import FilteredTokens, along, filter_tokens
from .kernels.layers import layer
from .kernels.recursions import prior_distributions
from .kernels.scaled import filter_scaled, layer_scaled


def unseen_of(filtered: FilteredTokens) -> Float[Array, "T *batch d d"]:
    """The operators of the tokens that were not seen; a token that was stepped over is like a missing one."""
    return jnp.where((jnp.asarray(filtered.tokens) < 0)[..., None, None], 0, _unseen(filtered.model, filtered.read))


@eqx.filter_jit
def _unseen(model: AbstractConditionalHMM, z: Any) -> Float[Array, "T *batch d d"]:
    return along(model.unseen, z)


@bounded(layers=COUNT_OR_ZERO, tolerance=NOT_NEGATIVE, max_layers=COUNT_OR_ZERO)
def dual_filter_tokens(
    model: AbstractConditionalHMM,
    data: Tokens,
    layers: int | None = None,
    initial: str | Any = None,
    tolerance: float | None = None,
    *,
    max_layers: int | None = None,
    keep: bool = False,
    scheme: str = "dual",
    on_impossible: str = "raise",
) -> DualFiltered:
    r"""The filter as the fixed point $\rho=N(\rho)$ of dual-filter layers (see `kernels/layers.py`), with the kernels of the tokens.

    Causal, hence exact after at most $T$ layers from a start with $\rho_0=\mu$ and $T+1$ from any other. A layer costs $O(d^2T)$,
    and what is common to all layers $O(Vd^2T)$ where kernels read the newest token.

    **Arguments:**

    - `layers`: how many to apply; `None` applies them until the residual is at most `tolerance`, at most `max_layers`
      (default $T+1$).
    - `initial`: the input of the first layer: `"filter"`, `"prior"` ($\mu K_0\cdots K_{t-1}$), `"uniform"`, or an array of
      distributions `[T+1 d]`. `None` is `"filter"` without `layers` (one layer verifies it) and `"prior"` with them.
    - `tolerance`: for the residual, the largest sum over states of absolute changes; 64 machine epsilons by default.
    - `keep`: keep the output of every layer in `history`; needs `layers`.
    - `scheme`: `"dual"`, these layers, or `"doubling"`: layer $l$ knows what the last $2^l$ tokens say of the states, and the kernels of
      all tokens; exact after $\lceil\log_2T\rceil$ layers of cost $O(d^3T)$. It takes `layers` and `keep` only.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` and
    `ConfigurationError` for tokens and options that cannot be used.
    """
    filtered = filter_tokens(model, data, on_impossible)
    mu, (c, K) = model.initial, filtered.steps
    laws = {
        "prior": lambda: prior_distributions(mu, K),
        "uniform": lambda: jnp.full(model.n_states, 1 / model.n_states, filtered.states.dtype),
    }

    def windows() -> Windows:
        exact = lambda: (filter_scaled(mu, jnp.ones_like(c), K)[0], Scaled.of(c[..., None]) * Scaled.of(K))
        support = ((c[..., None] > 0) & (K > 0)).astype(mu.dtype)
        return Windows(c[..., None] * K, support, jnp.ones_like(mu), exact)

    options = Layers(layers, initial, tolerance, max_layers, keep, scheme)
    return options.of(filtered, _layer, laws, windows, lambda: (mu, c, K, unseen_of(filtered)))


def _layer(rho: Any, arrays: tuple, z: Any) -> Any:
    return layer_scaled(rho, *arrays) if isinstance(rho, Scaled) else layer(rho, *arrays)
