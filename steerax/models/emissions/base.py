"""What a hidden state emits when it is not a token: distributions of real numbers and counts, one for each state."""

import abc
import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..._errors import ConfigurationError, DataError
from ...maths.precision import in_one_precision

_SMALLEST = 1e-6  # probabilities, rates and means below it start at it where they are trained by gradients


class Prior(NamedTuple):
    r"""What keeps an M-step away from the edges: `weight` observations that nobody made, as [FraleyRaftery2007] have them.

    **Attributes:** `weight`, of the prior in observations, 0 for maximum likelihood; `pseudocount`, added to the expected
    count of every symbol of a `Categorical`; `centre` `[p]`, means of the data; `spread` `[p]`, their variances over
    $d^{2/p}$, the variance of one of `d` equal parts of the data's space. Where the middle half of the data lies closer
    together than that of a Gaussian of their variance, the variance is that of the Gaussian with this middle half: heavy
    tails say nothing about the width of a state. Columns of known inputs stand behind those of the `p` channels, `[p+q]`.
    """

    weight: Float[Array, ""]
    pseudocount: Float[Array, ""]
    centre: Float[Array, " p"]
    spread: Float[Array, " p"]

    @classmethod
    def of(
        cls,
        z: Float[np.ndarray, "N w"],
        n_states: int,
        weight: float,
        pseudocount: float,
        dtype: Any,
        n_inputs: int = 0,
    ) -> "Prior":
        """The prior of some data, NaN where missing, of which the last columns are inputs."""
        seen = np.isfinite(z)
        number = np.maximum(seen.sum(0), 1)
        centre = np.where(seen, z, 0).sum(0) / number
        variance = np.where(seen, (z - centre) ** 2, 0).sum(0) / number
        some = np.where(seen.any(0), z, 0)
        half = np.diff(np.nanquantile(some, [0.25, 0.75], axis=0), axis=0)[0] / 1.349
        variance = np.where(half > 0, np.minimum(variance, half**2), variance)
        spread = np.where(variance > 0, variance, 1) / n_states ** (2 / (z.shape[1] - n_inputs))
        return cls(*(jnp.asarray(a, dtype) for a in (weight, pseudocount, centre, spread)))

    def channels(self, start: int, stop: int) -> "Prior":
        """The prior of some of the channels."""
        return self._replace(centre=self.centre[start:stop], spread=self.spread[start:stop])


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of emission that can be fitted: what `HMM(n_states, emission=…)` takes. Get one by `Gaussian.kind(…)`."""

    emission: type["AbstractEmission"]
    options: tuple[tuple[str, Any], ...] = ()

    def __repr__(self) -> str:
        return f"{self.emission.__name__}.kind({', '.join(f'{name}={value!r}' for name, value in self.options)})"

    @property
    def lags(self) -> int:
        """Those of its emissions."""
        return dict(self.options).get("lags", 0)

    @property
    def n_inputs(self) -> int:
        """That of its emissions."""
        return dict(self.options).get("inputs", 0)

    def started(
        self, weights: Float[np.ndarray, "N d"], z: Float[np.ndarray, "N w"], prior: Prior, rng: np.random.Generator
    ) -> "AbstractEmission":
        """An emission that fits the observations as far as they belong to each state."""
        return self.emission.started(weights, z, prior, rng, **dict(self.options))

    def outside(self, z: Float[np.ndarray, "N p"]) -> Bool[np.ndarray, "N p"]:
        """Where observations lie outside of the support of every emission of the kind."""
        return self.emission.never(z, **dict(self.options))


class AbstractEmission(eqx.Module):
    r"""The distributions $p(z\mid x)$ of an observation of $p$ channels, one for each of $d$ states.

    A channel of `NaN` is missing: it is integrated out, and an observation without any channel has likelihood one. Arrays of
    observations are `[… p]`; what belongs to states has them as the last axis, `[… d]`.
    """

    support: ClassVar[str] = "numbers"  # what an observation may be, for a sentence

    @property
    @abc.abstractmethod
    def n_states(self) -> int:
        """$d$."""

    @property
    @abc.abstractmethod
    def n_channels(self) -> int:
        """$p$."""

    @property
    def lags(self) -> int:
        r"""$L$, how many observations before it the distribution of one reads. With any, methods take windows $(z_t,z_{t-1},\dots,z_{t-L})$
        of $w=p(L+1)$ numbers in place of observations."""
        return 0

    @property
    def n_inputs(self) -> int:
        r"""$q$, how many known inputs $u_t$ the distribution reads: the last columns of data, so that methods take rows $(z_t,u_t)$ of
        $w=p+q$ numbers in place of observations."""
        return 0

    @property
    def n_columns(self) -> int:
        """$p+q$, the columns of data."""
        return self.n_channels + self.n_inputs

    @property
    def reads(self) -> str | None:
        """What it depends on besides the state, for a sentence; `None` for nothing."""
        return None

    @property
    @abc.abstractmethod
    def n_parameters(self) -> int:
        """Free parameters."""

    def log_likelihoods(self, z: Float[Array, "*n w"]) -> Float[Array, "*n d"]:
        r"""$\log p(z\mid x)$ of every observation for every state, nats; −∞ outside of the support."""
        return self.log_densities(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], self.n_states)

    @abc.abstractmethod
    def log_densities(self, z: Float[Array, "N w"]) -> Float[Array, "N d"]:
        """`log_likelihoods` of a list of observations."""

    @property
    @abc.abstractmethod
    def means(self) -> Float[Array, "d p"]:
        r"""$\mathbb E(Z\mid x)$; NaN where it does not exist."""

    def means_given(self, given: Float[Array, "N k"]) -> Float[Array, "N d p"]:
        r"""`means` after pasts $(z_{t-1},\dots,z_{t-L})$, or for inputs $u_t$."""
        return jnp.broadcast_to(self.means, (len(given), *self.means.shape))

    @property
    @abc.abstractmethod
    def covariances(self) -> Float[Array, "d p p"]:
        r"""$\mathrm{cov}(Z\mid x)$; infinite or NaN where it does not exist."""

    def cumulative(self, z: Float[Array, "*n w"]) -> Float[Array, "*n d p"]:
        r"""$P(Z_c\le z_c\mid x)$ of every channel by itself."""
        return self.below(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], self.n_states, self.n_channels)

    @abc.abstractmethod
    def below(self, z: Float[Array, "N w"]) -> Float[Array, "N d p"]:
        """`cumulative` of a list of observations."""

    def discrete(self) -> Bool[np.ndarray, " p"]:
        """Which channels hold whole numbers."""
        return np.zeros(self.n_channels, bool)

    @abc.abstractmethod
    def sample(self, key: Any, states: Int[Array, "*n"]) -> Float[Array, "*n p"]:
        """One observation for each state of an array."""

    @abc.abstractmethod
    def statistics(self, weights: Float[Array, "N d"], z: Float[Array, "N w"]) -> Any:
        """Sums over observations that the M-step needs; those of several data sets add up."""

    @abc.abstractmethod
    def maximised(self, statistics: Any, prior: Prior) -> "AbstractEmission":
        """The M-step: emissions for which the expected log-likelihood plus `log_prior` is not smaller than before. A state
        without any weight keeps its distribution."""

    def translated(self, statistics: Any, before: Any) -> Any:
        """Statistics that the emission `before` of this kind collected, in the terms in which this one's `maximised` reads them;
        then they add up with this one's own."""
        return statistics

    @abc.abstractmethod
    def log_prior(self, prior: Prior) -> Float[Array, ""]:
        """The logarithm of the prior's density, up to a constant."""

    @property
    @abc.abstractmethod
    def free(self) -> Any:
        """The parameters as arrays of numbers without bounds, which gradients may move: logarithms of what is positive, logits of
        probabilities, roots of matrices. What is below 1e-6 starts at it."""

    @abc.abstractmethod
    def with_free(self, free: Any) -> Any:
        """The emission of this kind with other `free` parameters; of itself only shapes and options play a part."""

    @abc.abstractmethod
    def permuted(self, order: Int[np.ndarray, " n"]) -> "AbstractEmission":
        """The emissions of the states `order`, in that order."""

    @classmethod
    @abc.abstractmethod
    def started(
        cls, weights: Float[np.ndarray, "N d"], z: Float[np.ndarray, "N w"], prior: Prior, rng: Any, **options: Any
    ) -> "AbstractEmission":
        """An emission of this class for observations that belong to each state with these weights."""

    @classmethod
    def kind(cls, **options: Any) -> Family:
        """The kind of emission that `fit` searches: this class with these options."""
        return Family(cls, tuple(options.items()))

    def outside(self, z: Float[np.ndarray, "*n p"]) -> Bool[np.ndarray, "*n p"]:
        """Where observations (on the host) lie outside of the support, whatever the parameters."""
        return np.zeros(z.shape, bool)

    @classmethod
    def never(cls, z: Float[np.ndarray, "N p"], **options: Any) -> Bool[np.ndarray, "N p"]:
        """Where observations lie outside of the support of every emission of the kind with these options."""
        return np.zeros(z.shape, bool)

    def to_config(self) -> dict[str, Any]:
        """What a file needs besides the arrays: the class and its values that are no arrays, parts included."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"class": type(self).__name__} | {
            name: _config(value) for name, value in values.items() if not eqx.is_array(value)
        }


def _config(value: Any) -> Any:
    if isinstance(value, AbstractEmission):
        return value.to_config()
    return [_config(part) for part in value] if isinstance(value, tuple) else value


def from_config(config: Any, arrays: Mapping[str, Any], prefix: str = "emission.") -> Any:
    """The emission of `AbstractEmission.to_config` and arrays by their path."""
    if isinstance(config, list):
        return tuple(from_config(part, arrays, f"{prefix}{i}.") for i, part in enumerate(config))
    if not isinstance(config, dict):
        return config
    home = importlib.import_module(__name__.rpartition(".")[0])
    if config.get("class") not in home.__all__:
        raise DataError(f"There is no emission called {config.get('class')!r}.")
    own = {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}
    fields = {name: a for name, a in own.items() if "." not in name}
    fields |= {name: from_config(v, arrays, f"{prefix}{name}.") for name, v in config.items() if name != "class"}
    return getattr(home, config["class"])(**fields)


def checked(**arrays: tuple[Any, int]) -> list[Array]:
    """Arrays in one precision, each `(values, number of axes)`; finite unless traced. **Raises:** `DataError`."""
    values = in_one_precision(*(value for value, _ in arrays.values()), names=list(arrays))
    for (name, (_, ndim)), value in zip(arrays.items(), values, strict=True):
        if value.ndim != ndim or 0 in value.shape:
            raise DataError(f"`{name}` must be a non-empty array with {ndim} axes, but its shape is {value.shape}.")
        if not isinstance(value, Tracer) and not np.isfinite(np.asarray(value)).all():
            raise DataError(f"`{name}` holds an entry that is not finite.")
    return values


def require(condition: Any, sentence: str) -> None:
    """Raise `DataError` with a sentence unless a condition on host values holds; a traced one passes."""
    if not isinstance(condition, Tracer) and not bool(condition):
        raise DataError(sentence)


def logs(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Logarithms of numbers that are not negative; of those below 1e-6, that of 1e-6."""
    return jnp.log(jnp.maximum(values, _SMALLEST))


def check_option(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises `ConfigurationError` unless an option is one of its choices."""
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}.")


def check_kind(name: str, value: Any) -> None:
    """Raises `ConfigurationError` for what is no kind of an emission."""
    if not isinstance(value, Family):
        raise ConfigurationError(f"{name}={value!r} needs to be a kind of an emission, Gaussian.kind() for instance.")


def is_whole(z: Float[np.ndarray, "*n p"]) -> Bool[np.ndarray, "*n p"]:
    """Where numbers are whole and not negative, or missing."""
    return np.isnan(z) | ((z >= 0) & (z == np.floor(z)))


def equation_root(rising: Any, low: Float[Array, "*n"], high: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Where a function that rises from negative to positive is zero, by bisection between two arrays, to rounding."""

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        below = rising(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, 64, halve, (low, high))
    return (low + high) / 2
