"""Any predictor, of any process, as a sum of what each token contributed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from .._bounds import COUNT, bounded
from .._errors import ConfigurationError, DataError
from ..data.chunks import chunks
from ..data.convert import converted
from ..data.sequences import Sequences
from ..maths import beliefs as cloud
from ..maths.keys import generator
from .predictor import NextToken
from .reference import Beliefs, Reference, Support

Target = Callable[[Any], Any]  # int [n T] -> float [n]

# a cloud of more beliefs, or a tree of more strings, is sampled instead
MAX_BELIEFS, MAX_STRINGS = 4096, 2**16
REPLICATES = 8
# Logarithms of beliefs that differ by less are merged. Products with transitions and likelihoods bring beliefs no further
# apart in this measure (Hilbert's), so T merges change a value by at most T times as much, however rare the tokens.
SAME_BELIEF = 1e-11
_T_QUANTILE = 2.3646  # 97.5 % of Student's t with REPLICATES - 1 degrees of freedom


@dataclasses.dataclass(frozen=True)
class Representation:
    r"""What `represent` returns.

    **Attributes:** `values` `[T+1]`, $S_0\dots S_T$; `contributions` `[T]`, $S_{t+1}-S_t$, the term of `tokens[t]`;
    `weights` `[T V-1]`, $w_t$ (the paper's $-U_t$), or `None`; `standard_error` `[T+1]` of the values and `contribution_errors` `[T]`, from
    8 replicates (7 degrees of freedom; zero if exact, merged beliefs to `1e-11` a token); `interval` `[2 T+1]`, 95 %
    confidence limits of the values by Student's t; `method`, `"merged beliefs"`, `"enumeration"` or `"sampling"`; `evaluations`, strings given to the
    predictor.
    """

    values: Float[np.ndarray, " T1"]
    contributions: Float[np.ndarray, " T"]
    weights: Float[np.ndarray, "T m"] | None
    standard_error: Float[np.ndarray, " T1"]
    contribution_errors: Float[np.ndarray, " T"]
    method: str
    evaluations: int

    @property
    def interval(self) -> Float[np.ndarray, "2 T1"]:
        """Limits between which each value lies with 95 % confidence."""
        return self.values + _T_QUANTILE * np.stack([-self.standard_error, self.standard_error])


@bounded(vocab=COUNT, samples=COUNT, batch=COUNT)
def represent(
    predictor: Target,
    tokens: Any,
    vocab: int,
    reference: Any = None,
    samples: int | None = None,
    weights: bool = False,
    key: Any = None,
    *,
    batch: int = 4096,
) -> Representation:
    r"""The nonlinear predictor representation of $S_T=$ `predictor` $(Z_{0:T})$ along one string, Prop. 4 of
    [KudreChangMehta2026],

    $$S_T=S_0+\sum_{t<T}w_t^\top e(Z_t),\qquad w_t[z]=S_{t+1}(z_{<t},z)-S_t(z_{<t}),$$

    where $S_t(z_{<t})$ is the mean of $S_T$ over continuations of the first $t$ tokens drawn from a reference; the paper
    writes $U_t=-w_t$. The weights are unique if every string is possible; otherwise they depend on the reference, which is therefore always named:

    - `"uniform"`: independent uniform tokens, as in the paper;
    - `support(process)`: uniform over the tokens that the process admits next. Where only one is admissible $w_t=0$;
    - a process: its predictive distribution. Then $S_{t+1}-S_t$ is the *news* in token `t`, and only contributions exist.

    `None` is the support of the predictor's own process if it is a (generalised) hidden Markov model, else `"uniform"`. Compare predictors
    under one reference. Exact where few beliefs (of
    processes without negative entries) or strings are reachable; otherwise sampled, with common random numbers
    and stratified (Latin) columns, so that every token occurs equally often in every position. A missing token has
    contribution zero.

    **Arguments:** `predictor`, int `[n T]` → float `[n]`, called with batches of at most `batch` strings; `tokens`
    `[T]`; `vocab`, `V`; `samples` per time (256 or a little more by default; giving it forces sampling); `weights`, also
    return all $w_t$ (`V` times the work); `key` for sampling.

    **Raises:** `DataError` for tokens that are not codes; `ImpossibleTokenError` if the reference forbids one;
    `ConfigurationError` for an unknown reference, or weights under a process.
    """
    own = predictor.model if isinstance(predictor, NextToken) else None
    tokens = converted(tokens, "tokens", None if own is None else own.vocabulary)
    z = np.asarray(tokens[0] if isinstance(tokens, Sequences) and tokens.number == 1 else tokens)
    if z.ndim != 1 or (z.size and (z.dtype.kind not in "iu" or z.min() < -1 or z.max() >= vocab)):
        raise DataError(f"The tokens must be one sequence of codes 0 … {vocab - 1}, and -1 for a missing one.")
    z = z.astype(np.int32)
    if reference is None:
        reference = "uniform" if own is None else Support(own)
    drawn = Reference.of(reference, vocab)
    if weights and not drawn.uniform:
        raise ConfigurationError("Weights exist for uniform references only; a process gives contributions.")
    drawn.along(z)  # names a token that the reference forbids
    if samples is None:
        may_merge = own is not None and Beliefs((own, drawn.process)).may_merge
        for merge in (True, False) if may_merge else (False,):
            exact = _exact(predictor, z, drawn, merge, batch)
            if exact is not None:
                return _assemble(*exact, z, drawn, weights, "merged beliefs" if merge else "enumeration")
    return _by_sampling(predictor, z, drawn, weights, samples, key, batch)


def _assemble(branches, last, evaluations: int, z, drawn: Reference, weights: bool, method: str) -> Representation:
    """A representation from exact `branches[t, z] = S_{t+1}(z_{1:t}, z)` (NaN where the reference forbids `z`)."""
    values, w = _values_and_weights(branches, last, z, drawn)
    zero = np.zeros(len(z) + 1)
    steps = values[1:] - values[:-1]
    return Representation(values, steps, w if weights else None, zero, zero[1:], method, evaluations)


def _values_and_weights(branches, last, z, drawn: Reference):
    """`S_t = Σ_z p_t(z) branches[t, z]` `[T+1]`, and the weights `[T V-1]` with no deviation for a forbidden token."""
    shares = drawn.next(drawn.along(z)[:-1])
    present = np.where(np.isnan(branches), 0, branches)
    means = np.sum(shares * present, axis=1)
    values = np.append(means, last)
    for t in reversed(np.flatnonzero(z < 0)):
        values[t] = values[t + 1]
    deviation = np.where(np.isnan(branches) | (z < 0)[:, None], 0, present - means[:, None])
    return values, deviation[:, 1:]


def _exact(predictor: Target, z: np.ndarray, drawn: Reference, merge: bool, batch: int):
    """`(branches [T V], S_T, evaluations)` by backward averaging over all admissible continuations at once.

    Nodes of level `s` are the strings of length `s`, or (`merge`) the beliefs they lead to. `None` if there are too many.
    """
    own = predictor.model if merge else None
    world = Beliefs((drawn.process,) if own is None or own is drawn.process else (own, drawn.process))
    nodes, strings, path, levels = world.initial(), np.zeros((1, 0), np.int32), [0], []
    for token_seen in z:
        share = drawn.next(world.split(nodes)[-1]) if token_seen >= 0 else np.ones((len(nodes), 1))
        parent, token = np.nonzero(share > 0)
        if len(parent) > MAX_STRINGS:
            return None
        moved = token if token_seen >= 0 else np.full(len(token), -1)
        nodes = world.after(nodes[parent], moved)
        index = np.arange(len(nodes))
        if merge:
            nodes, index = cloud.distinct(nodes, SAME_BELIEF)
        else:
            strings = np.concatenate([strings[parent], moved[:, None].astype(np.int32)], axis=1)
        child = np.zeros(share.shape, int)
        child[parent, token] = index
        levels.append((share, child))
        path.append(int(child[path[-1], max(token_seen, 0)]))
        if merge and len(nodes) > MAX_BELIEFS:
            return None
    if own is None:
        S = _evaluate(predictor, strings, batch)
    else:
        S = world.next(nodes)[:, predictor.token]
    last, branches = float(S[path[-1]]), np.full((len(z), drawn.process.n_tokens), np.nan)
    for t, (share, child) in reversed(list(enumerate(levels))):
        if z[t] >= 0:
            branches[t] = np.where(share[path[t]] > 0, S[child[path[t]]], np.nan)
        S = np.sum(share * S[child], axis=1)
    return branches, last, 0 if merge else len(strings)


def _by_sampling(predictor, z, drawn: Reference, weights: bool, samples, key, batch: int) -> Representation:
    """Means over `REPLICATES` independent Latin tables of continuations, with standard errors from their spread."""
    T, V = len(z), drawn.process.n_tokens
    wanted = 256 if samples is None else samples
    size = V * -(-wanted // (REPLICATES * V))
    rng = generator(0 if key is None else key)
    along = drawn.along(z)
    draws, evaluations = [], 0
    for _ in range(REPLICATES):
        table = latin_table(rng, size, T)
        mean_of = lambda strings: _evaluate(predictor, strings.reshape(-1, T), batch).reshape(-1, size).mean(1)
        if weights:
            strings, index = branching_strings(z, drawn, along, table)
            S = mean_of(strings)
            branches = np.full((T, V), np.nan)
            branches[tuple(index)] = S[:-1]
            draws.append(_values_and_weights(branches, S[-1], z, drawn))
        else:
            strings = continued_strings(z, drawn, along, table)
            draws.append((mean_of(strings), np.zeros((T, V - 1))))
        evaluations += strings.shape[0] * size
    values = np.stack([v for v, _ in draws])
    steps = values[:, 1:] - values[:, :-1]
    error = lambda x: x.std(0, ddof=1) / np.sqrt(REPLICATES)
    w = np.mean([u for _, u in draws], axis=0) if weights else None
    return Representation(values.mean(0), steps.mean(0), w, error(values), error(steps), "sampling", evaluations)


def latin_table(rng: np.random.Generator, size: int, length: int) -> np.ndarray:
    """Numbers in [0, 1), `[size length]`: in every column one in each interval of width `1/size`."""
    return (rng.permuted(np.tile(np.arange(size)[:, None], length), axis=0) + rng.random((size, length))) / size


def _continue(strings, belief, start: int, z, drawn: Reference, table):
    """Fill `strings` `[n T]` from position `start` with tokens of the reference; column `s` uses `table[:, s]`."""
    world = Beliefs((drawn.process,))
    for s in range(start, len(z)):
        token = np.full(len(strings), -1)
        if z[s] >= 0:
            cumulative = np.cumsum(drawn.next(belief), axis=1)
            cumulative /= cumulative[:, -1:]
            token = np.sum(cumulative <= table[:, s, None], axis=1)
        strings[:, s] = token
        belief = world.after(belief, token)
    return strings


def continued_strings(z, drawn: Reference, along, table) -> np.ndarray:
    """Observed up to `t`, sampled after, for `t = 0 … T`: `[T+1 size T]`, all from one table."""
    size, T = table.shape
    strings = np.tile(z, (T + 1, size, 1))
    for t in range(T):
        _continue(strings[t], np.repeat(along[t : t + 1], size, axis=0), t, z, drawn, table)
    return strings


def branching_strings(z, drawn: Reference, along, table):
    """Observed up to `t`, then each admissible token, then sampled: `[n size T]` and their `(t, z)`; last the string."""
    world = Beliefs((drawn.process,))
    size = len(table)
    strings, index = [], []
    for t in map(int, np.flatnonzero(z >= 0)):
        for token in np.flatnonzero(drawn.next(along[t : t + 1])[0] > 0):
            block = np.tile(z, (size, 1))
            block[:, t] = token
            belief = np.repeat(world.after(along[t : t + 1], np.array([token])), size, axis=0)
            strings.append(_continue(block, belief, t + 1, z, drawn, table))
            index.append((t, token))
    return np.stack([*strings, np.tile(z, (size, 1))]), np.array(index, dtype=int).reshape(-1, 2).T


def _evaluate(predictor: Target, strings: np.ndarray, batch: int) -> np.ndarray:
    """The predictor on every string `[n T]`, each distinct one once, in batches of few different sizes."""
    distinct, inverse = np.unique(strings, axis=0, return_inverse=True)
    out = np.zeros(len(distinct))
    for rows in chunks(len(distinct), batch):
        part = distinct[rows]
        size = min(batch, 1 << (len(part) - 1).bit_length())  # powers of two, so that few shapes are compiled
        padded = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)]) if size > len(part) else part
        out[rows] = np.asarray(predictor(padded), np.float64)[: len(part)]
    return out[inverse.ravel()]
