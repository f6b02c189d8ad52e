"""From a network to a machine: the smallest generalised hidden Markov model that predicts as the network does."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._bounds import COUNT, POSITIVE, bounded
from .._errors import ConfigurationError, DataError
from ..data.convert import as_sequences
from ..inference.predictor import as_predictor
from ..maths.keys import generator
from ..models.generalised import GeneralisedHMM
from .spectral import asked, spectral_start

KINDS = ("generalised", "hmm")
_LEAST = 1e-4  # below this probability the loss goes on as a straight line
_STEP, _LOSS = 0.01, 1e3  # units of the parameters and the loss for L-BFGS, whose first step must stay near the start
_SHORT = 4096  # strings of one length whose probabilities must not be negative
_MARGIN = 1e-8  # how far above zero these are kept where zero does not suffice
_WEIGHTS = (1.0, 30.0, 1e3, 3e4)  # of that condition, until it holds
_STARTS = 6  # random ones of a chain


_Unpack = Callable[[Array], tuple[Array, Array, Array]]  # free numbers -> initial belief, operators, evaluation


@dataclasses.dataclass(frozen=True)
class Machine:
    """One candidate of an extraction: `n_states`, its `model` (`None` if it gives some short string a negative probability, so that it
    is no process), and the mean divergence of the network from it on held-out strings, in nats per
    token, with its standard error over strings."""

    n_states: int
    model: GeneralisedHMM | None
    excess: float
    error: float


@dataclasses.dataclass(frozen=True)
class Extracted:
    """What `extract` returns: the `candidates` in order of their size, the last of which is the smallest that is good enough if
    `reached`; `singular_values` of the network's predictions of futures from histories, whose number above noise is the dimension
    to expect; `tolerance`; `kind`."""

    candidates: tuple[Machine, ...]
    singular_values: Float[np.ndarray, " n"]
    tolerance: float
    kind: str

    @property
    def best(self) -> Machine:
        """The candidate that counts: the smallest one within the tolerance, or the one with the least excess."""
        return self.candidates[-1] if self.reached else min(self.candidates, key=lambda c: (c.model is None, c.excess))

    @property
    def reached(self) -> bool:
        """Whether a candidate predicts as the network does, to the tolerance."""
        last = self.candidates[-1]
        return last.model is not None and last.excess <= self.tolerance

    @property
    def model(self) -> GeneralisedHMM | None:
        """The machine; `None` if no candidate is a process."""
        return self.best.model

    @property
    def excess(self) -> float:
        """Nats per token that the machine differs from the network, on held-out strings."""
        return self.best.excess

    def summary(self) -> str:
        """The candidates in lines of text."""
        said = lambda c: f"{c.excess:.6f} ± {c.error:.6f} nats from the network{'' if c.model else ', no process'}"
        rows = [f"{c.n_states:>3} states: {said(c)}" for c in self.candidates]
        end = "within" if self.reached else "NOT within"
        return "\n".join([*rows, f"{end} the tolerance of {self.tolerance:g} nats"])


@bounded(tolerance=POSITIVE, max_states=COUNT, histories=COUNT, iterations=COUNT)
def extract(
    predictor: Any,
    data: Any,
    tolerance: float = 1e-3,
    *,
    kind: str = "generalised",
    max_states: int = 8,
    histories: int = 300,
    iterations: int = 500,
    key: Any = 0,
) -> Extracted:
    r"""The smallest machine with $\mathbb E\,\mathrm{KL}(p_\text{network}(\cdot\mid z_{<t})\,\|\,p_\text{machine}(\cdot\mid z_{<t}))\le$ `tolerance`.

    Dimensions 1, 2, … are tried in turn: a spectral start from the network's own probabilities of all short futures after
    sampled histories [HsuKakadeZhang2012], then L-BFGS on that divergence over half of the strings; the other half judges.

    **Arguments:**

    - `predictor`: a network, a model, or anything that `as_predictor` takes.
    - `data`: strings of one length, of the kind that the network reads; some hundreds.
    - `kind`: `"generalised"`, operators of any sign; `"hmm"`, a chain with edge emissions and probabilities that can be
      read, from several random starts.
    - `max_states`: the largest dimension to try; `histories`, from which futures are predicted (fewer with many tokens, so that
      the network reads at most some 200,000 strings for it); `iterations`, of L-BFGS.

    The first token of a string is read and never predicted. **Raises:** `DataError` for strings that are too short, too few or have
    gaps; `ConfigurationError` for an unknown kind.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"kind={kind!r} is unknown; use {' or '.join(map(repr, KINDS))}.")
    common = as_predictor(predictor)
    strings, V = _strings(data, common)
    rng = generator(key)
    order = rng.permutation(len(strings))
    fitted, judged = strings[order[::2]], strings[order[1::2]]
    said, said_of_judged = _said(common, fitted), _said(common, judged)
    starts, values = spectral_start(common, fitted, V, max_states, histories, rng)
    problem = _Problem(jnp.asarray(fitted), jnp.asarray(said))
    candidates: list[Machine] = []
    for d in range(1, max_states + 1):
        if kind == "generalised" and d > len(starts):
            break
        tried = [starts[d - 1]] if kind == "generalised" else [rng.normal(size=d * V * d + d) for _ in range(_STARTS)]
        unpack = _free(d, V) if kind == "generalised" else _classical(d, V)
        (p0, T, w), model = _machine(problem, unpack, tried, iterations, getattr(predictor, "vocabulary", None))
        excess, error = _excess(p0, T, w, judged, said_of_judged)
        candidates.append(Machine(d, model, excess, error))
        if candidates[-1].model is not None and excess <= tolerance:
            break
    return Extracted(tuple(candidates), values, float(tolerance), kind)


