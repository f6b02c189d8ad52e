"""Reference distributions: how continuations are sampled when a predictor is decomposed."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from .._errors import ConfigurationError
from ..maths.beliefs import log_product
from ..models.hmm import HiddenMarkovModel
from .hmm.filter import filter_tokens


@dataclasses.dataclass(frozen=True)
class Support:
    """Uniform over the tokens that are admissible next under a process."""

    process: HiddenMarkovModel


def support(process: HiddenMarkovModel) -> Support:
    """The reference that draws uniformly among the tokens of positive probability under a process."""
    return Support(process)


@dataclasses.dataclass(frozen=True)
class Reference:
    """The distribution of the next token as a function of the belief of a process, on the host in float64.

    **Attributes:** `process`; `uniform`, whether it is uniform on the support (so that weights exist).
    """

    process: HiddenMarkovModel
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
        elif isinstance(reference, HiddenMarkovModel):
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
        """Logarithms of the beliefs `[T+1 d]` along the observed tokens. Raises `ImpossibleTokenError` if it forbids one."""
        filter_tokens(self.process, tokens)
        world = Beliefs((self.process,))
        path = [world.initial()]
        for token in np.asarray(tokens):
            path.append(world.after(path[-1], np.array([token])))
        return np.concatenate(path)

    def next(self, log_beliefs: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n V"]:
        """The distribution of the next token for each belief."""
        log_q = log_product(log_beliefs, np.asarray(self.process.emission, np.float64))
        if self.uniform:
            admissible = log_q > -np.inf
            return admissible / admissible.sum(1, keepdims=True)
        q = np.exp(log_q - log_q.max(1, keepdims=True))
        return q / q.sum(1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Beliefs:
    """The beliefs of one or more processes side by side, moved together by the same tokens. They are held as logarithms, so
    that no possible state is lost."""

    processes: tuple[HiddenMarkovModel, ...]

    def initial(self) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.concatenate([np.asarray(p.initial, np.float64) for p in self.processes]))[None]

    def split(self, beliefs: np.ndarray) -> list[np.ndarray]:
        """`[n d_1 + d_2 + …]` → `[n d_1]`, `[n d_2]`, …"""
        return np.split(beliefs, np.cumsum([p.n_states for p in self.processes])[:-1], axis=1)

    def after(self, beliefs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The beliefs after one token each, `[n D]`; −1 is a missing token, and so is one that a process forbids."""
        out = []
        for b, (A, C) in zip(self.split(beliefs), self._matrices, strict=True):
            with np.errstate(divide="ignore"):
                joint = np.where((tokens >= 0)[:, None], b + np.log(C[:, tokens].T), b)
            possible = (joint > -np.inf).any(axis=1, keepdims=True)
            moved = log_product(np.where(possible, joint, b), A)
            out.append(moved - np.logaddexp.reduce(moved, axis=1, keepdims=True))
        return np.concatenate(out, axis=1)

    @functools.cached_property
    def _matrices(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Transition and emission of each process, dense, in float64."""
        return [
            (np.asarray(p.dense_transition, np.float64), np.asarray(p.emission, np.float64)) for p in self.processes
        ]
