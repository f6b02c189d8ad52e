"""What a comparison returns: every number of the report."""

import dataclasses
import textwrap
from typing import Any

from ..._results import RESULTS, name_of
from ...beliefs.record import Knowledge
from ...inference.score import Comparison
from ...runs.json import plain
from .agreement import Agreement
from .config import Config
from .layers import ByLayers
from .learned import TrainedGPT
from .scores import EXACT
from .sources import Process, Source
from .window import Window


@dataclasses.dataclass(frozen=True)
class Compared:
    """What `run` returns.

    **Attributes:** `hmm` and `gpt`, the two models; `scores` of all predictors on the held-out sequences; `floor`, the
    entropy floor in nats per token (`None` for data); `dual_filter`, by its number of layers; `window`, one
    sequence in detail; `agreements` of the weights in it; `facts`, sentence → number; `beliefs`, what the network
    knows; `seconds`, by part; `versions`,
    of the software.
    """

    config: Config
    source: Source
    hmm: Process
    gpt: TrainedGPT
    scores: Comparison
    floor: float | None
    dual_filter: ByLayers
    window: Window
    agreements: list[Agreement]
    facts: dict[str, float | int]
    beliefs: Knowledge
    seconds: dict[str, float]
    versions: dict[str, str]

    @property
    def result(self) -> RESULTS:
        """How the training of the GPT ended."""
        return self.gpt.result

    @property
    def n_scored(self) -> int:
        """Number of held-out tokens on which the predictors are compared."""
        return int(self.scores.scores[EXACT].scored.sum())

    def loss(self, name: str) -> tuple[float, float]:
        """Nats per token of a predictor and the standard error over sequences."""
        scores = self.scores.scores[name]
        return scores.cross_entropy, scores.standard_error

    def excess(self, name: str) -> tuple[float, float]:
        """Loss above that of the exact filter on the same sequences, and its standard error."""
        return self.scores.excess.get(name, (0.0, 0.0))

    @property
    def numbers(self) -> dict[str, Any]:
        """All numbers as JSON values; one that is not finite becomes null."""
        names = ("nats_per_token", "standard_error", "above_the_hmm_filter", "its_standard_error")
        return plain(
            {
                "config": self.config,
                "data": self.source.description,
                "held_out_sequences": self.source.held_out.number,
                "scored_tokens": self.n_scored,
                "entropy_floor": self.floor,
                "cross_entropy": {
                    name: dict(zip(names, (*self.loss(name), *self.excess(name)), strict=True))
                    for name in self.scores.scores
                },
                "dual_filter": self.dual_filter,
                "agreement": self.agreements,
                "facts": self.facts,
                "beliefs": self.beliefs.numbers,
                "training": {"steps": self.gpt.steps, "result": name_of(self.result)},
                "seconds": self.seconds,
                "versions": self.versions,
            }
        )

    def summary(self) -> str:
        """A table for a terminal."""
        width = max(map(len, self.scores.scores))
        lines = [self.source.description, ""]
        for name in self.scores.scores:
            loss, error = self.loss(name)
            above, spread = self.excess(name)
            paired = "" if name == EXACT else f"   {above:+.5f} ± {spread:.5f} from the HMM filter"
            lines.append(f"  {name:<{width}}  {loss:.4f} ± {error:.4f} nats/token{paired}")
        lines.append("" if self.floor is None else f"  {'entropy floor':<{width}}  {self.floor:.4f}\n")
        dual = self.dual_filter
        lines.append(
            f"dual filter = exact filter to {dual.difference_to_filter:.1e} after {dual.layers_needed} layers; "
            f"{sum(self.seconds.values()):.0f} s in all"
        )
        lines += [textwrap.fill(text, 110) for text in (self.beliefs.sentence, self.beliefs.prediction) if text]
        lines.append(f"report: {self.config.folder / 'compare.html'}")
        return "\n".join(lines)
