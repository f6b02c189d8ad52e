"""What hidden states emit besides tokens: `sx.emissions.Gaussian` and its sisters, for `HiddenMarkovModel` and `HMM`."""

from .autoregressive import Autoregressive
from .base import AbstractEmission, Family, Prior
from .composed import Mixture, Product
from .counts import Categorical, NegativeBinomial, Poisson
from .gaussian import Gaussian, StudentT
from .regression import Regression

__all__ = [
    "AbstractEmission",
    "Autoregressive",
    "Categorical",
    "Family",
    "Gaussian",
    "Mixture",
    "NegativeBinomial",
    "Poisson",
    "Prior",
    "Product",
    "Regression",
    "StudentT",
]
