"""The dual filter: inference as layers, from any start to the filter."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from ..._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import as_transition
from ..doubling import Windows
from ..layers import Layer, Layers, stationary_of
from ..results import DualFiltered
from ..tokens import Tokens
from .filter import FilteredTokens, filter_tokens
from .kernels.layers import layer
from .kernels.likelihoods import emission_table, row_numbers
from .kernels.recursions import prior_distributions
from .kernels.scaled import Scaled, filter_scaled, layer_scaled, scaled_table


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
    options = Layers(layers, initial, tolerance, max_layers, keep, scheme)
    return of_chain(options, filtered, _layer, lambda: stationary_of(hmm))


def of_chain(options: Layers, filtered: FilteredTokens, layer: Layer, stationary: Callable[[], Array]) -> DualFiltered:
    """What the layers of a chain make of what its filter returned, whose model has the `arrays` of a hidden Markov model."""
    (mu, A, C), length = filtered.model.arrays, len(filtered.tokens)
    laws = {
        "prior": lambda: prior_distributions(mu, A, length),
        "uniform": lambda: jnp.full(len(mu), 1 / len(mu), filtered.states.dtype),
        "stationary": stationary,
    }

    def windows() -> Windows:
        rows, moves = row_numbers(jnp.asarray(filtered.tokens)), as_transition(A).dense()

        def exact() -> tuple[Scaled, Scaled]:
            seen, by = scaled_table(C)[rows], Scaled.of(moves)
            by = by.reshape(*(1,) * (seen.m.ndim - 1), *moves.shape)
            return filter_scaled(mu, A, C, jnp.full(length, -1))[0], seen.reshape(*seen.m.shape, 1) * by

        step = lambda seen, by: jnp.einsum("...i,ij->...ij", seen, by)
        there = lambda a: (a > 0).astype(mu.dtype)
        support = step(there(scaled_table(C).m)[rows], there(moves))
        return Windows(step(emission_table(C)[rows], moves), support, jnp.ones_like(mu), exact)

    return options.of(filtered, layer, laws, windows)


def _layer(rho: Any, arrays: tuple, z: Int[Array, "T *batch"]) -> Any:
    return layer_scaled(rho, *arrays, z) if isinstance(rho, Scaled) else layer(rho, *arrays, z)