def _strings(data: Any, common: Any) -> tuple[Int[np.ndarray, "N T"], int]:
    sequences = as_sequences(data, "tokens", getattr(common.source, "vocabulary", None))
    if not sequences.is_tokens or sequences.has_gaps or int(sequences.lengths.min()) != sequences.max_length:
        raise DataError("extract reads strings of one length without gaps; cut the sequences, or leave out the others.")
    if sequences.max_length < 4 or sequences.number < 16:
        raise DataError(
            f"extract needs at least 16 strings of 4 tokens; got {sequences.number} of {sequences.max_length}."
        )
    V = common.n_tokens or sequences.n_tokens
    if sequences.n_tokens > V:
        raise DataError(f"The strings hold token {sequences.n_tokens - 1}; the predictor knows 0 to {V - 1}.")
    return np.asarray(sequences.values, np.int32), V


def _said(common: Any, strings: Int[np.ndarray, "N T"]) -> Float[np.ndarray, "N T1 V"]:
    """The network's distributions of the tokens 1 … T−1."""
    return np.exp(asked(common, strings)[:, :-1])


class _Problem:
    """Strings and the network's distributions along them; the loss of a machine."""

    def __init__(self, strings: Int[Array, "N T"], said: Float[Array, "N T1 V"]):
        self.strings, self.said = strings, said
        self.negative_entropy = jnp.where(said > 0, said * jnp.log(jnp.where(said > 0, said, 1)), 0).sum(-1).mean()

    def loss(self, p0: Float[Array, " d"], T: Float[Array, "V d d"], w: Float[Array, " d"], weight: Float[Array, ""]) -> Float[Array, ""]:  # fmt: skip
        """Mean divergence of the network from the machine; a probability below 1e-4 costs like a straight line, a negative one of a
        short string itself too, times `weight`."""
        q = _along(p0, T, w, self.strings)
        low = jnp.maximum(q, _LEAST)
        log_q = jnp.log(low) + jnp.minimum(q - _LEAST, 0) / _LEAST
        return (
            self.negative_entropy
            - (self.said * log_q).sum(-1).mean()
            + weight * _short_by(p0, T, w, jnp.where(weight > 1, _MARGIN, 0))
        )


def _short_by(p0: Float[Array, " d"], T: Float[Array, "V d d"], w: Float[Array, " d"], margin: Float[Array, ""]):
    """By how much the probabilities of all short strings fall short of a margin."""
    rows, total = p0[None], jnp.zeros(())
    while len(T) > 1 and len(rows) * len(T) <= _SHORT:
        rows = jnp.einsum("ni,zij->nzj", rows, T).reshape(-1, len(w))
        total = total + jnp.maximum(margin - rows @ w, 0).sum()
    return total


