"""Boolean tasks on all strings of n bits, as problems for class R1."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

from ..._bounds import COUNT_OR_ZERO, Range
from ..._errors import ConfigurationError
from .problem import Problem
from .r1 import R1

Bits = Int[np.ndarray, "N n"]
Labels = Bool[np.ndarray, "N"]


def all_strings(n: int) -> Bits:
    """Every string of n bits, the first bit fastest: string s has bit i equal to (s >> i) & 1."""
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1


def _task(name: str, n: int, rule: Callable[[Bits], Labels], levels: int, even: bool = False) -> Problem:
    Range(1, 10, whole=True).check("n, the bits of a string,", n)
    COUNT_OR_ZERO.check("levels", levels)
    if even and n % 2:
        raise ConfigurationError(f"{name} needs an even number of bits, not {n}.")
    bits = all_strings(n)
    return Problem.create(bits, rule(bits).astype(np.int64), model=R1(n, levels), name=f"{name}({n})")


def parity(n: int, levels: int = 0) -> Problem:
    """An odd number of ones."""
    return _task("parity", n, lambda b: b.sum(1) % 2 == 1, levels)


def majority(n: int, levels: int = 0) -> Problem:
    """Strictly more ones than zeros."""
    return _task("majority", n, lambda b: 2 * b.sum(1) > n, levels)


def palindrome(n: int, levels: int = 0) -> Problem:
    """The same forwards and backwards."""
    return _task("palindrome", n, lambda b: np.all(np.equal(b, b[:, ::-1]), axis=1), levels)


def sorted(n: int, levels: int = 0) -> Problem:
    """No one before a zero."""
    return _task("sorted", n, lambda b: np.all(b[:, :-1] <= b[:, 1:], axis=1), levels)


def dyck(n: int, levels: int = 0) -> Problem:
    """Balanced brackets: 1 opens, 0 closes, never below zero and zero at the end; n even."""

    def rule(b: Bits) -> Labels:
        height = np.cumsum(2 * b - 1, axis=1)
        return (height >= 0).all(1) & (height[:, -1] == 0)

    return _task("dyck", n, rule, levels, even=True)


def first_last(n: int, levels: int = 0) -> Problem:
    """The first bit equals the last."""
    return _task("first_last", n, lambda b: b[:, 0] == b[:, -1], levels)


def contains(n: int, pattern: str = "11", levels: int = 0) -> Problem:
    """Some window reads like the pattern."""
    if not pattern or set(pattern) - {"0", "1"} or len(pattern) > n:
        raise ConfigurationError(f"The pattern {pattern!r} must be 1 to {n} characters 0 and 1.")
    want = np.array([int(c) for c in pattern])

    def rule(b: Bits) -> Labels:
        windows = np.lib.stride_tricks.sliding_window_view(b, len(want), axis=1)
        return (windows == want).all(-1).any(1)

    return _task(f"contains_{pattern}", n, rule, levels)


def ones_mod(n: int, modulus: int = 3, levels: int = 0) -> Problem:
    """The number of ones is divisible by the modulus."""
    if modulus < 2:
        raise ConfigurationError(f"modulus={modulus}: choose 2 or more.")
    return _task(f"ones_mod_{modulus}", n, lambda b: b.sum(1) % modulus == 0, levels)


def two_ones(n: int, levels: int = 0) -> Problem:
    """Exactly two ones."""
    return _task("two_ones", n, lambda b: b.sum(1) == 2, levels)


def alternating(n: int, levels: int = 0) -> Problem:
    """Neighbours always differ."""
    return _task("alternating", n, lambda b: (b[:, :-1] != b[:, 1:]).all(1), levels)


def last_is_majority(n: int, levels: int = 0) -> Problem:
    """The last bit equals the majority (ones strictly more than zeros)."""
    return _task("last_is_majority", n, lambda b: np.equal(b[:, -1] == 1, 2 * b.sum(1) > n), levels)


# The names of the command line; the first twelve are the suite.
TASKS: dict[str, Callable[[int], Problem]] = {
    "parity": parity,
    "majority": majority,
    "palindrome": palindrome,
    "sorted": sorted,
    "dyck": dyck,
    "first_last": first_last,
    "contains_11": lambda n: contains(n, "11"),
    "contains_101": lambda n: contains(n, "101"),
    "ones_mod_3": lambda n: ones_mod(n, 3),
    "two_ones": two_ones,
    "alternating": alternating,
    "last_is_majority": last_is_majority,
}
