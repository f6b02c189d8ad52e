"""Emissions made of others: mixtures in each state, and products over channels."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from ..._bounds import COUNT
from ..._errors import ConfigurationError
from .base import AbstractEmission, Family, Prior, check_kind, checked, logs, require

_BY_ITSELF = (
    "The {} cannot read the observations before, nor inputs; use an Autoregressive emission or a Regression by itself."
)


class Mixture(AbstractEmission):
    r"""$p(z\mid x)=\sum_kw_{x,k}\,p_{x,k}(z)$: `K` components in each state.

    **Arguments:** `weights` `[d K]`, rows that sum to one; `components`, an emission of $dK$ states, those of state 0 first.

    **Raises:** `DataError` for rows that are no distributions, or another number of components.
    """

    weights: Float[Array, "d K"]
    components: AbstractEmission

    def __init__(self, weights: Any, components: AbstractEmission):
        (self.weights,) = checked(weights=(weights, 2))
        self.components = components
        require(components.reads is None, _BY_ITSELF.format("components of a mixture"))
        near = np.sqrt(np.finfo(self.weights.dtype).eps)
        require((self.weights >= 0).all(), "`weights` holds a negative entry.")
        require((jnp.abs(self.weights.sum(-1) - 1) <= near).all(), "A row of `weights` does not sum to one.")
        require(
            components.n_states == self.weights.size,
            f"`components` has {components.n_states} distributions; weights {self.weights.shape} need {self.weights.size}.",
        )

    @property
    def support(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.components.support

    @property
    def n_states(self) -> int:
        return self.weights.shape[0]

    @property
    def n_channels(self) -> int:
        return self.components.n_channels

    @property
    def n_parameters(self) -> int:
        return self.weights.size - self.n_states + self.components.n_parameters

    @property
    def means(self) -> Float[Array, "d p"]:
        return jnp.einsum("dk,dkp->dp", self.weights, self._by_state(self.components.means))

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        means = self._by_state(self.components.means)
        apart = means - self.means[:, None]
        within = self._by_state(self.components.covariances) + apart[..., :, None] * apart[..., None, :]
        return jnp.einsum("dk,dkpq->dpq", self.weights, within)

    def discrete(self) -> Bool[np.ndarray, " p"]:
        return self.components.discrete()

    def outside(self, z: Float[np.ndarray, "*n p"]) -> Bool[np.ndarray, "*n p"]:
        return self.components.outside(z)

    @classmethod
    def never(cls, z: Float[np.ndarray, "N p"], **options: Any) -> Bool[np.ndarray, "N p"]:
        return options["component"].outside(z)

    def _by_state(self, values: Array) -> Array:
        return values.reshape(*self.weights.shape, *values.shape[1:])

    def _joint(self, z: Float[Array, "N p"]) -> Float[Array, "N d K"]:
        """Log-likelihoods of component and observation."""
        found = self.components.log_densities(z).reshape(-1, *self.weights.shape)
        possible = (self.weights > 0)[None]
        return jnp.where(possible, jnp.log(jnp.where(possible, self.weights[None], 1)) + found, -jnp.inf)

    def log_densities(self, z: Float[Array, "N p"]) -> Float[Array, "N d"]:
        joint = self._joint(z)
        possible = jnp.isfinite(joint).any(-1)
        safe = jnp.where(possible[..., None], joint, 0)
        return jnp.where(possible, logsumexp(safe, -1), -jnp.inf)

    def below(self, z: Float[Array, "N p"]) -> Float[Array, "N d p"]:
        parts = self.components.below(z)
        return jnp.einsum("dk,ndkp->ndp", self.weights, parts.reshape(len(z), *self.weights.shape, -1))

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        first, second = jax.random.split(key)
        component = jax.random.categorical(first, jnp.log(self.weights)[states])
        return self.components.sample(second, states * self.weights.shape[1] + component)

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> Any:
        joint = self._joint(z)
        largest = jnp.where(jnp.isfinite(joint), joint, -jnp.inf).max(-1, keepdims=True)
        shares = jnp.exp(joint - jnp.where(jnp.isfinite(largest), largest, 0))
        total = shares.sum(-1, keepdims=True)
        mine = weights[..., None] * shares / jnp.where(total > 0, total, 1)
        mine = jnp.where(jnp.isnan(z).all(-1)[:, None, None], 0, mine)
        return mine.sum(0), self.components.statistics(mine.reshape(len(z), -1), z)

    def maximised(self, statistics: Any, prior: Prior) -> "Mixture":
        counts, inner = statistics
        counts = counts + jnp.where(self.weights > 0, prior.weight / self.weights.shape[1], 0)
        total = counts.sum(-1, keepdims=True)
        weights = jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), self.weights)
        found = weights, self.components.maximised(inner, prior)
        return eqx.tree_at(lambda m: (m.weights, m.components), self, found)

    def translated(self, statistics: Any, before: "Mixture") -> Any:
        counts, inner = statistics
        return counts, self.components.translated(inner, before.components)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        logs = jnp.where(self.weights > 0, jnp.log(jnp.where(self.weights > 0, self.weights, 1)), 0)
        return prior.weight / self.weights.shape[1] * logs.sum() + self.components.log_prior(prior)

    @property
    def free(self) -> tuple[Array, Any]:
        return logs(self.weights), self.components.free

    def with_free(self, free: Any) -> "Mixture":
        logits, inner = free
        found = jax.nn.softmax(logits), self.components.with_free(inner)
        return eqx.tree_at(lambda m: (m.weights, m.components), self, found)

    def permuted(self, order: Int[np.ndarray, " n"]) -> "Mixture":
        K = self.weights.shape[1]
        inner = (np.asarray(order)[:, None] * K + np.arange(K)).ravel()
        return Mixture(self.weights[order], self.components.permuted(inner))

    @classmethod
    def kind(cls, n_components: int, component: Family | Any) -> Family:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The kind with this many components of a kind in each state. **Raises:** `ConfigurationError` for what is no kind or number."""
        COUNT.check("n_components", n_components)
        check_kind("component", component)
        require(component.lags == component.n_inputs == 0, _BY_ITSELF.format("components of a mixture"))
        return Family(cls, (("n_components", n_components), ("component", component)))

    @classmethod
    def started(
        cls, weights: Any, z: Any, prior: Prior, rng: Any, *, n_components: int, component: Family
    ) -> "Mixture":
        """Components about observations of each state that lie apart."""
        filled = np.where(np.isnan(z), np.asarray(prior.centre), z) / np.sqrt(np.asarray(prior.spread))
        parts = []
        for w in np.asarray(weights).T:
            share = w / w.sum() if w.sum() > 0 else np.full(len(w), 1 / len(w))
            centres = spread_out(filled, n_components, rng, share)
            near = ((filled[:, None] - centres) ** 2).sum(-1)
            parts.append(w[:, None] * np.eye(n_components)[near.argmin(1)])
        inner = component.started(np.concatenate(parts, axis=1), z, prior, rng)
        d = weights.shape[1]
        return cls(jnp.full((d, n_components), 1 / n_components, prior.centre.dtype), inner)


