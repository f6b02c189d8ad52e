"""Probes: can the exact belief be read from a network's residual stream, and does that mean anything?"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._bounds import SHARE, bounded
from .._errors import ConfigurationError
from ..data.convert import as_sequences
from ..inference.verbs import filter as exact_filter
from ..maths.keys import as_key, generator
from ..models.generalised import GeneralisedHMM, as_generalised
from .readout import CUTOFF, Score, folds_of, held_out, score_of
from .second_moments import wiener
from .streams import is_network, streams_of, untrained
from .targets import TARGETS, strings_of, targets_of, weights_of

NULLS = {
    "wiener": "the best function that is linear in the one-hot history",
    "untrained": "the same network before training",
    "shuffled": "the beliefs of other strings",
    "last_token": "the last token alone",
    "next_token": "the exact distribution of the next token",
}


@dataclasses.dataclass(frozen=True)
class Probed:
    r"""What `probe` returns; every number is held out by string.

    **Attributes:** `layers`, names of what was read; `scores`, target → one `Score` per layer: of the `"exact"` belief, of the
    `"wiener"` belief (what is linear in the history), of the `"remainder"` exact − Wiener, which only nonlinear work can make
    readable, and of the `"constrained"` belief, in which each token decays by the transition alone; `nulls`, name → $R^2$ of
    the exact belief per layer; `remainder_nulls`, of the remainder; `predicted` `[layers B T d]`; `exact` and `linear`
    `[B T d]`, the beliefs after each token; `tokens` `[B T]`; `model`.
    """

    layers: tuple[str, ...]
    scores: dict[str, list[Score]]
    nulls: dict[str, Float[np.ndarray, " layers"]]
    remainder_nulls: dict[str, Float[np.ndarray, " layers"]]
    predicted: Float[np.ndarray, "layers B T d"]
    exact: Float[np.ndarray, "B T d"]
    linear: Float[np.ndarray, "B T d"]
    tokens: Int[np.ndarray, "B T"]
    model: GeneralisedHMM

    @property
    def r2(self) -> Float[np.ndarray, " layers"]:
        """Share of the variance of the exact belief that each layer's read-out explains."""
        return np.array([score.r2 for score in self.scores["exact"]])

    @property
    def r2_error(self) -> Float[np.ndarray, " layers"]:
        """Standard error of `r2` over strings."""
        return np.array([score.error for score in self.scores["exact"]])

    @property
    def rmse(self) -> Float[np.ndarray, " layers"]:
        """Root-mean-square distance between the read-out and the exact belief."""
        return np.array([score.rmse for score in self.scores["exact"]])

    @property
    def remainder(self) -> Float[np.ndarray, " layers"]:
        """Share of the variance of exact − Wiener that each layer's read-out explains."""
        return np.array([score.r2 for score in self.scores["remainder"]])

    @property
    def r2_by_position(self) -> Float[np.ndarray, "layers T"]:
        """`r2` at each position."""
        return np.stack([score.by_position for score in self.scores["exact"]])

    @property
    def calibration(self) -> list[Float[np.ndarray, "bins 3"]]:
        """For each layer, in ten bins of what the read-out says of a coordinate: its mean, the mean of the exact belief, how many."""
        out = []
        for read in self.predicted:
            said, true = read.ravel(), self.exact.ravel()
            at = np.clip((said * 10).astype(int), 0, 9)
            n = np.bincount(at, minlength=10)
            with np.errstate(invalid="ignore"):
                rows = np.stack([np.bincount(at, said, 10) / n, np.bincount(at, true, 10) / n, n], 1)
            out.append(rows[n > 0])
        return out

    def summary(self) -> str:
        """A table for a terminal: every number beside its nulls."""
        head = ["layer", "exact", "± s.e.", "rmse", "remainder", "Wiener", *(f"null:{name}" for name in self.nulls)]
        rows = [head]
        for i, layer in enumerate(self.layers):
            numbers = [self.r2[i], self.r2_error[i], self.rmse[i], self.remainder[i], self.scores["wiener"][i].r2]
            numbers += [null[i] for null in self.nulls.values()]
            rows.append([layer, *(f"{x:.4f}" for x in numbers)])
        widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
        lines = ["  ".join(cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True)))
                 for row in rows]  # fmt: skip
        return "\n".join(lines)

    def plot(self, **options: Any) -> Any:
        """The belief picture as a matplotlib figure; options of `picture`."""
        from ..report.static import draw
        from .simplex import picture

        return draw(picture(self, **options))

    def to_html(self, path: str | Path, *, overwrite: bool = False) -> None:
        """The table, the picture and what they mean as one HTML file. **Raises:** `ConfigurationError` if there is one."""
        from .page import write_html
        from .record import Knowledge

        write_html(Knowledge(self), path, "the process", overwrite=overwrite)


