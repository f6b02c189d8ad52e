"""What an experiment returns: claims with verdicts computed from numbers, figures, and the numbers themselves."""

import dataclasses
import math
from typing import Any

HOLDS, FAILS, OPEN = "holds", "does not hold", "inconclusive"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of a paper (or of this software) and what was measured.

    **Attributes:** `text`; `source`, where it is made; `verdict`, one of "holds", "does not hold", "inconclusive";
    `evidence`, one sentence with the numbers and the threshold that decided.
    """

    text: str
    source: str
    verdict: str
    evidence: str


def at_most(text: str, source: str, value: float, limit: float, evidence: str, margin: float = 0.0) -> Claim:
    """The claim holds if `value ≤ limit`, is inconclusive within `margin` of it, and fails above."""
    if not math.isfinite(value):
        verdict = FAILS
    else:
        verdict = HOLDS if value <= limit else OPEN if value <= limit + margin else FAILS
    return Claim(text, source, verdict, f"{evidence} (asked: at most {limit:.3g}).")


def at_least(text: str, source: str, value: float, limit: float, evidence: str, margin: float = 0.0) -> Claim:
    """The claim holds if `value ≥ limit`, is inconclusive within `margin` of it, and fails below."""
    if not math.isfinite(value):
        verdict = FAILS
    else:
        verdict = HOLDS if value >= limit else OPEN if value >= limit - margin else FAILS
    return Claim(text, source, verdict, f"{evidence} (asked: at least {limit:.3g}).")


def if_trained(claim: Claim, above: float, enough: float = 0.05) -> Claim:
    """A claim about a trained network: a failure is inconclusive if the network is more than `enough` above the optimum."""
    if claim.verdict != FAILS or above <= enough:
        return claim
    note = f"{claim.evidence} The network is still {100 * above:.0f} % above the optimum, so this says little."
    return dataclasses.replace(claim, verdict=OPEN, evidence=note)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The findings of one experiment.

    **Attributes:** `title`; `source`, the figure or theorem it belongs to; `text`, paragraphs that say what was done;
    `claims`; `figures` (see `steerax.report.figures`); `numbers`, JSON values behind everything shown.
    """

    title: str
    source: str
    text: list[str]
    claims: list[Claim]
    figures: list[dict]
    numbers: dict[str, Any]
