r"""The three quantisers of the lifted process, each with its radius: states, distributions, actions.

A quantiser with radius $r$ moves nothing by more than $r$; `maths.lipschitz.propagate` turns radii into a bound of the
value. (When the deployed network itself rounds its states, the finite model is exact and no radius is needed.)
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ..._errors import ConfigurationError
from ...maths.lipschitz import Certified


@dataclass(frozen=True, eq=False)
class Quantiser:
    """Points to the nearest of a finite set, and how far that can be.

    **Attributes:** `codebook [k *axes]`; `radius`, certified on the domain that its source names.
    """

    codebook: Float[np.ndarray, "k D"]
    radius: Certified

    def codes(self, x: Float[np.ndarray, "N D"]) -> Int[np.ndarray, "N"]:
        """The index of the nearest codeword."""
        return ((x[:, None, :] - self.codebook) ** 2).sum(-1).argmin(1)

    def __call__(self, x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        """The nearest codeword."""
        return self.codebook[self.codes(x)]


def uniform(bits: int, bound: float = 1.0) -> Quantiser:
    """2^bits + 1 evenly spaced values on [-bound, bound], both ends and 0 among them; radius bound / 2^bits.

    One bit gives the ternary alphabet {-bound, 0, bound}. Grids of more bits contain those of fewer.
    """
    if bits < 1 or bound <= 0:
        raise ConfigurationError("A uniform grid needs at least one bit and a bound > 0.")
    grid = np.linspace(-bound, bound, 2**bits + 1)[:, None]
    return Quantiser(grid, Certified(bound / 2**bits, f"uniform grid on [-{bound}, {bound}]"))


def binary(bound: float = 1.0) -> Quantiser:
    """{-bound, bound}; radius `bound`."""
    if bound <= 0:
        raise ConfigurationError("A binary alphabet needs a bound > 0.")
    return Quantiser(np.array([[-bound], [bound]]), Certified(bound, f"binary on [-{bound}, {bound}]"))


def codebook(points: Float[np.ndarray, "N D"], k: int, iterations: int = 50, seed: int = 0) -> Quantiser:
    """Lloyd's codebook of k cells for some points, started from farthest-first; the radius holds for these points."""
    if not 1 <= k <= len(points):
        raise ConfigurationError(f"k={k}: choose between 1 and the number of points, {len(points)}.")
    centres = points[farthest_first(points, k, seed)]
    for _ in range(iterations):
        cell = ((points[:, None, :] - centres) ** 2).sum(-1).argmin(1)
        moved = np.stack([points[cell == c].mean(0) if (cell == c).any() else centres[c] for c in range(k)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    distance = np.sqrt(((points[:, None, :] - centres) ** 2).sum(-1).min(1).max())
    return Quantiser(centres, Certified(float(distance), "Lloyd codebook, on its own points"))


def farthest_first(points: Float[np.ndarray, "N D"], k: int, seed: int = 0) -> Int[np.ndarray, "k"]:
    """k of the points, each the farthest from those before it: a covering within twice the smallest radius."""
    chosen = [int(np.random.default_rng(seed).integers(len(points)))]
    distance = np.full(len(points), np.inf)
    while len(chosen) < k:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def nearest_type(p: Float[np.ndarray, "k"], denominator: int) -> Int[np.ndarray, "k"]:
    r"""Reznik's nearest type: counts summing to the denominator $m$, nearest to $mp$.

    With $k$ masses the total variation distance is at most $k/4m$, so $W_1\le\mathrm{diam}\cdot k/4m$.
    Raises `ConfigurationError` unless p is a distribution.
    """
    if denominator < 1 or p.min() < 0 or not math.isclose(float(p.sum()), 1.0, rel_tol=1e-9):
        raise ConfigurationError("A type needs masses ≥ 0 that add up to 1 and a denominator ≥ 1.")
    counts = np.floor(denominator * p + 0.5).astype(np.int64)
    excess, error = int(counts.sum()) - denominator, counts - denominator * p
    order = np.argsort(-error if excess > 0 else error, kind="stable")[: abs(excess)]
    counts[order] -= np.sign(excess)
    return counts


def type_radius(k: int, denominator: int, diameter: float = 1.0) -> Certified:
    """The W₁ radius of types with k masses on a set of that diameter (total variation: diameter 1)."""
    return Certified(diameter * k / (4 * denominator), "nearest type")
