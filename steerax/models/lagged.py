"""Hidden chains whose next step reads several past tokens, or several past states."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from .._bounds import COUNT
from .._errors import ConfigurationError, DataError
from ..data.vocabulary import Vocabulary
from ..maths.precision import in_one_precision
from .closure import kernels_of
from .conditional import AbstractConditionalHMM, Tokens
from .hmm import _rescaled, _rows
from .lags import codes_at_lags, codes_before, lag_weights, mixed


class LaggedHMM(AbstractConditionalHMM):
    r"""A hidden chain whose next step is a mixture over lags, with weights that may read the tokens (attention):

    $$K_t=\sum_{j<m}\lambda_{t,j}A_j[z_{t-j}],\qquad\lambda_{t,j}\propto w_j\exp a_j[z_{t-j}],$$

    with `reads="tokens"`, $A_j[z]$ a transition matrix for each lag and token; $\lambda$ is normalised over the lags whose token is there, so a lag on a
    missing token, or before the start, falls away (if all have, $K_t=\sum_jw_j\,\mathrm{mean}_zA_j[z]$). $O(md^2)$ a token, exact.

    The emission may read lags too: $C_t=\sum_j\gamma_{t,j}E_j[z_{t-1-j}]$, $\gamma_{t,j}\propto v_j\exp b_j[z_{t-1-j}]$.

    With `reads="states"` the lags are of hidden states,

    $$P(X_{t+1}=x'\mid X_{\le t},Z_{\le t})=\sum_{j<m}\lambda_{t,j}A_j(X_{t-j},x'),\qquad\lambda_{t,j}\propto w_j\exp a_j[z_{t-1-j}],$$

    states before the first independent with distribution $\mu$. Its kernels come from the closure of `models/closure.py` with a window of
    `window` states: exact for `window` $\ge m-1$, and a model of its own for less, $O((m-w)d^{w+2})$ a token.

    Neither the weights nor the matrices of one lag can be identified alone: what is added to the rows of all matrices of one lag may
    be taken from another. Compare kernels.

    **Arguments:**

    - `initial`: $\mu$, `[d]`.
    - `transition`: $A$, `[m V d d]`, or `[m d d]` for lags of states.
    - `emission`: $C$, `[d V]`, or $E$, `[n V d V]`, one matrix for each lag and token there.
    - `weights`: $w$, `[m]`, probabilities.
    - `attention`: $a$, `[m V]`; `None`: constant weights.
    - `reads`: `"tokens"` or `"states"`, and for the latter the `window`.
    - `emission_weights`: $v$, `[n]` (equal ones by default), and `emission_attention`, $b$, `[n V]`, where the emission reads lags.
    - `vocabulary`: what the tokens stand for, if anything.

    **Raises:** `DataError` for a wrong shape, or rows that are no probabilities; `ConfigurationError` for an unknown `reads`.
    """

    initial: Float[Array, " d"]
    transition: Float[Array, "..."]
    emission: Float[Array, "..."]
    weights: Float[Array, " m"]
    attention: Float[Array, "m V"] | None
    emission_weights: Float[Array, " n"] | None
    emission_attention: Float[Array, "n V"] | None
    reads: str = eqx.field(static=True)
    window: int = eqx.field(static=True)
    vocabulary: Vocabulary | None = eqx.field(static=True)  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        initial: Any,
        transition: Any,
        emission: Any,
        weights: Any,
        attention: Any = None,
        reads: str = "tokens",
        window: int = 1,
        *,
        emission_weights: Any = None,
        emission_attention: Any = None,
        vocabulary: Vocabulary | None = None,
    ):
        if reads not in ("tokens", "states"):
            raise ConfigurationError(f"reads={reads!r} is unknown; lags are of 'tokens' or 'states'.")
        COUNT.check("window", window)
        (emission,) = in_one_precision(emission, names=["emission"])
        lagged = emission.ndim == 4
        if not lagged and (emission_weights is not None or emission_attention is not None):
            raise ConfigurationError(
                "emission_weights and emission_attention belong to an emission of shape [n V d V]."
            )
        if lagged and emission_weights is None:
            emission_weights = jnp.full(len(emission), 1 / max(len(emission), 1), emission.dtype)
        given = {
            "initial": _rows("initial", initial, 1),
            "transition": _rows("transition", transition, 4 if reads == "tokens" else 3),
            "emission": _rows("emission", emission, 4 if lagged else 2),
            "weights": _rows("weights", weights, 1),
        }
        if emission_weights is not None:
            given["emission_weights"] = _rows("emission_weights", emission_weights, 1)
        scores = {"attention": attention, "emission_attention": emission_attention}
        given |= {name: _finite(name, value) for name, value in scores.items() if value is not None}
        arrays = dict(zip(given, in_one_precision(*given.values()), strict=True))
        for name in ("initial", "transition", "emission", "weights", "emission_weights"):
            setattr(self, name, _rescaled(arrays[name]) if name in arrays else None)
        for name in scores:
            setattr(self, name, arrays.get(name))
        self.reads, self.window, self.vocabulary = reads, int(window), vocabulary
        self._check_shapes()

    def _check_shapes(self) -> None:
        d, V, m = self.n_states, self.n_tokens, self.n_lags
        transition = (m, V, d, d) if self.reads == "tokens" else (m, d, d)
        wanted = {"transition": transition, "weights": (m,), "attention": (m, V), "emission": (d, V)}
        if self.emission_weights is not None:
            n = self.emission.shape[0]
            wanted |= {"emission": (n, V, d, V), "emission_weights": (n,), "emission_attention": (n, V)}
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise DataError(
                    f"`{name}` has shape {value.shape}; with {d} states, {V} tokens and {m} lags {shape} is needed."
                )
        if self.vocabulary is not None and len(self.vocabulary) != V:
            raise DataError(f"The vocabulary has {len(self.vocabulary)} symbols, the emission {V} columns.")

    @property
    def arrays(self):
        """Initial distribution, transition, emission, weights and attention, as the constructor takes them."""
        return self.initial, self.transition, self.emission, self.weights, self.attention

    @property
    def parameters(self):
        """All arrays that the model has: those of `arrays`, and the weights and attention of its emission."""
        every = *self.arrays, self.emission_weights, self.emission_attention
        return tuple(a for a in every if a is not None)

    @property
    def n_lags(self) -> int:
        """$m$, the number of lags that a transition reads."""
        return self.transition.shape[0]

    @property
    def memory(self) -> int | None:
        """How many of the last tokens are read; `None`, all of them, for lags of states."""
        if self.reads == "states":
            return None
        return max(self.n_lags, 0 if self.emission_weights is None else self.emission.shape[0])

    @property
    def reads_newest(self) -> bool:
        """Whether the step from $X_t$ reads $Z_t$, as lags of tokens do."""
        return self.reads == "tokens"

    @property
    def sums_gaps(self) -> bool:
        """Whether a gap is summed over: exact lags of states whose weights and emissions read no token."""
        exact = self.reads == "states" and self.window >= self.n_lags - 1
        return exact and self.attention is None and not self.emission_reads_tokens

    @property
    def emission_reads_tokens(self) -> bool:
        """Whether the emission reads lags too."""
        return self.emission_weights is not None

    def lag_weights(self, tokens: Tokens | Any) -> Float[Array, "T m"]:
        r"""$\lambda_{t,j}$, the weight of the token $z_{t-j}$ (of the state $X_{t-j}$, for lags of states) in the step from $X_t$ to
        $X_{t+1}$: what an attention head shows."""
        codes = codes_at_lags(jnp.asarray(self.codes(tokens)), self.n_lags, 0 if self.reads == "tokens" else 1)
        if self.reads == "states" and self.attention is None:
            return jnp.broadcast_to(self.weights, codes.shape)
        return lag_weights(codes, self.weights, self.attention)

    def attention_map(self, tokens: Tokens | Any) -> Float[Array, "T T"]:
        """`lag_weights` laid out as the attention of a transformer is: row `t`, after token `t`, reads column `s`."""
        weights = self.lag_weights(tokens)
        times = jnp.arange(len(weights))
        lags = times[:, None] - times[None]
        read = jnp.take_along_axis(weights, jnp.clip(lags, 0, self.n_lags - 1), 1)
        return jnp.where((lags >= 0) & (lags < self.n_lags), read, 0)

    def kernels(self, tokens: Tokens | Any) -> Float[Array, "T d d"]:
        tokens = self.codes(tokens)
        if self.reads == "states":
            return kernels_of(
                self.initial, self.transition, self.lag_weights(tokens), self.emitted(tokens), self.window
            )
        return self._kernels(codes_at_lags(jnp.asarray(tokens), self.n_lags))

    def _kernels(self, codes: Int[Array, "*n m"]) -> Float[Array, "*n d d"]:
        return mixed(self.transition, codes, lag_weights(codes, self.weights, self.attention))

    def _emissions(self, codes: Int[Array, "*n l"]) -> Float[Array, "*n d V"]:
        weights: Any = self.emission_weights
        return mixed(self.emission, codes, lag_weights(codes, weights, self.emission_attention))

    def emissions(self, tokens: Tokens | Any) -> Float[Array, "T1 d V"]:
        if not self.emission_reads_tokens:
            return super().emissions(tokens)
        tokens = jnp.asarray(self.codes(tokens))
        after = jnp.concatenate([tokens, jnp.full(1, -1, tokens.dtype)])
        return self._emissions(codes_at_lags(after, self.emission.shape[0], 1))

    def kernel_at(self, tokens: Tokens, t: Any) -> Float[Array, "d d"]:
        if self.reads == "states":
            return self.kernels(tokens)[t]
        return self._kernels(codes_before(jnp.asarray(tokens), t, self.n_lags))

    def emission_at(self, tokens: Tokens, t: Any) -> Float[Array, "d V"]:
        if not self.emission_reads_tokens:
            return self.emission
        return self._emissions(codes_before(jnp.asarray(tokens), t - 1, self.emission.shape[0]))

    def unseen(self, tokens: Tokens | Any) -> Float[Array, "T d d"]:
        if self.reads == "states":
            return super().unseen(tokens)
        tokens = jnp.asarray(self.codes(tokens))
        codes, emissions = codes_at_lags(tokens, self.n_lags), self.emissions(tokens)[:-1]

        def add(total, z):
            others = (tokens >= 0) & (tokens != z)
            kernels = self._kernels(codes.at[:, 0].set(z.astype(codes.dtype)))
            return total + jnp.where(others[:, None, None], emissions[:, :, z, None] * kernels, 0), None

        start = jnp.zeros((len(tokens), self.n_states, self.n_states), self.initial.dtype)
        return lax.scan(add, start, jnp.arange(self.n_tokens))[0]

    def named(self, vocabulary: Vocabulary | None) -> "LaggedHMM":
        """The same model with names for its tokens."""
        more = {"emission_weights": self.emission_weights, "emission_attention": self.emission_attention}
        return LaggedHMM(*self.arrays, self.reads, self.window, vocabulary=vocabulary, **more)

    def to_config(self) -> dict[str, Any]:
        """What a file needs besides the arrays."""
        return {
            "reads": self.reads,
            "window": self.window,
            "vocabulary": None if self.vocabulary is None else list(self.vocabulary.symbols),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], arrays: dict[str, Any]) -> "LaggedHMM":
        """The model of `LaggedHMM.to_config` and its named arrays."""
        symbols = config["vocabulary"]
        vocabulary = None if symbols is None else Vocabulary(tuple(symbols))
        return cls(**arrays, reads=config["reads"], window=config["window"], vocabulary=vocabulary)


def _finite(name: str, scores: Any) -> Array:
    (scores,) = in_one_precision(scores, names=[name])
    if not isinstance(scores, Tracer) and not np.isfinite(np.asarray(scores)).all():
        raise DataError(f"`{name}` holds a score that is not finite.")
    return scores
