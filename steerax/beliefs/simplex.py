"""The belief picture: beliefs as points in the plane, exact and as a network holds them, one colour per string."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ..models.generalised import GeneralisedHMM
from ..report.figures import Cloud, clouds

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_MOST = 3000  # points of a panel


class Plane:
    """How beliefs of a process become points: the 2-simplex as a triangle, a qubit's real Bloch vectors as a disc, two states as a
    line, everything else along the first two principal axes of the exact beliefs.

    **Attributes:** `outline`, `corners`, as `figures.clouds` takes them; `words`, what the axes are.
    """

    def __init__(self, process: GeneralisedHMM, exact: Float[np.ndarray, "n d"]):
        d, classical = process.n_states, process.is_classical
        self.outline: Any = None
        self.corners: list[tuple[float, float, str]] = []
        if classical and d == 3:
            self._map, self._offset = _CORNERS, np.zeros(2)
            self.outline = _CORNERS.tolist()
            self.corners = [(x, y, f"state {i}") for i, (x, y) in enumerate(_CORNERS.tolist())]
            self.words = "the triangle of distributions on three states"
        elif not classical and d == 3 and np.array_equal(np.asarray(process.evaluation), [1, 0, 0]):
            self._map, self._offset = np.array([[0.0, 0], [1, 0], [0, 1]]), np.zeros(2)
            self.outline = "disc"
            self.words = "the disc of real Bloch vectors of a qubit"
        else:
            center = exact.mean(0)
            axes = np.linalg.svd(exact - center, full_matrices=False)[2][:2]
            axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
            axes = np.concatenate([axes, np.zeros((2 - len(axes), d))])
            self._map, self._offset = axes.T, -center @ axes.T
            self.words = "the first two principal axes of the exact beliefs"

    def __call__(self, beliefs: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n 2"]:
        return beliefs @ self._map + self._offset


def colors_of(process: GeneralisedHMM, exact: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """Weights of three colours: the belief itself on three states, else the place along the first two principal axes."""
    if process.is_classical and process.n_states == 3:
        return exact
    center = exact - exact.mean(0)
    axes = np.linalg.svd(center, full_matrices=False)[2][:2]
    place = center @ axes.T
    place = place / max(np.abs(place).max(), 1e-12)
    corners = np.array([[1.0, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])[:, : place.shape[1]]
    weights = np.exp(2 * place @ corners.T)
    return weights / weights.sum(1, keepdims=True)


def picture(probed: Any, layers: Any = None, title: str = "Beliefs, exact and read from the network") -> dict:
    """The figure of what `probe` returned: the exact belief, the Wiener belief, and what the read-outs of some layers say (the last two by default)."""
    n = probed.exact.shape[0] * probed.exact.shape[1]
    kept = np.unique(np.linspace(0, n - 1, min(n, _MOST)).astype(int))
    flat = lambda a: a.reshape(n, -1)[kept]
    exact = flat(probed.exact)
    plane = Plane(probed.model, exact)
    chosen = list(range(len(probed.layers)))[-2:] if layers is None else [probed.layers.index(name) for name in layers]
    panels = [Cloud("exact", plane(exact), "Bayes' belief after each prefix"),
              Cloud("Wiener", plane(flat(probed.linear)), "the best that is linear in the history")]  # fmt: skip
    for i in chosen:
        panels.append(Cloud(f"after {probed.layers[i]}" if probed.layers[i] != "embedding" else "embedding",
                            plane(flat(probed.predicted[i])), f"held-out R² {probed.r2[i]:.3f}"))  # fmt: skip
    symbols = [str(z) for z in range(probed.model.n_tokens)] if probed.model.vocabulary is None else list(probed.model.vocabulary.symbols)  # fmt: skip
    T = probed.tokens.shape[1]
    names = [" ".join(symbols[z] for z in probed.tokens[i // T, max(0, i % T - 7) : i % T + 1]) for i in kept]
    caption = f"Every point is the belief after a prefix, in {plane.words}; a prefix has one colour in all panels, mixed from its exact belief."
    return clouds(title, caption, panels, colors_of(probed.model, exact), plane.outline, plane.corners, names)
