"""The page of the comparison: the words of `page.md`, with numbers filled in and figures put between."""

import dataclasses
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..._results import RESULTS
from ...beliefs.page import page_of as page_of_beliefs
from ...report import figures
from ...report.figures import Dot, Line, Panel
from ...report.words import Page, read, table
from .compared import Compared
from .scores import EXACT

_SHOWN_AS = {"\n": "⏎", " ": "␣", "\t": "⇥"}
_MISSING = "·"
_ROLES = {"unigram": "baseline", "bigram": "baseline", EXACT: "filter", "GPT": "transformer"}  # all others: "dual"
_ROUNDING = 1e-15  # differences of probabilities below this are rounding
_POINTS = 200  # of the training curve

_Pictures = dict[str, Callable[..., dict]]  # name -> function of title, caption and labels that gives the figure


def page_of(compared: Compared) -> Page:
    """`page.md` with the numbers of a comparison; figures that it does not have are left out."""
    drawn = _losses(compared) | _layers(compared) | _weights(compared) | _agreement(compared) | _training(compared)
    page = read(pathlib.Path(__file__).with_name("page.md"), _names(compared), drawn)
    known = page_of_beliefs(compared.beliefs, compared.source.name)
    first, *rest = known.sections
    first = dataclasses.replace(first, text=[known.lead, *first.text])
    return dataclasses.replace(page, sections=[*page.sections[:1], first, *rest, *page.sections[1:]])


def _names(c: Compared) -> dict[str, Any]:
    """What the sentences of `page.md` name: the records of the comparison, and numbers in words."""

    def errors(name: str) -> str:
        largest = float(c.window.errors[name].max(initial=0.0)) if name in c.window.errors else 0.0
        return f"Standard errors are at most {largest:.1g}." if largest else "The values are exact."

    return vars(c) | {
        "n_scored": c.n_scored,
        "learned": c.hmm is not c.source.process,
        "shape": c.gpt.model.config,
        "marked": _marked(c) is not None,
        "interrupted": c.result == RESULTS.interrupted,
        "k": c.agreements[0].k,
        "every": _steps_per_point(c),
        "above": c.excess("GPT")[0],
        "trained": c.config.network is None,
        "far": c.excess("GPT")[0] / c.floor if c.floor and c.excess("GPT")[0] > 0.01 * c.floor else None,
        "excess": c.excess,
        "share": _share_beyond_bigram(c.excess("bigram"), c.excess("GPT")[0], c.floor),
        "gap": lambda name: _gap_text(*c.excess(name)),
        "loss": lambda name: f"{c.loss(name)[0]:.3f}",
        "beats": lambda name: "beats" if c.loss(name)[0] < c.loss("bigram")[0] else "does not beat",
        "errors": errors,
    }


def _share_beyond_bigram(bigram: tuple[float, float], gpt: float, floor: float | None) -> float | None:
    """How much of what Bayes gains over the bigram baseline the network gains, from their losses above Bayes (the first with its
    standard error); `None` where that gain is within noise."""
    gain, error = bigram
    known = floor is not None and gain > max(4 * error, 1e-4 * floor)
    return float(np.clip(1 - gpt / gain, 0, 1)) if known else None


def _gap_text(value: float, error: float) -> str:
    """A signed difference with its standard error, to the digits that mean something."""
    if not np.isfinite(value):
        return "infinite"
    if abs(value) < 5e-7:
        return "0"
    decimals = 4 if error == 0 else int(np.clip(1 - np.floor(np.log10(error)), 4, 7))
    return f"{value:+.{decimals}f} ± {error:.{decimals}f}"


def _losses(c: Compared) -> _Pictures:
    dots, rows = [], []
    for name in c.scores.scores:
        loss, error = c.loss(name)
        dots.append(Dot(name, loss, error, _ROLES.get(name, "dual")))
        rows.append([name, f"{loss:.4f} ± {error:.4f}", "–" if name == EXACT else _gap_text(*c.excess(name))])
    floor = None if c.floor is None else ("entropy floor", c.floor)
    return {"losses": partial(figures.dots, rows=dots, reference=floor), "loss table": table(rows)}


