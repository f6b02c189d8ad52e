"""Forecasts of a conditionally Markov model: exact for the next token, simulated beyond, since tokens to come move the kernels."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..._bounds import COUNT, bounded
from ...data.sequences import Sequences
from ...maths.keys import as_key
from ...models.conditional import AbstractConditionalHMM
from ...models.transitions import cumulative, draw
from ..tokens import SimulatedForecast, TokenForecast, Tokens, last_states
from .filter import FilteredTokens, filter_tokens, steps_of
from .kernels.recursions import advance
from .kernels.scaled import filter_traced


@bounded(samples=COUNT)
def forecast_tokens(
    model: AbstractConditionalHMM,
    data: Tokens,
    steps: int,
    *,
    samples: int = 2048,
    key: Any = 0,
    on_impossible: str = "raise",
) -> TokenForecast:
    r"""The distributions of the next tokens, from each sequence's own end.

    The first one is exact. Beyond, the tokens to come drive the kernels, so the forecast is the mean over `samples` futures drawn
    from the model of the exact distribution given each future's own tokens (`method` says `"simulated"`, `standard_error` how far it
    may be off). A future is drawn token by token from the belief, not from a path of states. Where a gap is summed over (exact lags of
    states with constant weights) every step is exact, by missing tokens.

    **Raises:** as `filter_tokens`.
    """
    filtered = filter_tokens(model, data, on_impossible)
    beliefs, keys = last_states(filtered, data), as_key(key)
    z = jnp.asarray(filtered.read)
    if model.sums_gaps:
        return _by_gaps(model, filtered, data, steps)
    run = lambda belief, z, length, key: _simulated(model, belief, z, length, key, steps, samples)
    if not isinstance(data, Sequences):
        probabilities, states, error = run(beliefs, z, len(z), keys)
    else:
        each = jax.random.split(keys, data.number)
        probabilities, states, error = jax.vmap(run, (0, 1, 0, 0))(beliefs, z, jnp.asarray(data.lengths), each)
    return SimulatedForecast(probabilities, states, filtered.result, error)


def _by_gaps(model: AbstractConditionalHMM, filtered: FilteredTokens, data: Tokens, steps: int) -> TokenForecast:
    """The states and tokens of the steps to come, as the filter predicts them along missing tokens."""
    z = jnp.asarray(filtered.read)
    longer = jnp.concatenate([z, jnp.full((steps - 1, *z.shape[1:]), -1, z.dtype)])
    mu, (c, K) = model.initial, steps_of(model, longer)
    possible = jnp.concatenate([jnp.asarray(filtered.tokens) == z, jnp.ones((steps - 1, *z.shape[1:]), bool)])
    states, _, _ = filter_traced(mu, jnp.where(possible[..., None], c, 1), K)
    if isinstance(data, Sequences):
        at = jnp.asarray(data.lengths)[:, None] + jnp.arange(steps)[None]
        ahead = states[at, jnp.arange(data.number)[:, None]]
    else:
        ahead = states[len(z) :]
    return TokenForecast(ahead @ model.emission, ahead, filtered.result)


@eqx.filter_jit
def _simulated(
    model: AbstractConditionalHMM, belief: Float[Array, " d"], z: Any, length: Any, key: Any, steps: int, samples: int
):
    """`(probabilities [steps V], states [steps d], standard errors [steps V])`."""
    kept = len(z) if model.memory is None else model.memory
    padded = jnp.concatenate([jnp.full(kept, -1, z.dtype), z, jnp.full(steps, -1, z.dtype)])
    if model.memory is None:
        tokens, start = padded[kept:], length
    else:
        tokens = lax.dynamic_slice_in_dim(padded, length, kept + steps)
        tokens, start = jnp.where(jnp.arange(kept + steps) < kept, tokens, -1), kept

    def one(key):
        def step(carry, given):
            p, tokens = carry
            n, u = given
            C = model.emission_at(tokens, start + n)
            q = jnp.sum(p[:, None] * C, 0)
            token = draw(cumulative(q), u)
            tokens = tokens.at[start + n].set(token.astype(tokens.dtype))
            after, _ = advance(p, C[:, token], model.kernel_at(tokens, start + n))
            return (after, tokens), (q, p)

        u = jax.random.uniform(key, (steps,), belief.dtype)
        return lax.scan(step, (belief, tokens), (jnp.arange(steps), u))[1]

    q, p = lax.map(one, jax.random.split(key, samples), batch_size=min(samples, 256))
    error = jnp.std(q, 0) / jnp.sqrt(samples)
    return q.mean(0), p.mean(0), error.at[0].set(0)
