"""How many free parameters a model of lags has."""

from jaxtyping import Array

from ...models.lagged import LaggedHMM


def n_parameters(model: LaggedHMM) -> int:
    """Free parameters: one less than its length for every row of probabilities, and the scores of attention, of which a constant for
    each lag is the weight of that lag and one for all changes nothing.

    Some of them move no kernel (what is added to the rows of one lag can be taken from another), so criteria that count parameters
    ask too much of a model of several lags; held-out data do not.
    """
    rows = lambda p: p.size // p.shape[-1] * (p.shape[-1] - 1)
    lags = lambda w, scores: (w.size if scores is None else scores.size) - 1
    total = rows(model.initial) + rows(model.transition) + rows(model.emission) + lags(model.weights, model.attention)
    weights: Array | None = model.emission_weights
    return total if weights is None else total + lags(weights, model.emission_attention)
