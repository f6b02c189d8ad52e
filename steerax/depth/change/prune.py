r"""Remove the heads and neurons that cost least, until a number of parameters is left.

Which ones is predicted from costates, as in `importance`, but for any network made of GPT blocks: multiply the output
rows of head or neuron $i$ by a gate $g_i$; with $\ell_b$ the summed loss of a sequence and $N$ scored tokens, removal
costs about $\frac1N\big(-\sum_b\partial_{g_i}\ell_b+\frac12\sum_b\mathbb E(\partial_{g_i}\tilde\ell_b)^2\big)$ nats per
token, the second sum with labels drawn from the network. The least cost per parameter goes first.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from ..._bounds import COUNT, bounded
from ..._compiled import keep_few
from ..._errors import ConfigurationError
from ...transformer.gpt import GPT
from ..measure.importance import Gates, blocks_of, removal_effects, with_gates
from ..measure.scoring import in_full_precision, scored_tokens
from .grouped import GroupedGPT
from .resample import Resampled


class Pruned(eqx.Module):
    """A network without some of its heads and neurons. `pruned(tokens) -> logits [T V]`.

    The removed parts are zeros in arrays of the old shape: no memory is saved, and gradients leave them at zero (both
    factors of every product vanish), so that `tune` tunes only what is left.

    **Attributes:** `network`, a `GPT` or `GroupedGPT` with zeros; `heads` `[L H]` and `neurons` `[L W]`, what is
    left; `n_parameters`, without what was removed.
    """

    network: GPT | GroupedGPT
    heads: Bool[np.ndarray, "L H"]
    neurons: Bool[np.ndarray, "L W"]

    @property
    def n_parameters(self) -> int:
        """How many numbers are left."""
        per_head, per_neuron = _parameters_per_part(self.network.config)
        return self.network.n_parameters - int((~self.heads).sum()) * per_head - int((~self.neurons).sum()) * per_neuron

    def __call__(self, tokens: Int[Array, " T"], *, key: Key[Array, ""] | None = None) -> Float[Array, "T V"]:
        """Logits."""
        return self.network(tokens, key=key)


@bounded(parameters=COUNT, draws=COUNT, rounds=COUNT)
def prune(
    network: GPT | GroupedGPT | Resampled,
    parameters: int,
    data: Any,
    key: PRNGKeyArray,
    *,
    draws: int = 4,
    rounds: int = 4,
) -> Pruned:
    """Remove the heads and neurons that are predicted to cost least per parameter.

    **Arguments:** `parameters`, how many may be left at most; `data`, tokens int `[B T]` or `Sequences` to predict on;
    `draws` of labels; `rounds`, after each of which the predictions are made anew.

    **Raises:** `ConfigurationError` if everything outside heads and neurons has more parameters than that;
    `DataError` for unusable data.
    """
    keep_few()
    inner: Any = in_full_precision(network.network if isinstance(network, Resampled) else network)
    tokens, targets = scored_tokens(inner, data)
    config, blocks = inner.config, blocks_of(inner)
    shape = config.n_layer, config.n_head
    kept = Gates(np.ones(shape, bool), np.ones((config.n_layer, blocks.down.weight.shape[1]), bool))
    cost = Gates(*_parameters_per_part(config))
    least = inner.n_parameters - kept.heads.size * cost.heads - kept.neurons.size * cost.neurons
    if not least <= parameters:
        raise ConfigurationError(f"Without heads and neurons {least:,} parameters are left; {parameters:,} cannot be.")
    excess = inner.n_parameters - parameters
    for turn in range(rounds):
        worth = jax.tree.map(jnp.add, *removal_effects(inner, tokens, targets, jax.random.fold_in(key, turn), draws))
        kept = without_cheapest(kept, worth, cost, excess * (turn + 1) / rounds)
        inner = with_gates(inner, Gates(jnp.asarray(kept.heads), jnp.asarray(kept.neurons)), silence=True)
    return Pruned(inner, *kept)


def _parameters_per_part(config: Any) -> tuple[int, int]:
    """Parameters that only one head has, and only one neuron."""
    D, K, bias = config.n_embd, config.n_embd // config.n_head, int(config.bias)
    return 4 * D * K + 3 * K * bias, 2 * D + bias


def without_cheapest(kept: Gates, worth: Gates, cost: Gates, excess: float) -> Gates:
    """Drop parts in the order of worth per parameter until `excess` parameters are gone, counting those gone before."""
    flags = np.concatenate([kept.heads.ravel(), kept.neurons.ravel()])
    sizes = np.repeat([cost.heads, cost.neurons], [kept.heads.size, kept.neurons.size])
    values = np.concatenate([worth.heads.ravel(), worth.neurons.ravel()])
    order = np.argsort(np.where(flags, values / sizes, -np.inf), kind="stable")  # those gone come first
    gone = np.concatenate([[0], np.cumsum(sizes[order])])
    flags[order[: int(np.searchsorted(gone, excess))]] = False
    heads, neurons = np.split(flags, [kept.heads.size])
    return Gates(heads.reshape(kept.heads.shape), neurons.reshape(kept.neurons.shape))
