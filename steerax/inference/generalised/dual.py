"""The dual filter of operators: inference as layers, from any start to the filter."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ..._errors import ConfigurationError
from ..._results import is_traced
from ...models.generalised import GeneralisedHMM
from ..doubling import Windows
from ..hmm.kernels.recursions import prior_distributions
from ..hmm.kernels.scaled import Scaled
from ..layers import Layers, stationary_of
from ..results import DualFiltered
from ..tokens import Tokens
from .filter import filter_tokens
from .kernels.layers import layer
from .kernels.recursions import operator_table, row_numbers
from .kernels.scaled import filter_scaled, layer_scaled


@bounded(layers=COUNT_OR_ZERO, tolerance=NOT_NEGATIVE, max_layers=COUNT_OR_ZERO)
def dual_filter_tokens(
    model: GeneralisedHMM,
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

    Causal, hence exact after at most $T$ layers from a start with $\rho_0=p_0$ and $T+1$ from any other. A layer costs $O(d^2T)$.
    With negative entries what lies between the start and the filter can be large, and is not a belief.

    **Arguments:**

    - `layers`: how many to apply; `None` applies them until the residual is at most `tolerance`, at most `max_layers`
      (default $T+1$).
    - `initial`: the input of the first layer: `"filter"`, `"prior"` ($p_0A^t$), `"uniform"` (hidden states only),
      `"stationary"`, or an array of beliefs `[T+1 d]`. `None` is `"filter"` without `layers` (one layer verifies it) and
      `"prior"` with them.
    - `tolerance`: for the residual, the largest sum over coordinates of absolute changes; 64 machine epsilons by default.
    - `keep`: keep the output of every layer in `history`; needs `layers`.
    - `scheme`: `"dual"`, these layers, or `"doubling"`: layer $l$ gives the exact belief given the last $2^l$ tokens (the start,
      `history[0]`, knows one), never gets worse on average, is exact after $\lceil\log_2T\rceil$ layers, and costs $O(d^3T)$ each; it
      takes `layers` and `keep` only. See `inference/doubling.py`.

    **Raises:** `ImpossibleTokenError` for a token of probability zero, unless `on_impossible="skip"`; `DataError` and
    `ConfigurationError` for tokens and options that cannot be used.
    """
    filtered = filter_tokens(model, data, on_impossible)
    arrays, length = model.arrays, len(filtered.tokens)
    laws = {
        "prior": lambda: prior_distributions(model.initial, model.operators.sum(0), length),
        "uniform": lambda: _uniform(model),
        "stationary": lambda: stationary_of(model),
    }

    def windows() -> Windows:
        operators = operator_table(model.operators)[row_numbers(jnp.asarray(filtered.tokens))]
        exact = lambda: (filter_scaled(*arrays, jnp.full(length, -1))[0], Scaled.of(operators))
        support = (operators > 0).astype(operators.dtype)
        return Windows(operators, support, model.evaluation, exact)

    return Layers(layers, initial, tolerance, max_layers, keep, scheme).of(filtered, _layer, laws, windows)


def _uniform(model: GeneralisedHMM) -> Float[Array, " d"]:
    if not is_traced(model) and not model.is_classical:
        raise ConfigurationError(
            'The beliefs of this process are coordinates with signs, of which none is uniform; start from "stationary".'
        )
    return jnp.full(model.n_states, 1 / model.n_states, model.initial.dtype)


def _layer(rho: Any, arrays: tuple, z: Int[Array, "T *batch"]) -> Any:
    return layer_scaled(rho, *arrays, z) if isinstance(rho, Scaled) else layer(rho, *arrays, z)
