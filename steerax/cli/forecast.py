"""`steerax forecast`: the distributions of the next observations."""

import dataclasses
from typing import Annotated, Any

import numpy as np

import steerax as sx

from .._bounds import COUNT, SHARE
from .answers import Answer, channels_of, of_channels, ranked, symbols_of
from .inputs import one, opened, stepping_over
from .options import ModelOptions, Number, command


@dataclasses.dataclass(frozen=True)
class _Options(ModelOptions):
    _: dataclasses.KW_ONLY
    steps: Annotated[int, "how far to look ahead", COUNT] = 5
    number: Number = 0
    coverage: Annotated[float, "probability that the set shown at each step covers", SHARE] = 0.9


@command
def forecast(options: _Options) -> Answer:
    """Forecast the next observations of a sequence. Example: `steerax forecast runs/text-hmm text.txt --steps 5`."""
    model, data, effects = opened(options)
    z = one(data, options.number)
    inputs = {name: rows[0] for name, rows in effects.ahead([options.number], options.steps).items()}
    ahead = sx.forecast(model, z, options.steps, **inputs, **stepping_over(model, options))
    sets = np.asarray(ahead.interval(options.coverage))
    if data.is_tokens:
        steps, lines, table = _tokens(model, ahead, sets)
    else:
        known = effects.after(options.number, options.steps)
        steps, lines, table = _series(model, np.asarray(ahead.mean) + known, sets + known[..., None])
    return Answer({"coverage": options.coverage, "steps": steps}, "\n".join(lines), table)


def _tokens(model: Any, ahead: Any, sets: np.ndarray) -> tuple[list, list[str], list]:
    """The distribution of each of the next tokens, and the smallest set that covers it."""
    symbols = symbols_of(model)
    steps, lines, table = [], [], [["step", "token", "probability"]]
    for step, (p, chosen) in enumerate(zip(np.asarray(ahead.probabilities), sets, strict=True), start=1):
        order = np.argsort(-p)
        members = order[chosen[order]]
        steps.append({symbols[code]: p[code] for code in members})
        more = f"  … {len(members)} tokens" if len(members) > 8 else ""
        lines.append(f"+{step}: {ranked(symbols, p, members[:8])}{more}")
        table += [[step, *row] for row in zip(symbols, p, strict=True)]
    return steps, lines, table


def _series(model: Any, means: np.ndarray, ends: np.ndarray) -> tuple[list, list[str], list]:
    """Mean and interval of each of the next observations."""
    steps, lines, table = [], [], [["step", "channel", "mean", "low", "high"]]
    for step, (mean, interval) in enumerate(zip(means, ends, strict=True), start=1):
        rows = [(m, low, high) for m, (low, high) in zip(mean, interval, strict=True)]
        steps.append({"mean": mean, "interval": interval})
        shown = [f"{m:.6g} [{low:.6g}, {high:.6g}]" for m, low, high in rows]
        lines.append(f"+{step}: {of_channels(model, shown)}")
        table += [[step, channel, *row] for channel, row in zip(channels_of(model), rows, strict=True)]
    return steps, lines, table
