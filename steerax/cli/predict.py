"""`steerax predict`: what comes next in each sequence, and how well a model predicted it so far."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

import steerax as sx

from .._bounds import COUNT
from ..data.sequences import Sequences
from .answers import Answer, channels_of, in_words, of_channels, ranked, symbols_of
from .inputs import opened, stepping_over
from .options import ModelOptions, command
from .regressors import Effects


@dataclasses.dataclass(frozen=True)
class _Options(ModelOptions):
    _: dataclasses.KW_ONLY
    top: Annotated[int, "likeliest tokens to show for each sequence", COUNT] = 3


@command
def predict(options: _Options) -> Answer:
    """Predict the next observation of each sequence. Example: `steerax predict runs/text-hmm text.txt`."""
    model, data, effects = opened(options)
    names = data.names or [str(i) for i in range(data.number)]
    return _tokens(model, data, names, options) if data.is_tokens else _series(model, data, names, effects, options)


def _tokens(model: Any, data: Sequences, names: Sequence[str], options: _Options) -> Answer:
    """The likeliest next tokens of each sequence, and the cross-entropy so far."""
    ahead = sx.forecast(model, data, 1, on_impossible=options.on_impossible)
    scores = sx.score(model, data, on_impossible=options.on_impossible)
    symbols = symbols_of(model)
    rows, lines, table = [], [], [["sequence", "token", "probability"]]
    for name, p in zip(names, np.asarray(ahead.probabilities)[:, 0], strict=True):
        best = np.argsort(-p)[: options.top]
        rows.append({"sequence": name, "next": {symbols[z]: p[z] for z in best}})
        lines.append(f"{name}: {ranked(symbols, p, best)}")
        table += [[name, *row] for row in zip(symbols, p, strict=True)]
    lines.append(f"cross-entropy so far {in_words(scores)}")
    return Answer({"sequences": rows, "cross_entropy": scores.cross_entropy}, "\n".join(lines), table)


def _series(model: Any, data: Sequences, names: Sequence[str], effects: Effects, options: _Options) -> Answer:
    """The next observation of each sequence, with its standard deviation."""
    inputs = effects.ahead(range(data.number), 1)
    ahead = sx.forecast(model, data, 1, **inputs, **stepping_over(model, options))
    means = np.asarray(ahead.mean)[:, 0] + np.concatenate([effects.after(i, 1) for i in range(data.number)])
    sds = np.sqrt(np.diagonal(np.asarray(ahead.covariance)[:, 0], axis1=1, axis2=2))
    rows, lines, table = [], [], [["sequence", "channel", "mean", "sd"]]
    for name, mean, sd in zip(names, means, sds, strict=True):
        rows.append({"sequence": name, "mean": mean, "sd": sd})
        lines.append(f"{name}: {of_channels(model, [f'{m:.6g} ± {s:.3g}' for m, s in zip(mean, sd, strict=True)])}")
        table += [[name, *row] for row in zip(channels_of(model), mean, sd, strict=True)]
    return Answer({"sequences": rows}, "\n".join(lines), table)
