r"""Path contributions of causal predictors along one window, for all queries at once.

`steerax.represent` explains one prediction of a predictor that is called on whole strings. A causal predictor gives,
on one continuation, the predictions of all later queries, so here every query costs as much as one. With $S_t^q$ the
mean, over continuations of the first $t$ tokens, of the probability given to the target of query $q$,

$$\text{prediction}_q=S_0^q+\sum_{t<q}(S_{t+1}^q-S_t^q).$$
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...inference.reference import Reference
from ...inference.represent import REPLICATES, branching_strings, continued_strings, latin_table
from ...inference.score import next_token_log_probabilities

# strings -> probability of the target of query q after their first q tokens, for q = 1 … T
_OfTargets = Callable[[Int[np.ndarray, "n T"]], Float[np.ndarray, "n T"]]


def path_contributions(
    predictors: dict[str, _OfTargets], tokens: Int[np.ndarray, " T"], reference: Reference, samples: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(contributions $S_{t+1}^q-S_t^q$, standard errors), each name → `[T+1 T]`; row 0 is zero.

    All predictors see the same continuations, `samples` per step, and the same random numbers serve every step: where
    only one token is admissible, the contribution is exactly zero.
    """
    T = len(tokens)
    rng, along = np.random.default_rng(seed), reference.along(tokens)
    size = max(1, samples // REPLICATES)
    values = {name: np.zeros((REPLICATES, T + 1, T)) for name in predictors}  # S_t^q: [group, t, q-1]
    for group in range(REPLICATES):
        strings = continued_strings(tokens, reference, along, latin_table(rng, size, T))
        for name, predict in predictors.items():
            values[name][group] = predict(strings.reshape(-1, T)).reshape(T + 1, size, T).mean(1)
    contributions, errors = {}, {}
    for name, S in values.items():
        parts = np.zeros((REPLICATES, T + 1, T))
        parts[:, 1:] = np.swapaxes(S[:, 1:] - S[:, :-1], 1, 2)
        parts *= np.tri(T + 1, T, -1)  # a token after the query contributes nothing
        contributions[name] = parts.mean(0)
        errors[name] = parts.std(0, ddof=1) / np.sqrt(REPLICATES)
    return contributions, errors


def adapted_weights(
    predictors: dict[str, _OfTargets], tokens: Int[np.ndarray, " T"], reference: Reference, samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Name → weights of the last query `[V-1 T]`: $w_t[z]=S_{t+1}(z)-S_t$, zero for a token that is not admissible.

    They are terms of the prediction (the paper's $U_t$ with the opposite sign), for references that are uniform on their
    support, in the encoding where token 0 is minus the sum of the others.
    """
    T, along = len(tokens), reference.along(tokens)
    table = latin_table(np.random.default_rng(seed), samples, T)
    strings, (times, token) = branching_strings(tokens, reference, along, table)
    weights = {}
    for name, predict in predictors.items():
        means = predict(strings[:-1].reshape(-1, T))[:, -1].reshape(-1, samples).mean(1)
        w = np.zeros((reference.process.n_tokens, T))
        for t in range(T):
            here = times == t
            w[token[here], t] = means[here] - means[here].mean()
        weights[name] = w[1:]
    return weights


def hmm_predictor(hmm: Any, targets: Int[np.ndarray, " T1"]) -> _OfTargets:
    """The exact filter as the predictor of one target per query."""

    def predict(strings: np.ndarray) -> np.ndarray:
        log_p = next_token_log_probabilities(hmm, strings)
        return np.exp(log_p[:, np.arange(1, log_p.shape[1]), targets[1:]])

    return predict
