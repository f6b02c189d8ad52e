"""What an experiment returns: claims with verdicts computed from numbers, figures, and the numbers themselves."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ...report import figures

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


def at_most(
    text: str, source: str, value: float | int, limit: float | int, evidence: str, margin: float | int = 0.0
) -> Claim:
    """The claim holds if `value ≤ limit`, is inconclusive within `margin` of it, and fails above."""
    if not math.isfinite(value):
        verdict = FAILS
    else:
        verdict = HOLDS if value <= limit else OPEN if value <= limit + margin else FAILS
    return Claim(text, source, verdict, f"{evidence} (asked: at most {limit:.3g}).")


def at_least(
    text: str, source: str, value: float | int, limit: float | int, evidence: str, margin: float | int = 0.0
) -> Claim:
    """The claim holds if `value ≥ limit`, is inconclusive within `margin` of it, and fails below."""
    if not math.isfinite(value):
        verdict = FAILS
    else:
        verdict = HOLDS if value >= limit else OPEN if value >= limit - margin else FAILS
    return Claim(text, source, verdict, f"{evidence} (asked: at least {limit:.3g}).")


def if_trained(claim: Claim, above: float | int, enough: float = 0.05) -> Claim:
    """A claim about a trained network: a failure is inconclusive if the network is more than `enough` above the optimum."""
    if claim.verdict != FAILS or above <= enough:
        return claim
    note = f"{claim.evidence} The network is still {100 * above:.0f} % above the optimum, so this says little."
    return dataclasses.replace(claim, verdict=OPEN, evidence=note)


def if_enough(claim: Claim, spent: float | int, needed: float | int, unit: str) -> Claim:
    """A claim that only a run of a certain size can refute: a failure with less than `needed` is inconclusive.

    **Arguments:** `spent`, what the run had, and `needed`, both in `unit` ("training steps", "starts").
    """
    if claim.verdict != FAILS or spent >= needed:
        return claim
    note = f"{claim.evidence} This run had {spent:,} {unit}; fewer than {needed:,} do not refute it."
    return dataclasses.replace(claim, verdict=OPEN, evidence=note)


def other_values(lost: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict:
    """The table for parameters that the stored text of a paper lost: the chosen values first, then others.

    **Arguments:** `lost`, which parameters, in words; `columns`; `rows`, the first of them what the page shows.
    """
    caption = (
        f"The paper's stored text lost {lost}. The first row is what this page shows; the others are for comparison."
    )
    return figures.table("Other values of lost parameters", caption, columns, rows)


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
