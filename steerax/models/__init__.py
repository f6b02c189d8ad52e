"""What generates data: models, a library of known processes, sampling, and their entropies."""

from .conditional import AbstractConditionalHMM
from .entropy import ConditionalEntropy, conditional_entropy, entropy_rate
from .generalised import GeneralisedHMM, as_generalised
from .hmm import HiddenMarkovModel
from .lagged import LaggedHMM
from .machines import (
    coin,
    days_of_week,
    even,
    golden_mean,
    leaky_rrxor,
    mixture,
    mr_name,
    parentheses,
    product,
    rrxor,
    sns,
    zero_one_random,
)
from .quantum import fanizza, hermitian_basis, instrument, post_quantum, random_quantum, tom_quantum
from .sampling import sample_batch, sample_sequences
from .transitions import OrderKTransition
from .zoo import casino, left_right, mess3, mixed_with_uniform, order_k, random_hmm, random_order_k, two_cycle

__all__ = [
    "AbstractConditionalHMM",
    "ConditionalEntropy",
    "GeneralisedHMM",
    "HiddenMarkovModel",
    "LaggedHMM",
    "OrderKTransition",
    "as_generalised",
    "casino",
    "coin",
    "conditional_entropy",
    "days_of_week",
    "entropy_rate",
    "even",
    "fanizza",
    "golden_mean",
    "hermitian_basis",
    "instrument",
    "leaky_rrxor",
    "left_right",
    "mess3",
    "mixed_with_uniform",
    "mixture",
    "mr_name",
    "order_k",
    "parentheses",
    "post_quantum",
    "product",
    "random_hmm",
    "random_order_k",
    "random_quantum",
    "rrxor",
    "sample_batch",
    "sample_sequences",
    "sns",
    "tom_quantum",
    "two_cycle",
    "zero_one_random",
]
