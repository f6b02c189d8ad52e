"""What comes next: one verb for every kind of model."""

from typing import Any

from .._errors import ConfigurationError
from ..models.hmm import HiddenMarkovModel
from ..models.linear_gaussian import AbstractLinearGaussianModel


def forecast(model: Any, observations: Any, steps: int):
    """The laws of the next `steps` observations given those so far.

    For a `HiddenMarkovModel` a `TokenForecast`, for a linear-Gaussian
    model a `GaussianForecast`.

    **Arguments:** `model`; `observations`, one sequence or a `Sequences` (each forecast from its own end); `steps`.

    **Raises:** `ConfigurationError` for `steps < 1` or an unknown kind of model, and what the model's filter raises.
    """
    if steps < 1:
        raise ConfigurationError(f"A forecast needs at least one step, not {steps}.")
    if isinstance(model, HiddenMarkovModel):
        from .hmm.forecast import forecast_tokens

        return forecast_tokens(model, observations, steps)
    if isinstance(model, AbstractLinearGaussianModel):
        from .linear.forecast import forecast_observations

        return forecast_observations(model, observations, steps)
    raise ConfigurationError(f"There is no forecast for a {type(model).__name__}.")
