"""The dual filter: inference as layers, from any start to the filter."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from ..._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ...models.hmm import HiddenMarkovModel
from ..doubling import check_scheme, dual_filtered_by_doubling
from ..layers import check_kept, dual_filtered, start_of, stationary_of
from ..results import DualFiltered
from ..tokens import Tokens
from .filter import filter_tokens
from .kernels.layers import layer
from .kernels.likelihoods import emission_table, row_numbers
from .kernels.recursions import prior_distributions
from .kernels.scaled import Scaled, filter_scaled, layer_scaled


@bounded(layers=COUNT_OR_ZERO, tolerance=NOT_NEGATIVE, max_layers=COUNT_OR_ZERO)
def dual_filter_tokens(
    hmm: HiddenMarkovModel,
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
    r"""The filter as the fixed point $\rho=N(\rho)$ of dual-filter layers (see `kernels/layers.py`).

    Causal, hence exact after at most $T$ layers from a start with $\rho_0=\mu$ and $T+1$ from any other; not a
    contraction: chains that stay long in a state need nearly all of them, whatever the filter forgets. A layer costs
    $O(d^2T)$.

    **Arguments:**

    - `layers`: how many to apply; `None` applies them until the residual is at most `tolerance`, at most `max_layers`
      (default $T+1$).
    - `initial`: the input of the first layer: `"filter"`, `"prior"` ($\mu A^t$), `"uniform"`, `"stationary"`, or an array
      of distributions `[T+1 d]`. `None` is `"filter"` without `layers` (one layer verifies it) and `"prior"` with them.
    - `tolerance`: for the residual, the largest sum over states of absolute changes; 64 machine epsilons by default.
    - `keep`: keep the output of every layer in `history`; needs `layers`.
    - `scheme`: `"dual"`, these layers, or `"doubling"`: layer $l$ gives the exact belief given the last $2^l$ tokens (the start,
      `history[0]`, knows one), never gets worse on average, is exact after $\lceil\log_2T\rceil$ layers, and costs $O(d^3T)$ each; it
      takes `layers` and `keep` only. See `inference/doubling.py`.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` and
    `ConfigurationError` for tokens and options that cannot be used.
    """
    filtered = filter_tokens(hmm, data, on_impossible)
    check_kept(layers, keep and scheme == "dual")
    check_scheme(scheme, initial=initial, tolerance=tolerance, max_layers=max_layers)
    if scheme == "doubling":
        seen = emission_table(hmm.emission)[row_numbers(jnp.asarray(filtered.tokens))]
        operators = jnp.einsum("...i,ij->...ij", seen, hmm.dense_transition)
        prior = prior_distributions(hmm.initial, hmm.transition, len(operators))
        exact = lambda: (filter_scaled(*hmm.arrays, jnp.full(len(operators), -1))[0], Scaled.of(operators))
        one = jnp.ones_like(hmm.initial)
        return dual_filtered_by_doubling(filtered, prior, operators, one, layers, keep, exact)
    initial = ("filter" if layers is None else "prior") if initial is None else initial
    laws = {
        "prior": lambda: prior_distributions(hmm.initial, hmm.transition, len(filtered.tokens)),
        "uniform": lambda: jnp.full(hmm.n_states, 1 / hmm.n_states, filtered.states.dtype),
        "stationary": lambda: stationary_of(hmm),
    }
    start = initial, start_of(filtered, initial, laws)
    return dual_filtered(_layer, filtered, start, layers, tolerance, max_layers, keep)


def _layer(rho: Any, arrays: tuple, z: Int[Array, "T *batch"]) -> Any:
    return layer_scaled(rho, *arrays, z) if isinstance(rho, Scaled) else layer(rho, *arrays, z)