def _layers(c: Compared) -> _Pictures:
    residuals = np.where(c.dual_filter.residuals > _ROUNDING, c.dual_filter.residuals, 0.0)
    shown = int(np.flatnonzero(residuals)[-1]) + 4 if residuals.any() else 4
    excess = c.dual_filter.cross_entropy_by_layers[:shown] - c.dual_filter.cross_entropy_of_the_filter
    n = np.arange(len(excess))
    loss = Line("dual filter", n, np.where(excess > _ROUNDING, excess, 0.0), "dual")
    change = Line("residual", n[1:], residuals[: len(n) - 1], "dual")
    return {
        "loss by layers": partial(figures.lines, curves=[loss], log_y=True),
        "residuals": partial(figures.lines, curves=[change], log_y=True),
    }


def _weights(c: Compared) -> _Pictures:
    """The weights of one query at a time, and those of all queries at once."""
    window, symbols = c.window, [_SHOWN_AS.get(s, s) for s in c.source.vocabulary.symbols]
    labels = [_MISSING if token < 0 else symbols[token][:6] for token in window.tokens]
    attention = {"mean of all heads": window.mean_attention(), **window.attention}
    size = {"size over all states": window.control}
    panels = [Panel("Control of the dual filter", "dual", size | {"weights of this probability": window.weights})]
    of_queries = partial(figures.matrix, link="query")
    drawn: _Pictures = {
        "control": partial(of_queries, choices=size | {"for the next token alone": np.abs(window.weights)}),
        "attention": partial(of_queries, choices=attention),
    }
    for name, matrix in window.contributions.items():
        role = "transformer" if name == "GPT" else "filter"
        panels.append(Panel(f"Change of the expected prediction, {name}", role, {"all": matrix}))
        drawn[f"contributions {name}"] = partial(of_queries, choices={"contribution": matrix}, diverging=True)
    for name, matrix in window.adapted.items():
        drawn[f"adapted {name}"] = partial(
            figures.matrix,
            choices={"weight": matrix},
            diverging=True,
            columns=labels,
            row_labels=[symbol[:6] for symbol in symbols[1:]],
        )
    panels.append(Panel("Attention of the GPT", "transformer", attention))
    notes = []
    for q, target in enumerate(window.targets):
        each = [f"{name} {p[q]:.3f}" for name, p in window.probability.items() if np.isfinite(p[q])]
        notes.append(f"P(next token = {symbols[target]}): {', '.join(each)}")
    drawn["profile"] = partial(
        figures.profile, panels=panels, tokens=labels, link="query", query_notes=notes, highlight=_marked(c)
    )
    return drawn


def _marked(c: Compared) -> list[bool] | None:
    """The steps at which the exact filter was not certain of the token, if there are both kinds."""
    certain = c.window.certain
    return (~certain).tolist() if certain.any() and not certain.all() else None


def _agreement(c: Compared) -> _Pictures:
    percent = lambda share, chance: f"{100 * share:.0f} % ({100 * chance:.0f} %)"
    rows = []
    for a in c.agreements:
        shared = [percent(a.same_strongest, a.same_by_chance), percent(a.overlap, a.overlap_by_chance)]
        rows.append([a.one, a.other, *shared, f"{a.rank_correlation:.2f}", f"{a.correlation:.2f}"])
    return {"agreement": table(rows), "facts": table([[name, value] for name, value in c.facts.items()])}


def _steps_per_point(c: Compared) -> int:
    """Training steps whose mean is one point of the curve."""
    return max(1, len(c.gpt.losses) // _POINTS)


def _training(c: Compared) -> _Pictures:
    size = _steps_per_point(c)
    losses = np.asarray(c.gpt.losses, dtype=float)
    points = losses[: len(losses) // size * size].reshape(-1, size).mean(1)
    if not len(points):  # the network was there before
        return {}
    curve = Line("GPT", (np.arange(len(points)) + 1) * size, points, "transformer")
    reference = ("bigram", c.loss("bigram")[0]) if c.floor is None else ("entropy floor", c.floor)
    return {"training": partial(figures.lines, curves=[curve], reference=reference, log_x=True, log_y=True)}
