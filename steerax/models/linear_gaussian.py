r"""Linear-Gaussian processes of any order: Markov, of order $m$, or with the whole past in every step."""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from .._errors import DataError
from ..maths.covariance import square_root
from ..maths.keys import as_key
from ..maths.precision import in_one_precision


class AbstractLinearGaussianModel(eqx.Module):
    r"""A hidden Gaussian process $X_0,X_1,\dots$ in $\mathbb R^d$, of which $Z_0,Z_1,\dots$ in $\mathbb R^p$ are seen,

    $$X_{t+1}=\sum_sA_{t,s}X_s+B_t,\quad Z_t=HX_t+c+W_t,\quad X_0\sim N(m_0,\Sigma_0),\ B_t\sim N(0,Q),\ W_t\sim N(0,R),$$

    all independent. The two kinds differ in what `transition` holds; see `LinearGaussianModel` (taps, the same
    at all times) and `TimeVaryingLinearGaussianModel` (a lower-triangular operator).

    **Arguments:** of both kinds, with `d` states and `p` channels,

    - `initial_mean`: $m_0$, `[d]`; `initial_covariance`: $\Sigma_0$, `[d d]`.
    - `transition`: see the two kinds.
    - `observation`: $H$, `[p d]`; `observation_offset`: $c$, `[p]`, zero by default.
    - `process_noise`: $Q$, `[d d]`; `observation_noise`: $R$, `[p p]`. Covariances may be singular.

    - `channels`: names of the `p` channels, or `None`; a fit keeps those of its data, and data with other names are refused.

    The arrays get one precision, the widest given.

    **Raises:** `DataError` for shapes that do not fit, entries that are not finite, or a covariance that is not
    symmetric or has a negative eigenvalue.
    """

    initial_mean: Float[Array, " d"]
    initial_covariance: Float[Array, "d d"]
    transition: Float[Array, "*lags d d"]
    observation: Float[Array, "p d"]
    process_noise: Float[Array, "d d"]
    observation_noise: Float[Array, "p p"]
    observation_offset: Float[Array, " p"]
    channels: tuple[str, ...] | None = eqx.field(static=True)
    extent: ClassVar[str]  # the name of the length of `transition`

    def __init__(
        self,
        initial_mean: Any,
        initial_covariance: Any,
        transition: Any,
        observation: Any,
        process_noise: Any,
        observation_noise: Any,
        observation_offset: Any = None,
        channels: Any = None,
    ):
        H = _matrix("observation", observation, 2)
        p, d = H.shape
        self.transition = self.checked_transition(transition, d)
        self.observation = H
        self.initial_mean = _shaped("initial_mean", initial_mean, (d,), H)
        self.initial_covariance = _covariance("initial_covariance", initial_covariance, (d, d), H)
        self.process_noise = _covariance("process_noise", process_noise, (d, d), H)
        self.observation_noise = _covariance("observation_noise", observation_noise, (p, p), H)
        offset = jnp.zeros(p, H.dtype) if observation_offset is None else observation_offset
        self.observation_offset = _shaped("observation_offset", offset, (p,), H)
        self.channels = None if channels is None else tuple(str(name) for name in channels)
        if self.channels is not None and len(self.channels) != p:
            raise DataError(f"`channels` names {len(self.channels)} channels where the model has {p}.")
        names = [field.name for field in dataclasses.fields(self) if field.name != "channels"]
        for name, array in zip(names, in_one_precision(*(getattr(self, name) for name in names)), strict=True):
            setattr(self, name, array)

    @staticmethod
    @abc.abstractmethod
    def checked_transition(transition: Any, d: int) -> Array:
        """The transition as an array of the right shape for `d` states, or `DataError`."""

    def to_config(self) -> dict[str, Any]:
        """What a model file says beside the arrays: the sizes."""
        named = {} if self.channels is None else {"channels": list(self.channels)}
        return {self.extent: len(self.transition), "n_states": self.n_states, "n_channels": self.n_channels, **named}

    @classmethod
    def from_config(cls, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> "AbstractLinearGaussianModel":
        """The model of a file."""
        model = cls(**arrays, channels=config.get("channels"))
        if model.to_config() != config:
            raise DataError(f"The arrays describe {model.to_config()} where the file promises {config}.")
        return model

    @property
    def n_states(self) -> int:
        """$d$, the dimension of the hidden state."""
        return self.observation.shape[1]

    @property
    def n_channels(self) -> int:
        """$p$, the number of observed channels."""
        return self.observation.shape[0]

    def check_channels(self, columns: tuple[str, ...] | None) -> None:
        """**Raises:** `DataError` if the columns of some data have other names than the channels."""
        if columns is not None and self.channels is not None and columns != self.channels:
            raise DataError(
                f"The data have the channels {', '.join(columns)}, and the model was fitted to {', '.join(self.channels)}; "
                "give these, in this order."
            )

    def sample(self, key: Key[Array, ""] | int, length: int) -> tuple[Float[Array, "T d"], Float[Array, "T p"]]:
        r"""`(states, observations)`: $X_0\dots X_{T-1}$ and $Z_0\dots Z_{T-1}$ with $T$ = `length`. Pure; runs inside `jit`."""
        return _sample(self, as_key(key), length)

    @abc.abstractmethod
    def propagate(self, B: Float[Array, "T d"]) -> Float[Array, "T d"]:
        """The states that the start $X_0$ = `B[0]` and the disturbances `B[t+1]` (added to $X_{t+1}$) produce."""


class LinearGaussianModel(AbstractLinearGaussianModel):
    r"""The time-invariant linear-Gaussian process of order $m$,

    $$X_{t+1}=\sum_{j<m}A^{(j)}X_{t-j}+B_t,\qquad Z_t=HX_t+c+W_t,$$

    where terms before time 0 are left out. $m=1$ is the usual Markov state-space model.

    **Arguments:** those of `AbstractLinearGaussianModel`; `transition` holds the taps $A^{(0)}\dots A^{(m-1)}$, `[m d d]`, or
    is the matrix `[d d]` of a model of order 1.
    """

    extent = "order"
    __init__ = AbstractLinearGaussianModel.__init__  # written out because type checkers make up another one

    @staticmethod
    def checked_transition(transition: Any, d: int) -> Array:
        (transition,) = in_one_precision(transition, names=["transition"])
        taps = _matrix("transition", transition[None] if transition.ndim == 2 else transition, 3)
        if taps.shape[1:] != (d, d):
            raise DataError(f"`transition` {transition.shape} must be [{d} {d}], or [m {d} {d}] with one tap per lag.")
        return taps

    @property
    def order(self) -> int:
        """$m$, the number of past states in one step."""
        return self.transition.shape[0]

    def propagate(self, B: Float[Array, "T d"]) -> Float[Array, "T d"]:
        m, d = min(self.order, len(B)), self.n_states
        taps = self.transition[:m]

        def step(X, t):  # X is padded in front by m rows of zeros, the states before time 0
            past = jax.lax.dynamic_slice(X, (t, 0), (m, d))[::-1]
            x = jnp.einsum("jde,je->d", taps, past) + B[t]
            return jax.lax.dynamic_update_slice(X, x[None], (t + m, 0)), None

        X, _ = jax.lax.scan(step, jnp.zeros((m + len(B), d), B.dtype), jnp.arange(len(B)))
        return X[m:]

    def change_basis(self, basis: Float[Array, "d d"]) -> "LinearGaussianModel":
        """The same distribution of observations with the state $MX$ in place of $X$, $M$ = `basis` invertible."""
        back = jnp.linalg.inv(basis)
        moved = {
            "initial_mean": basis @ self.initial_mean,
            "initial_covariance": basis @ self.initial_covariance @ basis.T,
            "transition": basis @ self.transition @ back,
            "observation": self.observation @ back,
            "process_noise": basis @ self.process_noise @ basis.T,
        }
        return type(self)(**{**vars(self), **moved})


class TimeVaryingLinearGaussianModel(AbstractLinearGaussianModel):
    r"""The fully non-Markovian linear-Gaussian process on a fixed horizon of $T$ steps,

    $$X_{t+1}=\sum_{s\le t}A_{t,s}X_s+B_t,\qquad Z_t=HX_t+c+W_t,\qquad t=0\dots T-1.$$

    **Arguments:** those of `AbstractLinearGaussianModel`; `transition` is the lower-triangular operator, `[T T d d]`
    with `transition[t, s]` $=A_{t,s}$ and zeros for $s>t$.
    """

    extent = "horizon"
    __init__ = AbstractLinearGaussianModel.__init__  # written out because type checkers make up another one

    @staticmethod
    def checked_transition(transition: Any, d: int) -> Array:
        A = _matrix("transition", transition, 4)
        T = A.shape[0]
        if A.shape != (T, T, d, d):
            raise DataError(f"`transition` has shape {A.shape}; with {d} states and T steps it is [T T {d} {d}].")
        if not isinstance(A, Tracer) and np.asarray(A)[np.triu_indices(T, 1)].any():
            raise DataError("`transition` has entries above the diagonal: X_{t+1} may depend on X_s only for s ≤ t.")
        return A

    @property
    def horizon(self) -> int:
        """$T$, the number of steps the operator describes."""
        return self.transition.shape[0]

    @classmethod
    def from_taps(cls, model: LinearGaussianModel, horizon: int) -> "TimeVaryingLinearGaussianModel":
        """A time-invariant model written out as an operator on `horizon` steps."""
        T, d = horizon, model.n_states
        lag = np.subtract.outer(np.arange(T), np.arange(T))
        inside = (lag >= 0) & (lag < model.order)
        A = np.where(inside[:, :, None, None], np.asarray(model.transition)[np.where(inside, lag, 0)], 0.0)
        return cls(**{**vars(model), "transition": A.reshape(T, T, d, d)})

    def propagate(self, B: Float[Array, "T d"]) -> Float[Array, "T d"]:
        T = len(B) - 1
        if self.horizon < T:
            raise DataError(f"The operator describes {self.horizon} steps, but {T} are asked for.")

        def step(X, t):
            x = jnp.einsum("sde,se->d", self.transition[t, :T], X[:T]) + B[t + 1]
            return X.at[t + 1].set(x), None

        X, _ = jax.lax.scan(step, jnp.zeros_like(B).at[0].set(B[0]), jnp.arange(T))
        return X


@eqx.filter_jit
def _sample(
    model: AbstractLinearGaussianModel, key: Key[Array, ""], length: int
) -> tuple[Float[Array, "T d"], Float[Array, "T p"]]:
    d, p, dtype = model.n_states, model.n_channels, model.observation.dtype
    key_x, key_z = jax.random.split(key)
    noise = jax.random.normal(key_x, (max(length, 1), d), dtype)
    B = noise @ square_root(model.process_noise)
    B = B.at[0].set(model.initial_mean + square_root(model.initial_covariance) @ noise[0])
    X = model.propagate(B)[:length]
    W = jax.random.normal(key_z, (length, p), dtype) @ square_root(model.observation_noise)
    return X, X @ model.observation.T + model.observation_offset[None] + W


def _matrix(name: str, value: Any, ndim: int) -> Array:
    """A finite floating array with `ndim` axes; traced values pass unchecked."""
    (value,) = in_one_precision(value, names=[name])
    if value.ndim != ndim or 0 in value.shape:
        raise DataError(f"`{name}` must be a non-empty array with {ndim} axes, but its shape is {value.shape}.")
    if not isinstance(value, Tracer) and not np.isfinite(np.asarray(value)).all():
        raise DataError(f"`{name}` holds an entry that is not finite.")
    return value


def _shaped(name: str, value: Any, shape: tuple[int, ...], H: Array) -> Array:
    """A finite floating array of the shape that goes with the observation matrix."""
    value = _matrix(name, value, len(shape))
    if value.shape != shape:
        p, d = H.shape
        raise DataError(f"`{name}` has shape {value.shape}; with {d} states and {p} channels it must be {shape}.")
    return value


def _covariance(name: str, value: Any, shape: tuple[int, ...], H: Array) -> Array:
    """A symmetric positive semidefinite matrix, to the square root of the precision."""
    S = _shaped(name, value, shape, H)
    if isinstance(S, Tracer):
        return S
    host = np.asarray(S)
    slack = np.sqrt(np.finfo(host.dtype).eps) * np.abs(host).max(initial=0.0)
    if np.abs(host - host.T).max() > slack:
        raise DataError(f"`{name}` is not symmetric; a covariance matrix is needed.")
    if np.linalg.eigvalsh(host).min() < -slack:
        raise DataError(f"`{name}` has a negative eigenvalue; a covariance matrix is needed.")
    return (S + S.T) / 2
