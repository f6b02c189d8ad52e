"""Reference distributions: how continuations are sampled when a predictor is decomposed."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from .._errors import ConfigurationError
from ..maths.beliefs import log_product, moved_by, positive
from ..models.generalised import GeneralisedHMM, check_process
from ..models.hmm import HiddenMarkovModel
from .generalised.filter import filter_tokens as filter_of_operators
from .hmm.filter import filter_tokens

Process = HiddenMarkovModel | GeneralisedHMM


@dataclasses.dataclass(frozen=True)
class Support:
    """Uniform over the tokens that are admissible next under a process."""

    process: Any


def support(process: Any) -> Support:
    """The reference that draws uniformly among the tokens of positive probability under a process.

    **Raises:** `ConfigurationError` for another process than a (generalised) hidden Markov model of tokens.
    """
    check_process("support", process)
    return Support(process)


@dataclasses.dataclass(frozen=True)
class Reference:
    """The distribution of the next token as a function of the belief of a process, on the host in float64.

    **Attributes:** `process`; `uniform`, whether it is uniform on the support (so that weights exist).
    """

    process: Process
    uniform: bool

    @classmethod
    def of(cls, reference: Any, vocab: int) -> "Reference":
        """The reference of `represent`: `"uniform"`, a `Support`, or a process.

        **Raises:** `ConfigurationError` for anything else or another vocabulary.
        """
        if isinstance(reference, str) and reference == "uniform":
            # independent uniform tokens are a process with one state
            chosen = cls(HiddenMarkovModel([1.0], [[1.0]], np.full((1, vocab), 1 / vocab)), True)
        elif isinstance(reference, Support):
            chosen = cls(reference.process, True)
        elif isinstance(reference, Process):
            check_process("represent", reference)
            chosen = cls(reference, False)
        else:
            raise ConfigurationError(
                f"Unknown reference {reference!r}; use 'uniform', support(process), or a hidden Markov model."
            )
        if chosen.process.n_tokens != vocab:
            raise ConfigurationError(
                f"The reference has {chosen.process.n_tokens} tokens and the predictor {vocab}; they must be equal."
            )
        return chosen

    def along(self, tokens: np.ndarray) -> np.ndarray:
        """The beliefs `[T+1 d]`, as `Beliefs` holds them, along the observed tokens. Raises `ImpossibleTokenError` if it
        forbids one."""
        (filter_of_operators if isinstance(self.process, GeneralisedHMM) else filter_tokens)(self.process, tokens)  # pyright: ignore[reportArgumentType]
        world = Beliefs((self.process,))
        path = [world.initial()]
        for token in np.asarray(tokens):
            path.append(world.after(path[-1], np.array([token])))
        return np.concatenate(path)

    def next(self, beliefs: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n V"]:
        """The distribution of the next token for each belief."""
        log_q = self._held.log_next(beliefs)
        if self.uniform:
            admissible = log_q > -np.inf
            return admissible / admissible.sum(1, keepdims=True)
        q = np.exp(log_q - log_q.max(1, keepdims=True))
        return q / q.sum(1, keepdims=True)

    @functools.cached_property
    def _held(self) -> Any:
        return _held_of(self.process)


@dataclasses.dataclass(frozen=True)
class Beliefs:
    """The beliefs of one or more processes side by side, moved together by the same tokens. They are held as logarithms, so
    that no possible state is lost; those of a process with negative entries, which have none, as they are."""

    processes: tuple[Process, ...]

    @property
    def may_merge(self) -> bool:
        """Whether beliefs that look equal stay so: products with matrices that are not negative bring logarithms no further
        apart."""
        return not any(isinstance(held, _Signed) for held in self._held)

    def initial(self) -> np.ndarray:
        return np.concatenate([held.start for held in self._held])[None]

    def split(self, beliefs: np.ndarray) -> list[np.ndarray]:
        """`[n d_1 + d_2 + …]` → `[n d_1]`, `[n d_2]`, …"""
        return np.split(beliefs, np.cumsum([p.n_states for p in self.processes])[:-1], axis=1)

    def after(self, beliefs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The beliefs after one token each, `[n D]`; −1 is a missing token, and so is one that a process forbids."""
        parts = zip(self.split(beliefs), self._held, strict=True)
        return np.concatenate([held.after(b, tokens) for b, held in parts], axis=1)

    def next(self, beliefs: np.ndarray) -> Float[np.ndarray, "n V"]:
        """The first process's distributions of the next token."""
        return self._held[0].next(self.split(beliefs)[0])

    @functools.cached_property
    def _held(self) -> list[Any]:
        return [_held_of(process) for process in self.processes]


