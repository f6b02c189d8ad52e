"""The record of all that is asked of a network and its process at once, in numbers and in sentences."""

import dataclasses
from typing import Any

import numpy as np

from .simplex import Plane


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What was measured of the beliefs of a network: `probed`, `attention` and `swapped`; `reason`, why nothing was, or no attention."""

    probed: Any = None
    attention: Any = None
    swapped: Any = None
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return self.probed is not None

    @property
    def best(self) -> int:
        """The place at which the exact belief is read best."""
        assert self.probed is not None
        return int(np.nanargmax(self.probed.r2))

    @property
    def ceiling(self) -> float:
        """Share of the exact belief that is linear in the history, on the probed strings."""
        assert self.probed is not None
        return float(self.probed.nulls["wiener"][0])

    @property
    def plane(self) -> str:
        """What the axes of the picture are."""
        p = self.probed
        return "" if p is None else Plane(p.model, p.exact.reshape(-1, p.model.n_states)).words

    @property
    def place(self) -> str:
        """Where the causal test wrote."""
        return self.swapped.place if self.swapped is not None else ""

    @property
    def sentence(self) -> str:
        """One sentence on what the network believes."""
        if self.probed is None:
            return self.reason
        p, at = self.probed, self.best
        found = f"After {_said(p.layers[at])}, an affine map reads the exact belief with R² {p.r2[at]:.3f}; {self.ceiling:.3f} of it is linear in the history, so what counts is the remainder: {p.remainder[at]:z.2f} of it is read there"
        untrained = p.remainder_nulls.get("untrained")
        if untrained is not None:
            found += f" and {np.nanmax(untrained):z.2f} from the network before training"
        if self.swapped is not None and np.isfinite(self.swapped.effect):
            found += f". Written back for another string, the belief moves the prediction {100 * self.swapped.effect:.0f} % of the way to Bayes' answer"
        return found + "."

    @property
    def prediction(self) -> str:
        """One sentence on attention and its prediction."""
        r = self.attention
        if r is None:
            return self.reason if self.known else ""
        if r.filter.outside:
            return r.filter.outside
        failing = [row.name for row in r.verdict if row.verdict == "does not hold"]
        rows = f"All {len(r.verdict)} rows of the verdict hold or are flat."
        if failing:
            rows = f"{len(failing)} of {len(r.verdict)} rows of the verdict do not hold: {', '.join(failing)}."
        rate = ""
        if np.isfinite(r.filter.rate):
            eigenvalue = r.filter.eigenvalues[0].real
            rate = f" Attention decays by {r.rate:.2f} per lag, where the Wiener filter of the process says {r.filter.rate:.2f} and the eigenvalue of its transition {eigenvalue:.2f}."
        return f"The first attention layer is compared with the Wiener filter of the process, its optimal control for squared errors.{rate} {rows}"

    @property
    def numbers(self) -> dict[str, Any] | None:
        """What goes into the JSON file."""
        if self.probed is None:
            return {"reason": self.reason}
        p = self.probed
        out: dict[str, Any] = {"reason": self.reason} if self.reason else {}
        out["probes"] = {"layers": p.layers, "r2": p.r2, "standard_error": p.r2_error, "rmse": p.rmse, "remainder": p.remainder,
                         "wiener": [s.r2 for s in p.scores["wiener"]], "nulls": p.nulls, "remainder_nulls": p.remainder_nulls}  # fmt: skip
        if self.swapped is not None:
            s = self.swapped
            out["swap"] = {"place": s.place, "shares": s.shares, "divergence": s.divergence, "error": s.divergence_error,
                           "controls": s.controls, "floor": s.floor, "effect": s.effect}  # fmt: skip
        if self.attention is not None:
            r = self.attention
            out["attention"] = {"rate": r.rate, "wiener_rate": r.filter.rate, "missed_by_heads": r.filter.missed,
                                "beyond": r.filter.beyond, "slope": r.slope, "r2": r.contributions_r2,
                                "linear_r2": r.linear_r2, "verdict": [row._asdict() for row in r.verdict]}  # fmt: skip
        return out


def _said(layer: str) -> str:
    return f"the {layer}" if layer in ("embedding", "attention", "MLP") else layer
