"""Where a prediction comes from: one verb for every kind of model."""

from typing import Any

from .._errors import ConfigurationError
from ..models.hmm import HiddenMarkovModel
from ..models.linear_gaussian import AbstractLinearGaussianModel


def explain(model: Any, observations: Any, queries: Any = -1, target: Any = "next_token", **options: Any):
    """The prediction at each query as a prior term plus one term per past observation,

        prediction(q) = prior(q) + Σ_{s<q} weights(q, s),

    exactly, for one query or all. For a `HiddenMarkovModel` see
    `explain_tokens`, which also lists the options; for a linear-Gaussian model
    `explain_observations`.

    **Raises:** `ConfigurationError` for an unknown kind of model, and what those functions raise.
    """
    if isinstance(model, HiddenMarkovModel):
        from .hmm.explain import explain as explain_tokens

        return explain_tokens(model, observations, queries, target, **options)
    if isinstance(model, AbstractLinearGaussianModel):
        from .linear.forecast import explain_observations

        if options:
            raise ConfigurationError(f"A linear-Gaussian model has no option {next(iter(options))!r} to explain with.")
        return explain_observations(model, observations, queries, target)
    raise ConfigurationError(f"There is no explanation for a {type(model).__name__}.")
