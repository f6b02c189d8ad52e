"""Everything the comparison found."""

import dataclasses
from typing import Any

import numpy as np

from .config import Config
from .scores import Score
from .window import Agreement, Window


@dataclasses.dataclass(frozen=True)
class Result:
    """The findings of `compare`; every number of the report is in `numbers`.

    **Attributes:** `scores`, simplest first; `excess`, name → loss above that of the HMM filter on the same sequences and
    its standard error; `floor`, the entropy floor in nats per token (`None` for data);
    `layer_scores[n]`, cross-entropy of the dual filter with `n` layers, and `layer_limit`, that of the filter, on the
    same sequences; `residuals`, largest change made by each layer; `layers_needed` on the window until the beliefs are
    those of the filter; `dual_difference`, the largest difference between dual and forward filter then; `losses` of the
    training; `facts`, (sentence, number) pairs; `seconds`, by part.
    """

    config: Config
    description: str
    model_text: str
    network_text: str
    vocabulary: list[str]
    held_out: int
    scored: int
    floor: float | None
    scores: list[Score]
    excess: dict[str, tuple[float, float]]
    layer_scores: np.ndarray
    layer_limit: float
    residuals: np.ndarray
    layers_needed: int
    dual_difference: float
    window: Window
    agreements: list[Agreement]
    facts: list[tuple[str, Any]]
    losses: np.ndarray
    steps: int
    interrupted: bool
    seconds: dict[str, float]
    versions: dict[str, str]

    def score(self, name: str) -> Score:
        """The score of a predictor by name."""
        return next(s for s in self.scores if s.name == name)

    @property
    def numbers(self) -> dict[str, Any]:
        """The findings as JSON values; a number that is not finite becomes null."""
        plain = lambda v: float(v) if np.isfinite(v) else None
        return {
            "config": dataclasses.asdict(self.config),
            "data": self.description,
            "held_out_sequences": self.held_out,
            "scored_tokens": self.scored,
            "entropy_floor": self.floor,
            "cross_entropy": {
                s.name: {
                    "nats_per_token": plain(s.value),
                    "standard_error": plain(s.error),
                    "above_the_hmm_filter": plain(self.excess[s.name][0]),
                    "its_standard_error": plain(self.excess[s.name][1]),
                }
                for s in self.scores
            },
            "dual_filter": {
                "difference_to_filter": plain(self.dual_difference),
                "layers_needed": self.layers_needed,
                "cross_entropy_by_layers": [plain(v) for v in self.layer_scores],
                "cross_entropy_of_the_filter": plain(self.layer_limit),
                "residuals": [plain(v) for v in self.residuals],
            },
            "agreement": [
                {k: plain(v) if isinstance(v, float) else v for k, v in dataclasses.asdict(a).items()}
                for a in self.agreements
            ],
            "facts": {name: plain(value) if isinstance(value, float) else value for name, value in self.facts},
            "training": {"steps": self.steps, "interrupted": self.interrupted},
            "seconds": self.seconds,
            "versions": self.versions,
        }

    def summary(self) -> str:
        """A table for a terminal."""
        width = max(len(s.name) for s in self.scores)
        lines = [self.description, ""]
        for s in self.scores:
            above, spread = self.excess[s.name]
            paired = "" if s.name == "HMM filter" else f"   {above:+.5f} ± {spread:.5f} from the HMM filter"
            lines.append(f"  {s.name:<{width}}  {s.value:.4f} ± {s.error:.4f} nats/token{paired}")
        lines.append("" if self.floor is None else f"  {'entropy floor':<{width}}  {self.floor:.4f}\n")
        lines.append(
            f"dual filter = exact filter to {self.dual_difference:.1e} after {self.layers_needed} layers; "
            f"{sum(self.seconds.values()):.0f} s in all"
        )
        lines.append(f"report: {self.config.folder / 'compare.html'}")
        return "\n".join(lines)
