"""The dual filter: inference as layers of innovations, from any start to the filter."""

from typing import Any

from jaxtyping import Array, Int

from ..._bounds import COUNT_OR_ZERO, NOT_NEGATIVE, bounded
from ...models.hmm import HiddenMarkovModel
from ..hmm.dual import of_chain
from ..hmm.kernels.scaled import Scaled
from ..layers import Layers, stationary_of
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
    run = filter_series(hmm, data, on_impossible).run
    options = Layers(layers, initial, tolerance, max_layers, keep, scheme)
    return of_chain(options, run, _layer, lambda: stationary_of(hmm))


def _layer(rho: Any, arrays: tuple, z: Int[Array, "T *batch"]) -> Any:
    return layer_scaled(rho, *arrays, z) if isinstance(rho, Scaled) else layer(rho, *arrays, z)
