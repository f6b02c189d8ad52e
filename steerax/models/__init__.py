"""What generates data: models, a library of known processes, sampling, and their entropies."""

from .entropy import ConditionalEntropy, conditional_entropy, entropy_rate
from .hmm import HiddenMarkovModel
from .sampling import sample_batch, sample_sequences
from .transitions import OrderKTransition
from .zoo import casino, left_right, mess3, mixed_with_uniform, order_k, random_hmm, random_order_k, two_cycle

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
