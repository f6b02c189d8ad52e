"""Generalised hidden Markov models: what emits a token also moves the state. Edge-emitting, quantum and post-quantum processes."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from .._errors import ConfigurationError, DataError
from ..data.vocabulary import Vocabulary
from ..maths.keys import as_key
from ..maths.precision import in_one_precision
from .hmm import HiddenMarkovModel, stationary_distribution
from .transitions import draw

_STRINGS = 4096  # strings whose probabilities are looked at where they could be negative


def check_process(verb: str, process: Any) -> None:
    """Raises `ConfigurationError` unless a process has a belief that its tokens move by matrices: `verb` takes no other."""
    if isinstance(process, HiddenMarkovModel) and not process.emits_tokens:
        said = f"a model of numbers ({type(process.emission).__name__})"
    elif isinstance(process, HiddenMarkovModel | GeneralisedHMM):
        return
    else:
        said = f"a {type(process).__name__}"
    raise ConfigurationError(f"{verb} takes a HiddenMarkovModel of tokens or a GeneralisedHMM, not {said}.")


class GeneralisedHMM(eqx.Module):
    r"""A process whose strings have probabilities given by products of matrices, one matrix per token:

    $$P(z_0\dots z_{t-1})=p_0T^{z_0}\cdots T^{z_{t-1}}w,\qquad A=\sum_zT^z,\quad Aw=w,\quad p_0w=1 .$$

    With non-negative matrices whose rows sum to one over states and tokens, $T^z(i,j)$ is the probability that a chain in state
    $i$ emits $z$ and moves to $j$ (an edge-emitting chain, a Mealy machine), and $w=\mathbf 1$. With entries of any sign it can be
    a measured quantum system, or a process that no hidden chain of any finite size generates [Jaeger2000]. The belief after some
    tokens is the row vector $\pi_t=p_0T^{z_0}\cdots T^{z_{t-1}}/(\cdots w)$; only $\pi_tT^zw$ needs to be a probability.

    **Arguments:**

    - `initial`: $p_0$, `[d]`; `None` is the stationary one.
    - `operators`: $T^z$, `[V d d]`.
    - `evaluation`: $w$, `[d]`; needed only where $A$ has several eigenvectors of eigenvalue one (a mixture).
    - `vocabulary`: what the tokens stand for, if anything.

    **Raises:** `DataError` for a wrong shape, an entry that is not finite, no eigenvalue one, $p_0w\ne1$, or a string of negative
    probability (looked for among the strings of a length that has at most 4096 of them).
    """

    initial: Float[Array, " d"]
    operators: Float[Array, "V d d"]
    evaluation: Float[Array, " d"]
    vocabulary: Vocabulary | None = eqx.field(static=True)

    def __init__(self, initial: Any, operators: Any, *, evaluation: Any = None, vocabulary: Vocabulary | None = None):
        given = [value for value in (operators, initial, evaluation) if value is not None]
        if any(isinstance(value, Tracer) for value in given):
            if len(given) < 3:
                raise ConfigurationError("Inside jit a GeneralisedHMM needs its initial distribution and evaluation.")
            self.operators, self.initial, self.evaluation = in_one_precision(*given)
        else:
            self.initial, self.operators, self.evaluation = _checked(initial, operators, evaluation)
        self.vocabulary = vocabulary
        if vocabulary is not None and len(vocabulary) != self.n_tokens:
            raise DataError(f"The vocabulary has {len(vocabulary)} symbols, but there are {self.n_tokens} operators.")

    @property
    def n_states(self) -> int:
        """$d$, the dimension of a belief."""
        return self.operators.shape[1]

    @property
    def n_tokens(self) -> int:
        """$V$, the number of tokens."""
        return self.operators.shape[0]

    @property
    def arrays(self):
        """$(p_0,T,w)$, as kernels take them."""
        return self.initial, self.operators, self.evaluation

    @property
    def is_classical(self) -> bool:
        """Whether beliefs are distributions of a hidden state: all entries non-negative, and $w=1$."""
        p0, T, w = (np.asarray(a) for a in self.arrays)
        return bool((p0 >= 0).all() and (T >= 0).all() and (w == 1).all())

    def sample(self, key, length: int) -> tuple[Float[Array, "T d"], Int[Array, " T"]]:
        """`(beliefs, tokens)`: `beliefs[t]` is $\\pi_t$, from which `tokens[t]` is drawn. Pure; runs inside `jit` and `vmap`."""
        return _sample(*self.arrays, as_key(key), length)

    def stationary(self) -> Float[Array, " d"]:
        r"""The belief $\pi=\pi A$, $\pi w=1$, that the process keeps. **Raises:** `DataError` if there are several."""
        return jnp.asarray(
            _stationary(np.asarray(self.operators, np.float64), np.asarray(self.evaluation, np.float64)),
            self.initial.dtype,
        )

    def started(self, initial: str | Any) -> "GeneralisedHMM":
        """The same process with another initial belief: `"stationary"` or an array `[d]`."""
        if isinstance(initial, str):
            if initial != "stationary":
                raise ConfigurationError(f"Unknown initial={initial!r}; use 'stationary' or an array.")
            initial = self.stationary()
        return GeneralisedHMM(initial, self.operators, evaluation=self.evaluation, vocabulary=self.vocabulary)

    def to_config(self) -> dict[str, Any]:
        """What a file needs besides the arrays."""
        return {"vocabulary": None if self.vocabulary is None else list(self.vocabulary.symbols)}

    @classmethod
    def from_config(cls, config: dict[str, Any], arrays: dict[str, Any]) -> "GeneralisedHMM":
        """The model of `GeneralisedHMM.to_config` and its named arrays."""
        symbols = config["vocabulary"]
        vocabulary = None if symbols is None else Vocabulary(tuple(symbols))
        return cls(arrays["initial"], arrays["operators"], evaluation=arrays["evaluation"], vocabulary=vocabulary)


def as_generalised(model: Any) -> GeneralisedHMM:
    r"""The same process with operators: $T^z=\mathrm{diag}(C_z)A$ and $w=\mathbf 1$ for a hidden Markov model, whose state emits the
    token and then moves. **Raises:** `ConfigurationError` for another kind of model."""
    if isinstance(model, GeneralisedHMM):
        return model
    if not isinstance(model, HiddenMarkovModel):
        raise ConfigurationError(
            f"Beliefs belong to a HiddenMarkovModel or a GeneralisedHMM, not to a {type(model).__name__}."
        )
    operators = model.emission_matrix.T[:, :, None] * model.dense_transition[None]
    ones = jnp.ones(model.n_states, operators.dtype)
    return GeneralisedHMM(model.initial, operators, evaluation=ones, vocabulary=model.vocabulary)


def token_columns(model: Any) -> Float[Array, "d V"]:
    r"""$F$ with $\pi_tF$ the distribution of the next token: $C$ of a hidden Markov model, $T^zw$ of a generalised one."""
    return (model.operators @ model.evaluation).T if isinstance(model, GeneralisedHMM) else model.emission_matrix


@functools.partial(jax.jit, static_argnames="length")
def _sample(p0, T, w, key, length: int):
    weigh = T @ w  # [V d]

    def step(p, u):
        q = jnp.cumsum(jnp.maximum(weigh @ p, 0))
        z = draw(q / q[-1], u)
        after = p @ T[z]
        return after / (after @ w), (p, z)

    return jax.lax.scan(step, p0, jax.random.uniform(key, (length,), p0.dtype))[1]


def _checked(initial: Any, operators: Any, evaluation: Any) -> tuple[Array, Array, Array]:
    """Arrays in one precision, with $Aw=w$ and $p_0w=1$; raises `DataError` for what is not a process."""
    given = in_one_precision(*(value for value in (operators, initial, evaluation) if value is not None))
    T, dtype = np.asarray(given[0], np.float64), given[0].dtype
    room = float(np.sqrt(np.finfo(dtype).eps))
    if T.ndim != 3 or T.shape[1] != T.shape[2] or 0 in T.shape:
        raise DataError(f"`operators` must be [V d d], one square matrix per token, but its shape is {T.shape}.")
    if not all(bool(jnp.isfinite(a).all()) for a in given):
        raise DataError("`initial`, `operators` or `evaluation` holds an entry that is not finite.")
    w = _evaluation(T, room) if evaluation is None else np.asarray(given[-1], np.float64)
    p0 = _stationary(T, w) if initial is None else np.asarray(given[1], np.float64)
    if evaluation is None and p0.shape == w.shape and abs(p0 @ w) > room and (w != 1).any():
        w = w / (p0 @ w)  # an eigenvector has no scale of its own
    for name, value in (("initial", p0), ("evaluation", w)):
        if value.shape != T.shape[1:2]:
            raise DataError(f"`{name}` has shape {value.shape}, but the operators act on {T.shape[1]} states.")
    if np.abs(T.sum(0) @ w - w).max() > room * np.abs(w).max():
        raise DataError("The sum of the operators must keep `evaluation`: sum_z T_z w = w.")
    if abs(p0 @ w - 1) > room:
        raise DataError(f"The initial belief has mass {p0 @ w:.6g} (its product with `evaluation`), not one.")
    p0 = p0 / (p0 @ w)
    if (T < 0).any() or (p0 < 0).any() or (w < 0).any():
        _refuse_negative(p0, T, w, room)
    return tuple(jnp.asarray(a, dtype) for a in (p0, T, w))  # pyright: ignore[reportReturnType]


def _evaluation(T: np.ndarray, room: float) -> np.ndarray:
    """$w$: ones where the rows sum to one, the eigenvector of eigenvalue one otherwise."""
    A = T.sum(0)
    if np.abs(A.sum(1) - 1).max() <= room:
        return np.ones(len(A))
    return _eigenvector(A, "A w = w has", room)


def _stationary(T: np.ndarray, w: np.ndarray) -> np.ndarray:
    A = T.sum(0)
    if (A >= 0).all() and (w == 1).all():
        return stationary_distribution(A)
    p = _eigenvector(A.T, "p A = p has", float(np.sqrt(np.finfo(float).eps)))
    if abs(p @ w) < 1e-12 * np.abs(p).sum() * np.abs(w).max():
        raise DataError("No belief of mass one is stationary; pass the initial one.")
    return p / (p @ w)


def _eigenvector(A: np.ndarray, said: str, room: float) -> np.ndarray:
    values, vectors = np.linalg.eig(A)
    near = np.flatnonzero(np.abs(values - 1) <= room)
    if len(near) == 0:
        raise DataError(
            f"{said} no solution: the sum of the operators needs the eigenvalue 1; it has {_listed(values)}."
        )
    if len(near) > 1:
        raise DataError(f"{said} several solutions; pass the one that is meant (`evaluation`, or `initial`).")
    v = np.real(vectors[:, near[0]])
    return v / v[np.argmax(np.abs(v))]


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in sorted(np.abs(values), reverse=True)[:4])


def _refuse_negative(p0: np.ndarray, T: np.ndarray, w: np.ndarray, room: float) -> None:
    """Raises `DataError` if a short string has a negative probability."""
    rows, strings = p0[None], [""]
    while len(rows) * len(T) <= _STRINGS and len(strings[0]) < 60:
        rows = np.einsum("ni,zij->nzj", rows, T).reshape(-1, len(w))
        strings = [f"{s} {z}" for s in strings for z in range(len(T))]
        mass = rows @ w
        if mass.min() < -room:
            worst = int(mass.argmin())
            raise DataError(f"The string{strings[worst]} would have probability {mass[worst]:.3g}; this is no process.")
        if len(T) == 1:
            return
