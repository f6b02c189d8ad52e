"""Path contributions of any causal predictor to its predictions along one window, for all queries at once.

With a reference law for continuations and `S_t^q` the mean, over continuations of the first `t` tokens, of the
probability that the predictor gives to the target of query `q`,

    prediction_q = S_0^q - Σ_{t<q} (S_t^q - S_{t+1}^q),

the contribution of token `t+1` is `S_t^q - S_{t+1}^q`. A causal predictor evaluated on one continuation answers every
later query, so all of them cost as much as one. Draws are Latin: at each position the uniform numbers are spread
evenly, and the same numbers serve every `t`, so that where only one token is admissible the contribution is exactly
zero. Standard errors come from independent groups of draws.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from ...processes.hmm import HiddenMarkovModel

GROUPS = 4

# tokens [n T] -> probability of the target of query q after its first q tokens, [n T] for q = 1 … T
Predictor = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A law of continuations: `kind` "support" (uniform over the tokens possible next under `hmm`), "uniform" (over
    all tokens) or "hmm" (the predictive law of `hmm`)."""

    kind: str
    hmm: HiddenMarkovModel

    def describe(self) -> str:
        """What it is, in words."""
        return {
            "support": "uniform over the tokens that can come next under the process",
            "uniform": "uniform over all tokens",
            "hmm": "drawn from the hidden Markov model",
        }[self.kind]


def continuations(reference: Reference, tokens: np.ndarray, t: int, uniform: np.ndarray) -> np.ndarray:
    """`[n T]`: the first `t` tokens, then tokens drawn from the reference by the numbers `uniform [n T]` in [0, 1)."""
    n, T = uniform.shape
    out = np.repeat(tokens[None], n, axis=0)
    A = _dense(reference.hmm)
    C = np.asarray(reference.hmm.emission, np.float64)
    belief = np.asarray(reference.hmm.initial, np.float64)
    for z in tokens[:t]:
        belief = _update(belief[None], A, C, np.array([z]))[0]
    beliefs = np.repeat(belief[None], n, axis=0)
    for s in range(t, T):
        law = beliefs @ C
        if reference.kind != "hmm":
            law = np.ones_like(law) if reference.kind == "uniform" else (law > 0).astype(float)
        cumulative = np.cumsum(law, axis=1)
        drawn = np.sum(cumulative <= uniform[:, s, None] * cumulative[:, -1:], axis=1)
        out[:, s] = drawn
        beliefs = _update(beliefs, A, C, drawn)
    return out


def latin(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """`[n length]` numbers in [0, 1): in every column one in each interval of width 1/n."""
    order = rng.permuted(np.repeat(np.arange(n)[:, None], length, axis=1), axis=0)
    return (order + rng.random((n, length))) / n


def path_contributions(
    predictors: dict[str, Predictor], tokens: np.ndarray, reference: Reference, samples: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(contributions, standard errors), each name → `[T+1, T]`; row `q` is query `q`, and row 0 is zero.

    **Arguments:** `predictors`, by name; `tokens [T]`, without gaps; `samples`, continuations per step, drawn in
    `GROUPS` groups.
    """
    T = len(tokens)
    rng = np.random.default_rng(seed)
    draws = [latin(rng, max(1, samples // GROUPS), T) for _ in range(GROUPS)]
    values = {name: np.zeros((GROUPS, T + 1, T)) for name in predictors}  # S_t^q, [group, t, q-1]
    for t in range(T + 1):
        paths = np.concatenate([continuations(reference, tokens, t, u) for u in draws]) if t < T else tokens[None]
        for name, predict in predictors.items():
            found = predict(paths)
            values[name][:, t] = found.reshape(GROUPS, -1, T).mean(1) if t < T else found
    contributions, errors = {}, {}
    for name, S in values.items():
        parts = np.zeros((GROUPS, T + 1, T))
        parts[:, 1:] = np.swapaxes(S[:, :-1] - S[:, 1:], 1, 2)
        parts *= np.tri(T + 1, T, -1)  # a token after the query contributes nothing
        contributions[name] = parts.mean(0)
        errors[name] = parts.std(0, ddof=1) / np.sqrt(GROUPS)
    return contributions, errors


def adapted_weights(
    predictors: dict[str, Predictor], tokens: np.ndarray, reference: Reference, samples: int, seed: int, size: int
) -> dict[str, np.ndarray]:
    """Name → `U [V-1, T]` of the last query: `U_t[z] = -(S_{t+1}(z) - S_t)`, zero for a token that is not admissible.

    `S_{t+1}(z)` is the mean over continuations after token `z`, `S_t` the mean of these over admissible tokens; for
    the references that are uniform on their support, in the encoding where the token 0 is minus the sum of the others.
    """
    T = len(tokens)
    u = latin(np.random.default_rng(seed), samples, T)
    weights = {name: np.zeros((size, T)) for name in predictors}
    for t in range(T):
        admissible = _admissible(reference, tokens[:t])
        branches = []
        for z in admissible:
            branched = tokens.copy()
            branched[t] = z
            branches.append(continuations(reference, branched, t + 1, u))
        for name, predict in predictors.items():
            means = np.array([predict(branch)[:, -1].mean() for branch in branches])
            weights[name][admissible, t] = means.mean() - means
    return {name: w[1:] for name, w in weights.items()}


def hmm_predictor(hmm: HiddenMarkovModel, targets: np.ndarray) -> Predictor:
    """The exact filter as a predictor of `targets [T+1]`, one per query."""
    A, C = _dense(hmm), np.asarray(hmm.emission, np.float64)

    def predict(paths: np.ndarray) -> np.ndarray:
        beliefs = np.repeat(np.asarray(hmm.initial, np.float64)[None], len(paths), axis=0)
        out = np.empty(paths.shape)
        for s in range(paths.shape[1]):
            beliefs = _update(beliefs, A, C, paths[:, s])
            out[:, s] = beliefs @ C[:, targets[s + 1]]
        return out

    return predict


def _admissible(reference: Reference, prefix: np.ndarray) -> np.ndarray:
    A, C = _dense(reference.hmm), np.asarray(reference.hmm.emission, np.float64)
    if reference.kind == "uniform":
        return np.arange(C.shape[1])
    belief = np.asarray(reference.hmm.initial, np.float64)[None]
    for z in prefix:
        belief = _update(belief, A, C, np.array([z]))
    return np.flatnonzero(belief[0] @ C > 0)


def _update(beliefs: np.ndarray, A: np.ndarray, C: np.ndarray, z: np.ndarray) -> np.ndarray:
    """One filter step of many beliefs `[n d]`; a token that is impossible is stepped over."""
    joint = beliefs * C[:, z].T
    mass = joint.sum(1, keepdims=True)
    return np.where(mass > 0, joint / np.where(mass > 0, mass, 1), beliefs) @ A


def _dense(hmm: HiddenMarkovModel) -> np.ndarray:
    A = hmm.transition
    return np.asarray(A.dense() if hasattr(A, "dense") else A, np.float64)
