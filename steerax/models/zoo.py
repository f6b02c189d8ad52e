"""Processes with known structure, to try methods on."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from .._bounds import COUNT, POSITIVE, PROBABILITY, bounded
from .._errors import ConfigurationError, DataError
from ..maths.keys import generator
from .hmm import HiddenMarkovModel
from .transitions import OrderKTransition, as_transition


@bounded(long_length=COUNT, short_zeros=COUNT, p=PROBABILITY)
def two_cycle(
    long_length: int = 8, short_zeros: int = 4, p: float = 0.5, initial: str = "uniform"
) -> HiddenMarkovModel:
    r"""Binary tokens made of two patterns, chosen independently each time: Sec. 4 of [KudreChangMehta2026].

    Long (probability $p$) is a 1 followed by $\ell-1$ zeros, short a 1 followed by $n_0$ zeros. The state is the
    position in the pattern: state 0 emits 1, the others 0; $A(i,i+1)=1$, $A(\ell-1,0)=1$, except at the branch
    $A(n_0,0)=1-p$, $A(n_0,n_0+1)=p$. The entropy rate is $H(p)/(p\ell+(1-p)(n_0+1))$. Choose $\ell$ and
    $n_0+1$ without common divisor, otherwise the chain is periodic.

    **Arguments:** `long_length` $\ell$; `short_zeros` $n_0$; `p`; `initial`, `"uniform"` or `"stationary"`.

    **Raises:** `ConfigurationError` unless $1\le n_0\le\ell-2$ and $0<p<1$.
    """
    if not (1 <= short_zeros <= long_length - 2 and 0 < p < 1):
        raise ConfigurationError(f"short_zeros={short_zeros} must lie in 1 … {long_length - 2}, and p={p} in (0, 1).")
    A = np.roll(np.eye(long_length), 1, axis=1)
    A[short_zeros] = 0
    A[short_zeros, 0], A[short_zeros, short_zeros + 1] = 1 - p, p
    C = np.tile([1.0, 0.0], (long_length, 1))
    C[0] = [0.0, 1.0]
    return HiddenMarkovModel(np.full(long_length, 1 / long_length), A, C).started(initial)


def casino() -> HiddenMarkovModel:
    """The occasionally dishonest casino: a fair die and one that shows a six half of the time."""
    loaded = [0.1, 0.1, 0.1, 0.1, 0.1, 0.5]
    return HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.10, 0.90]], [[1 / 6] * 6, loaded])


@bounded(x=PROBABILITY, alpha=PROBABILITY)
def mess3(x: float = 0.05, alpha: float = 0.85) -> HiddenMarkovModel:
    r"""Three states, three tokens, beliefs on a fractal: the "Mess3" process of [ShaiEtAl2024].

    $A=x$ off the diagonal and $1-2x$ on it; $C=\alpha$ on the diagonal and $(1-\alpha)/2$ off it; stationary start.
    """
    if not (0 < x < 0.5 and 0 < alpha < 1):
        raise ConfigurationError(f"mess3 needs 0 < x < 1/2 and 0 < alpha < 1, but got x={x}, alpha={alpha}.")
    A = np.full((3, 3), x) + (1 - 3 * x) * np.eye(3)
    C = np.full((3, 3), (1 - alpha) / 2) + (alpha - (1 - alpha) / 2) * np.eye(3)
    return HiddenMarkovModel(np.full(3, 1 / 3), A, C)


@bounded(n_states=COUNT, n_tokens=COUNT, stay=PROBABILITY, accuracy=PROBABILITY)
def left_right(n_states: int = 6, n_tokens: int = 3, stay: float = 0.8, accuracy: float = 0.9) -> HiddenMarkovModel:
    """States passed through once, from the first to the last, which absorbs; state $i$ prefers token $i$ modulo $V$."""
    if not (n_states > 0 and n_tokens > 1 and 0 <= stay < 1 and 0 < accuracy <= 1):
        raise ConfigurationError("left_right needs n_states > 0, n_tokens > 1, 0 <= stay < 1 and 0 < accuracy <= 1.")
    A = stay * np.eye(n_states) + (1 - stay) * np.eye(n_states, k=1)
    A[-1] = np.eye(n_states)[-1]
    C = np.full((n_states, n_tokens), (1 - accuracy) / (n_tokens - 1))
    C[np.arange(n_states), np.arange(n_states) % n_tokens] = accuracy
    return HiddenMarkovModel(np.eye(n_states)[0], A, C)


@bounded(n_states=COUNT, n_tokens=COUNT, concentration=POSITIVE)
def random_hmm(key, n_states: int, n_tokens: int, concentration: float = 1.0) -> HiddenMarkovModel:
    """Every row drawn from a symmetric Dirichlet distribution with the given concentration (small means peaked)."""
    rng = generator(key)
    shapes = (n_states,), (n_states, n_states), (n_states, n_tokens)
    mu, A, C = (_dirichlet(rng, shape, concentration) for shape in shapes)
    return HiddenMarkovModel(mu, A, C)


def order_k(transition: ArrayLike, emission: ArrayLike, initial: ArrayLike | None = None) -> HiddenMarkovModel:
    r"""A chain whose next state depends on the last $k$, as a hidden Markov model on tuples that keeps its sparsity.

    **Arguments:** `transition` `[d … d d]` with $k+1$ axes, $P(X_{t+1}\mid X_{t-k+1..t})$; `emission` `[d V]` of the
    newest state; `initial` `[d … d]` with $k$ axes, the distribution of the tuple at times $-k+1\dots0$ (uniform if not given).

    **Raises:** `DataError` if the axes of `transition` differ in length or do not fit `emission` or `initial`.
    """
    transition, emission = jnp.asarray(transition), jnp.asarray(emission)
    d, k = transition.shape[-1], transition.ndim - 1
    if k < 1 or set(transition.shape) != {d} or emission.shape[0] != d:
        raise DataError(f"A transition {transition.shape} of order k has k + 1 axes of the length of {emission.shape}.")
    if initial is None:
        initial = jnp.full((d,) * k, 1 / d**k, dtype=transition.dtype)
    if jnp.shape(initial) != (d,) * k:
        raise DataError(f"The initial distribution of order {k} has shape {(d,) * k}, not {jnp.shape(initial)}.")
    chain = OrderKTransition(transition)
    return HiddenMarkovModel(jnp.ravel(initial), chain, chain.lifted_emission(emission))


@bounded(n_states=COUNT, n_tokens=COUNT, order=COUNT, concentration=POSITIVE)
def random_order_k(key, n_states: int, n_tokens: int, order: int, concentration: float = 1.0) -> HiddenMarkovModel:
    """An order-k chain with every row drawn from a symmetric Dirichlet distribution."""
    rng = generator(key)
    shapes = (n_states,) * (order + 1), (n_states, n_tokens)
    return order_k(*(_dirichlet(rng, shape, concentration) for shape in shapes))


@bounded(transition=PROBABILITY, emission=PROBABILITY)
def mixed_with_uniform(hmm: HiddenMarkovModel, transition: float = 0.0, emission: float = 0.0) -> HiddenMarkovModel:
    r"""$(1-\varepsilon)A+\varepsilon/d$ and $(1-\varepsilon)C+\varepsilon/V$: the perturbations of Eq. (12) of [KudreChangMehta2026]."""
    if not (0 <= transition <= 1 and 0 <= emission <= 1):
        raise ConfigurationError(f"Mixing levels lie between 0 and 1, but got {transition} and {emission}.")
    chain, C = as_transition(hmm.transition), hmm.emission_matrix
    mixed = chain.with_free((1 - transition) * chain.free + transition / chain.n_base_states)
    return HiddenMarkovModel(hmm.initial, mixed, (1 - emission) * C + emission / hmm.n_tokens, hmm.vocabulary)


def _dirichlet(rng: np.random.Generator, shape: tuple[int, ...], concentration: float) -> np.ndarray:
    return rng.dirichlet(np.full(shape[-1], concentration), size=shape[:-1])
