"""A causal test: does the network use the belief that a probe reads? Write another one and compare with Bayes' answer."""

import dataclasses
import numbers
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._errors import ConfigurationError, DataError
from ..data.convert import as_sequences
from ..inference.verbs import filter as exact_filter
from ..maths.keys import generator
from ..models.generalised import as_generalised
from .readout import fit_map
from .streams import half_steps, hidden_states, is_network
from .targets import strings_of

CONTROLS = {
    "no change": "the network on its own string",
    "whole stream": "the other string's residual stream at this place, everything in it",
    "random direction": "a change of the same size in a random direction",
    "wrong belief": "the belief of a third string",
}


@dataclasses.dataclass(frozen=True)
class Swapped:
    r"""What `swap` returns. Divergences are of the network's next-token distribution from Bayes' answer, in nats, means over
    pairs of strings with standard errors.

    **Attributes:** `place`, the half-step that was written to; `shares` `[n]`, $\lambda$, how much of the other belief was
    written; `divergence` and `divergence_error` `[n]`, from the exact answer at the belief $(1-\lambda)b+\lambda b'$; `controls`,
    name → (divergence from the answer at $b'$, standard error) of each of `CONTROLS`; `floor`, of the network that read the
    other string itself.
    """

    place: str
    shares: Float[np.ndarray, " n"]
    divergence: Float[np.ndarray, " n"]
    divergence_error: Float[np.ndarray, " n"]
    controls: dict[str, tuple[float, float]]
    floor: tuple[float, float]

    @property
    def effect(self) -> float:
        """The part of the way from "no change" to the floor that writing the belief goes: 1 is all of it. NaN where there is no
        way to go: the two are within five standard errors."""
        (start, error), end = self.controls["no change"], self.floor[0]
        return float((start - self.divergence[-1]) / (start - end)) if start > end + 5 * error else float("nan")

    def summary(self) -> str:
        """The test in lines of text."""
        rows = [("belief written", self.divergence[-1], self.divergence_error[-1])]
        rows += [(name, *value) for name, value in self.controls.items()]
        rows.append(("floor: reads the other string", *self.floor))
        width = max(len(name) for name, *_ in rows)
        lines = [f"{name:<{width}}  {value:.5f} ± {error:.5f} nats" for name, value, error in rows]
        reached = "" if np.isnan(self.effect) else f"; {self.effect:.0%} of the way"
        return "\n".join([f"after {self.place}{reached}", *lines])


def swap(
    network: Any, model: Any, tokens: Any, other_tokens: Any, layer: int | str = -1, *, steps: int = 5, key: Any = 0
) -> Swapped:
    r"""Write the belief of another string into the residual stream at the last position, and see what the network predicts.

    The stream is changed by $(b'-b)B$, $B$ the least-squares map from beliefs to the stream, fitted on both sets of strings at
    the last position: only what varies with the belief is written. The rest of the network runs on. For $\lambda$ between 0 and 1
    the change is $\lambda(b'-b)B$.

    **Arguments:** `network`, of the house; `model`, the process; `tokens` and `other_tokens` `[B T]`, as many strings of one length;
    `layer`, the half-step that is written to, by name (`"attention"`, `"MLP 2"`, …) or number (0 is the embedding, −1 the last);
    `steps`, values of $\lambda$ above 0; `key`, of the controls.

    **Raises:** `ConfigurationError` for another network or place; `DataError` for strings that do not fit together.
    """
    if not (is_network(network) and hasattr(network, "block")):
        raise ConfigurationError(f"swap writes into a network of the house, not a {type(network).__name__}.")
    process = as_generalised(model)
    own, other = strings_of(tokens, process), strings_of(other_tokens, process)
    if own.shape != other.shape:
        raise DataError(f"Both sets hold as many strings of one length, not {own.shape} and {other.shape}.")
    if not (isinstance(steps, int) and 1 <= steps <= 1000):
        raise ConfigurationError(f"steps is {steps!r}; it must be a whole number from 1 to 1000.")
    streams, others = hidden_states(network, own), hidden_states(network, other)
    names = half_steps(len(streams))
    at = _place(layer, names)
    b, b_other = (_last_belief(process, strings) for strings in (own, other))
    X, X_other = (np.asarray(s[at, :, -1], np.float64) for s in (streams, others))
    written = fit_map(np.concatenate([b, b_other]), np.concatenate([X, X_other]), np.ones(2 * len(b)), 1e-6)
    change = (b_other - b) @ written.weight
    rng = generator(key)
    third = rng.permutation(len(b))
    random = rng.normal(size=change.shape)
    random *= np.linalg.norm(change, axis=1, keepdims=True) / np.linalg.norm(random, axis=1, keepdims=True)
    answer = lambda belief: _next(process, belief)
    run = lambda delta: _finish(network, jnp.asarray(streams[at]), jnp.asarray(delta, streams.dtype), at)
    said = lambda exact, delta: _divergence(exact, np.asarray(run(delta), np.float64))
    shares = np.linspace(0, 1, steps + 1)
    curve = [said(answer((1 - s) * b + s * b_other), s * change) for s in shares]
    goal, wrong = answer(b_other), (b_other[third] - b) @ written.weight
    changes = {"no change": 0 * change, "whole stream": X_other - X, "random direction": random, "wrong belief": wrong}
    controls = {name: said(goal, delta) for name, delta in changes.items()}
    floor = _divergence(goal, np.asarray(_finish(network, jnp.asarray(others[at]), jnp.zeros_like(others[at][:, 0]), at), np.float64))  # fmt: skip
    divergence, error = np.array(curve).T
    return Swapped(names[at], shares, divergence, error, controls, floor)


def _place(layer: int | str, names: list[str]) -> int:
    if isinstance(layer, str):
        if layer not in names:
            raise ConfigurationError(f"There is no place {layer!r}; this network has {', '.join(names)}.")
        return names.index(layer)
    if not isinstance(layer, numbers.Integral) or not -len(names) <= layer < len(names):
        raise ConfigurationError(f"There is no half-step {layer}; this network has 0 to {len(names) - 1}.")
    return layer % len(names)


def _last_belief(process, strings) -> Float[np.ndarray, "B d"]:
    return np.asarray(exact_filter(process, as_sequences(strings, "tokens")).predicted, np.float64)[:, -1]


def _next(process, beliefs: Float[np.ndarray, "B d"]) -> Float[np.ndarray, "B V"]:
    q = np.maximum(
        beliefs @ (np.asarray(process.operators, np.float64) @ np.asarray(process.evaluation, np.float64)).T, 0
    )
    return q / q.sum(1, keepdims=True)


def _divergence(exact: Float[np.ndarray, "B V"], log_found: Float[np.ndarray, "B V"]) -> tuple[float, float]:
    """Mean and standard error of the divergence."""
    rows = np.where(exact > 0, exact * (np.log(np.where(exact > 0, exact, 1)) - log_found), 0).sum(1)
    return float(rows.mean()), float(rows.std(ddof=1) / np.sqrt(len(rows)))


@eqx.filter_jit
def _finish(network: Any, X: Float[Array, "B T D"], delta: Float[Array, "B D"], at: int) -> Float[Array, "B V"]:
    """Log-probabilities after the last token, from a residual stream after half-step `at` with the last position changed."""

    def one(x, change):
        x = x.at[-1].add(change)
        for m in range(at, 2 * network.config.n_layer):
            block = network.block(m // 2)
            x = x + (block.mlp_increment(x) if m % 2 else block.attention_increment(x))
        return jax.nn.log_softmax(network.unembed(x)[-1])

    return jax.vmap(one)(X, delta)