class Product(AbstractEmission):
    r"""$p(z\mid x)=\prod_ip_i(z_i\mid x)$: groups of channels that are independent given the state.

    **Arguments:** `parts`, emissions of the same number of states; their channels follow each other.

    **Raises:** `DataError` for no parts or unlike numbers of states.
    """

    parts: tuple[AbstractEmission, ...]

    def __init__(self, parts: Any):
        self.parts = tuple(parts)
        require(self.parts, "A product of emissions needs at least one part.")
        require(all(part.reads is None for part in self.parts), _BY_ITSELF.format("parts of a product"))
        require(
            len({part.n_states for part in self.parts}) == 1,
            f"The parts of a product have {[part.n_states for part in self.parts]} states; all need the same number.",
        )

    @property
    def support(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        said = [
            f"{part.support} in channels {a} to {b - 1}"
            for part, (a, b) in zip(self.parts, self._channels, strict=True)
        ]
        return "; ".join(said)

    @property
    def _channels(self) -> list[tuple[int, int]]:
        ends = np.cumsum([0, *(part.n_channels for part in self.parts)])
        return [(int(a), int(b)) for a, b in itertools.pairwise(ends)]

    def _each(self, z: Any) -> list[tuple[AbstractEmission, Any]]:
        return [(part, z[..., a:b]) for part, (a, b) in zip(self.parts, self._channels, strict=True)]

    @property
    def n_states(self) -> int:
        return self.parts[0].n_states

    @property
    def n_channels(self) -> int:
        return sum(part.n_channels for part in self.parts)

    @property
    def n_parameters(self) -> int:
        return sum(part.n_parameters for part in self.parts)

    @property
    def means(self) -> Float[Array, "d p"]:
        return jnp.concatenate([part.means for part in self.parts], axis=-1)

    @property
    def covariances(self) -> Float[Array, "d p p"]:
        found = jnp.zeros((self.n_states, self.n_channels, self.n_channels), self.means.dtype)
        for part, (a, b) in zip(self.parts, self._channels, strict=True):
            found = found.at[:, a:b, a:b].set(part.covariances)
        return found

    def discrete(self) -> Bool[np.ndarray, " p"]:
        return np.concatenate([part.discrete() for part in self.parts])

    def outside(self, z: Float[np.ndarray, "*n p"]) -> Bool[np.ndarray, "*n p"]:
        return np.concatenate([part.outside(own) for part, own in self._each(z)], axis=-1)

    @classmethod
    def never(cls, z: Float[np.ndarray, "N p"], **options: Any) -> Bool[np.ndarray, "N p"]:
        parts = options["parts"]
        ends = np.cumsum([0, *(number for _, number in parts)])
        require(ends[-1] == z.shape[-1], f"The parts of the product have {ends[-1]} channels, the data {z.shape[-1]}.")
        cuts = zip(parts, ends[:-1], ends[1:], strict=True)
        return np.concatenate([family.outside(z[:, a:b]) for (family, _), a, b in cuts], axis=-1)

    def log_densities(self, z: Float[Array, "N p"]) -> Float[Array, "N d"]:
        return sum((part.log_densities(own) for part, own in self._each(z)), jnp.zeros((), z.dtype))

    def below(self, z: Float[Array, "N p"]) -> Float[Array, "N d p"]:
        return jnp.concatenate([part.below(own) for part, own in self._each(z)], axis=-1)

    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        keys = jax.random.split(key, len(self.parts))
        return jnp.concatenate([p.sample(k, states) for p, k in zip(self.parts, keys, strict=True)], axis=-1)

    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N p"]) -> Any:
        return tuple(part.statistics(weights, own) for part, own in self._each(z))

    def maximised(self, statistics: Any, prior: Prior) -> "Product":
        found = tuple(
            part.maximised(own, prior.channels(a, b))
            for part, own, (a, b) in zip(self.parts, statistics, self._channels, strict=True)
        )
        return eqx.tree_at(lambda e: e.parts, self, found)

    def translated(self, statistics: Any, before: "Product") -> Any:
        parts = zip(self.parts, statistics, before.parts, strict=True)
        return tuple(part.translated(own, other) for part, own, other in parts)

    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        parts = zip(self.parts, self._channels, strict=True)
        return sum((part.log_prior(prior.channels(a, b)) for part, (a, b) in parts), jnp.zeros(()))

    @property
    def free(self) -> tuple[Any, ...]:
        return tuple(part.free for part in self.parts)

    def with_free(self, free: Any) -> "Product":
        parts = tuple(part.with_free(own) for part, own in zip(self.parts, free, strict=True))
        return eqx.tree_at(lambda e: e.parts, self, parts)

    def permuted(self, order: Int[np.ndarray, " n"]) -> "Product":
        return Product(part.permuted(order) for part in self.parts)

    @classmethod
    def kind(cls, *parts: tuple[Family, int] | Any) -> Family:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The kind of these parts, each `(kind, number of channels)`. **Raises:** `ConfigurationError` for what is none."""
        for part in parts:
            if not isinstance(part, tuple | list) or len(part) != 2:
                raise ConfigurationError(f"A part of a product is (kind, number of channels), not {part!r}.")
            check_kind("kind", part[0])
            COUNT.check("The number of channels", part[1])
        if not parts:
            raise ConfigurationError("A product needs at least one part, (Gaussian.kind(), 2) for instance.")
        parts = tuple((family, number) for family, number in parts)
        require(
            all(family.lags == family.n_inputs == 0 for family, _ in parts), _BY_ITSELF.format("parts of a product")
        )
        return Family(cls, (("parts", parts),))

    @classmethod
    def started(
        cls, weights: Any, z: Any, prior: Prior, rng: Any, *, parts: tuple[tuple[Family, int], ...]
    ) -> "Product":
        ends = np.cumsum([0, *(number for _, number in parts)])
        cuts = zip(parts, ends[:-1], ends[1:], strict=True)
        return cls(
            family.started(weights, z[..., a:b], prior.channels(int(a), int(b)), rng) for (family, _), a, b in cuts
        )


def spread_out(points: Float[np.ndarray, "N p"], number: int, rng: np.random.Generator, share: Any) -> np.ndarray:
    """Points that lie apart, each drawn with the squared distance from those before ([ArthurVassilvitskii2007])."""
    chosen = [points[rng.choice(len(points), p=share)]]
    for _ in range(number - 1):
        distance = share * np.min([((points - c) ** 2).sum(1) for c in chosen], axis=0)
        total = distance.sum()
        chosen.append(points[rng.choice(len(points), p=distance / total if total > 0 else share)])
    return np.array(chosen)
