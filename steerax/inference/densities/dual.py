"""The dual filter: inference as layers of innovations, from any start to the filter."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from ..._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ...models.hmm import HiddenMarkovModel
from ...models.transitions import as_transition
from ..doubling import check_scheme, dual_filtered_by_doubling
from ..hmm.kernels.likelihoods import emission_table, row_numbers
from ..hmm.kernels.recursions import prior_distributions
from ..hmm.kernels.scaled import Scaled, filter_scaled, scaled_table
from ..layers import check_kept, dual_filtered, start_of, stationary_of
from ..results import DualFiltered
from .filter import filter_series
from .kernels.layers import layer, layer_scaled


@bounded(layers=COUNT_OR_ZERO, tolerance=NOT_NEGATIVE, max_layers=COUNT_OR_ZERO)
def dual_filter_series(
    hmm: HiddenMarkovModel,
    data: Any,
    layers: int | None = None,
    initial: str | Any = None,
    tolerance: float | None = None,
    *,
    max_layers: int | None = None,
    keep: bool = False,
    scheme: str = "dual",
    on_impossible: str = "raise",
) -> DualFiltered:
    r"""The filter as the fixed point of layers $p_{t+1}=A^\top(p_t+\rho^+_t-\rho_t)$, see `kernels/layers.py`.

    The options are those of `dual_filter_tokens` of the room `hmm`.

    **Raises:** as `filter_series`, and `ConfigurationError` for options that cannot be used.
    """
    filtered = filter_series(hmm, data, on_impossible).run
    chain = filtered.model
    check_kept(layers, keep and scheme == "dual")
    check_scheme(scheme, initial=initial, tolerance=tolerance, max_layers=max_layers)
    length, z = len(filtered.tokens), jnp.asarray(filtered.tokens)
    if scheme == "doubling":
        seen = emission_table(chain.emission)[row_numbers(z)]
        operators = jnp.einsum("...i,ij->...ij", seen, as_transition(chain.transition).dense())
        prior = prior_distributions(chain.initial, chain.transition, length)

        def exact() -> tuple[Scaled, Scaled]:
            seen = scaled_table(chain.emission)[row_numbers(z)]
            moves = Scaled.of(as_transition(chain.transition).dense())
            moves = moves.reshape(*(1,) * (seen.m.ndim - 1), *moves.m.shape)
            return filter_scaled(*chain.arrays, jnp.full(length, -1))[0], seen.reshape(*seen.m.shape, 1) * moves

        return dual_filtered_by_doubling(filtered, prior, operators, jnp.ones_like(chain.initial), layers, keep, exact)
    initial = ("filter" if layers is None else "prior") if initial is None else initial
    laws = {
        "prior": lambda: prior_distributions(chain.initial, chain.transition, length),
        "uniform": lambda: jnp.full(hmm.n_states, 1 / hmm.n_states, filtered.states.dtype),
        "stationary": lambda: stationary_of(hmm),
    }
    start = initial, start_of(filtered, initial, laws)
    return dual_filtered(_layer, filtered, start, layers, tolerance, max_layers, keep)


def _layer(rho: Any, arrays: tuple, z: Int[Array, "T *batch"]) -> Any:
    return layer_scaled(rho, *arrays, z) if isinstance(rho, Scaled) else layer(rho, *arrays, z)