@bounded(cutoff=SHARE)
def probe(
    activations: Any,
    model: Any,
    tokens: Any,
    nulls: Sequence[str] | None = None,
    *,
    weights: Any = None,
    cutoff: float = CUTOFF,
    key: Any = 0,
) -> Probed:
    r"""Read the exact belief of a process from a network, by an affine map fitted on other strings, beside its nulls.

    The belief after the tokens $Z_0\dots Z_t$, $\pi_{t+1}$, is read from position $t$. Half of the strings are predicted by the
    map of the other half and the other way round; equal strings stay together.

    **Arguments:**

    - `activations`: a network of the house (all half-steps), arrays or files of any framework, or layers of a dual filter, see
      `streams_of`.
    - `model`: the process, a `HiddenMarkovModel` or `GeneralisedHMM`.
    - `tokens`: strings `[B T]` of one length without gaps.
    - `nulls`: names of `NULLS`; `None` is all that apply (`untrained` needs a network).
    - `weights` `[B T]`: of strings and positions in fits and scores (equal by default); 0 leaves out.
    - `cutoff`: smallest singular value that a map uses, as a share of the largest.
    - `key`: of the halves, the untrained network and the shuffling.

    **Raises:** `DataError` for strings, weights or activations that do not fit; `ConfigurationError` for an unknown null.
    """
    process = as_generalised(model)
    strings = strings_of(tokens, process)
    rng = generator(key)
    streams = streams_of(activations, strings)
    names = tuple(NULLS) if nulls is None else tuple(nulls)
    if nulls is None and not (is_network(activations) and hasattr(activations, "config")):
        names = tuple(name for name in names if name != "untrained")
    if unknown := [name for name in names if name not in NULLS]:
        raise ConfigurationError(f"There is no null {unknown[0]!r}; choose among {', '.join(NULLS)}.")
    w = weights_of(weights, strings)
    half = folds_of(strings, int(rng.integers(2**31)))
    linear = wiener(process, strings.shape[1])
    targets = targets_of(process, strings, linear)
    d = process.n_states
    columns = np.concatenate(list(targets.values()), -1)
    read = lambda X: held_out(X, columns, w, half, cutoff)
    found = {name: read(X) for name, X in streams.items()}
    of = lambda values, target: values[..., d * TARGETS.index(target) :][..., :d]
    scores = {t: [score_of(of(each, t), targets[t], w) for each in found.values()] for t in TARGETS}
    bare, remainder = {}, {}
    for name in names:
        twins = _null(name, activations, process, strings, streams, linear, rng)
        for target, out in (("exact", bare), ("remainder", remainder)):
            out[name] = np.array([_null_score(name, X, targets, target, w, half, cutoff, rng) for X in twins])
    spread = lambda out: {name: np.broadcast_to(values, len(streams)).copy() for name, values in out.items()}
    predicted = np.stack([of(each, "exact") for each in found.values()])
    exact, wiener_belief = targets["exact"], targets["wiener"]
    return Probed(tuple(streams), scores, spread(bare), spread(remainder), predicted, exact, wiener_belief, strings, process)  # fmt: skip


def _null(name, activations, process, strings, streams, linear, rng) -> list[np.ndarray]:
    """The arrays from which a null reads, one for each layer or one for all."""
    one_hot = np.eye(process.n_tokens)[strings]
    if name == "untrained":
        return list(streams_of(untrained(activations, as_key(int(rng.integers(2**31)))), strings).values())
    if name == "shuffled":
        return list(streams.values())
    if name == "last_token":
        return [one_hot]
    if name == "next_token":
        exact = np.asarray(exact_filter(process, as_sequences(strings, "tokens")).next_all(), np.float64)
        return [exact[:, 1:]]
    return [linear.belief(strings)[:, 1:]]


def _null_score(name, X, targets, target, w, half, cutoff, rng) -> float:
    Y = targets[target]
    if name == "wiener":  # no map is fitted: this is the best linear function itself
        return score_of(X if target == "exact" else np.zeros_like(Y), Y, w).r2
    if name == "shuffled":
        Y = Y[rng.permutation(len(Y))]
    return score_of(held_out(X, Y, w, half, cutoff), Y, w).r2
