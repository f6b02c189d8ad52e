"""What hidden states emit besides tokens: `sx.emissions.Gaussian` and its sisters, for `HiddenMarkovModel` and `HMM`."""

from .base import AbstractEmission, Family, Prior
from .composed import Mixture, Product
from .counts import Categorical, NegativeBinomial, Poisson
from .gaussian import Gaussian, StudentT

__all__ = [
    "AbstractEmission",
    "Categorical",
    "Family",
    "Gaussian",
    "Mixture",
    "NegativeBinomial",
    "Poisson",
    "Prior",
    "Product",
    "StudentT",
]