class _Chain:
    """Beliefs of a hidden Markov model, as logarithms."""

    def __init__(self, process: HiddenMarkovModel):
        with np.errstate(divide="ignore"):
            self.start = np.log(np.asarray(process.initial, np.float64))
        self.A, self.C = (np.asarray(a, np.float64) for a in (process.dense_transition, process.emission_matrix))

    def after(self, b: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            joint = np.where((tokens >= 0)[:, None], b + np.log(self.C[:, tokens].T), b)
        possible = (joint > -np.inf).any(axis=1, keepdims=True)
        return _normalised(log_product(np.where(possible, joint, b), self.A))

    def log_next(self, b: np.ndarray) -> Float[np.ndarray, "n V"]:
        return log_product(b, self.C)

    def next(self, b: np.ndarray) -> Float[np.ndarray, "n V"]:
        return np.exp(b) @ self.C


class _Operators:
    """Beliefs of a generalised model without negative entries, as logarithms."""

    def __init__(self, process: GeneralisedHMM):
        p0, self.T, w = (np.asarray(a, np.float64) for a in process.arrays)
        with np.errstate(divide="ignore"):
            self.start, self.log_w = np.log(p0), np.log(w)
        self.A, self.columns = self.T.sum(0), (self.T @ w).T

    def after(self, b: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        moved = np.full_like(b, -np.inf)
        for z in np.unique(tokens[tokens >= 0]):
            moved[tokens == z] = log_product(b[tokens == z], self.T[z])
        forbidden = (tokens < 0) | (moved + self.log_w == -np.inf).all(axis=1)
        moved[forbidden] = log_product(b[forbidden], self.A)
        return moved - np.logaddexp.reduce(moved + self.log_w, axis=1, keepdims=True)

    def log_next(self, b: np.ndarray) -> Float[np.ndarray, "n V"]:
        return log_product(b, self.columns)

    def next(self, b: np.ndarray) -> Float[np.ndarray, "n V"]:
        return np.exp(b) @ self.columns


class _Signed:
    """Beliefs of a model with negative entries, as they are."""

    def __init__(self, process: GeneralisedHMM):
        self.start, self.T, self.w = (np.asarray(a, np.float64) for a in process.arrays)

    def after(self, b: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        moved = moved_by(b, self.T[np.maximum(tokens, 0)])
        forbidden = (tokens < 0) | (self.next(b)[np.arange(len(b)), tokens] == 0)
        moved = np.where(forbidden[:, None], b @ self.T.sum(0), moved)
        return moved / (moved @ self.w)[:, None]

    def log_next(self, b: np.ndarray) -> Float[np.ndarray, "n V"]:
        with np.errstate(divide="ignore"):
            return np.log(self.next(b))

    def next(self, b: np.ndarray) -> Float[np.ndarray, "n V"]:
        return positive(b, self.T, self.w)


def _normalised(b: np.ndarray) -> np.ndarray:
    return b - np.logaddexp.reduce(b, axis=1, keepdims=True)


def _held_of(process: Process) -> Any:
    if isinstance(process, HiddenMarkovModel):
        return _Chain(process)
    return (_Signed if any((np.asarray(a) < 0).any() for a in process.arrays) else _Operators)(process)