def _along(
    p0: Float[Array, " d"], T: Float[Array, "V d d"], w: Float[Array, " d"], strings: Int[Array, "N T"]
) -> Float[Array, "N T1 V"]:
    """$\\pi_tT^zw$ for $t=1\\dots T-1$; masses below 1e-4 are held there."""

    def step(p, z):
        after = jnp.einsum("ni,nij->nj", p, T[z])
        after = after / jnp.maximum(after @ w, _LEAST)[:, None]
        return after, after @ (T @ w).T

    start = jnp.broadcast_to(p0, (strings.shape[0], len(p0)))
    return jnp.swapaxes(jax.lax.scan(step, start, strings.T[:-1])[1], 0, 1)


def _free(d: int, V: int) -> _Unpack:
    r"""Operators of any sign with $w=e_1$: the first columns of all $T^z$ sum to $e_1$, so the last of them is not free."""

    def unpack(x):
        columns = x[: (V - 1) * d].reshape(V - 1, d)
        rest = x[(V - 1) * d : (V - 1) * d + V * d * (d - 1)].reshape(V, d, d - 1)
        first = jnp.concatenate([columns, (jnp.eye(d)[0] - columns.sum(0))[None]])
        p0 = jnp.concatenate([jnp.ones(1), x[len(x) - (d - 1) :]])
        return p0, jnp.concatenate([first[..., None], rest], -1), jnp.eye(d)[0]

    return unpack


def _classical(d: int, V: int) -> _Unpack:
    """Probabilities of (token, next state) given a state, as softmax of free numbers; $w=1$."""

    def unpack(x):
        rows = jax.nn.softmax(x[: d * V * d].reshape(d, V * d), -1).reshape(d, V, d)
        return jax.nn.softmax(x[d * V * d :]), jnp.swapaxes(rows, 0, 1), jnp.ones(d)

    return unpack


def _machine(problem: _Problem, unpack: _Unpack, starts: list[np.ndarray], iterations: int, vocabulary: Any):
    """The best machine from several starts, as arrays and as a model: `None` if it stays no process however much that costs."""
    both = jax.jit(jax.value_and_grad(lambda x, weight: problem.loss(*unpack(x), weight)))
    d = jax.eval_shape(unpack, starts[0])[0].shape[0]
    # the initial belief alone first: a wrong one would drag the operators along
    belief, all_of_it = np.arange(len(starts[0])) >= len(starts[0]) - d, np.ones(len(starts[0]), bool)
    first = [_fit(both, _fit(both, start, belief, 100)[1], all_of_it, iterations) for start in starts]
    x = min(first, key=lambda pair: pair[0])[1]
    for weight in (*_WEIGHTS[1:], None):
        p0, T, w = (np.asarray(a, np.float64) for a in jax.jit(unpack)(jnp.asarray(x)))
        model = _model(p0, T, w, vocabulary)
        if model is not None or weight is None:
            break
        x = _fit(both, x, all_of_it, iterations, weight)[1]
    return (p0, T, w), model


def _fit(
    both: Callable, start: Float[np.ndarray, " n"], moved: np.ndarray, iterations: int, weight: float = _WEIGHTS[0]
) -> tuple[float, Float[np.ndarray, " n"]]:
    """The smallest loss that L-BFGS finds from a start where only what is `moved` is free, and where it is."""
    from scipy.optimize import minimize

    def numbers(y):
        value, slope = both(jnp.asarray(start + _STEP * moved * y), weight)
        return _LOSS * float(value), _LOSS * _STEP * moved * np.asarray(slope, np.float64)

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 30, "ftol": 1e-10, "gtol": 1e-9}
    found = minimize(numbers, np.zeros_like(start), jac=True, method="L-BFGS-B", options=options)
    return float(found.fun), start + _STEP * found.x


def _excess(p0, T, w, strings, said) -> tuple[float, float]:
    q = np.asarray(jax.jit(_along)(*(jnp.asarray(a) for a in (p0, T, w)), jnp.asarray(strings)), np.float64)
    q = np.maximum(q, 1e-12)
    q /= q.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = np.where(said > 0, said * (np.log(said) - np.log(q)), 0).sum(-1).mean(1)
    if not np.isfinite(rows).all():
        return float("inf"), float("nan")
    return float(rows.mean()), float(rows.std(ddof=1) / np.sqrt(len(rows)))


def _model(p0, T, w, vocabulary) -> GeneralisedHMM | None:
    try:
        return GeneralisedHMM(p0, T, evaluation=w, vocabulary=vocabulary)
    except DataError:
        return None
