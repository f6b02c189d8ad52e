"""What generates data: models, a library of known processes, sampling, and their entropies."""

from .entropy import ConditionalEntropy, conditional_entropy, entropy_rate
from .hmm import HiddenMarkovModel
from .library import (
    casino,
    left_right,
    mess3,
    mixed_with_uniform,
    order_k,
    random_hmm,
    random_order_k,
    two_cycle,
)
from .order_k import OrderKTransition
from .sampling import sample_batch, sample_sequences

__all__ = [
    "ConditionalEntropy",
    "HiddenMarkovModel",
    "OrderKTransition",
    "casino",
    "conditional_entropy",
    "entropy_rate",
    "left_right",
    "mess3",
    "mixed_with_uniform",
    "order_k",
    "random_hmm",
    "random_order_k",
    "sample_batch",
    "sample_sequences",
    "two_cycle",
]
