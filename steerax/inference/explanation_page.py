"""The page of an explanation: the observations with their weights, and the sum in words."""

import dataclasses
import os
from typing import Any

import numpy as np

from .._errors import ConfigurationError
from .._results import RESULTS
from ..report import figures
from ..report.figures import Weighed
from ..report.page import Section, render
from ..runs.files import free_place, write_whole

_MOST_NUMBERS, _MOST_COLUMNS = 1_000_000, 12

_MEANS = {
    "integrated": "Integrated evidence: how the prediction grows with the evidence of a piece while that of all pieces grows from none to "
    "whole together. The terms add up.",
    "control": "Control weights of the dual filter. The terms add up; the prior is that of the costate, not the prediction from nothing.",
    "news": "News: by how much the prediction changed when a piece arrived, whatever came later. The terms add up.",
    "deletion": "Deletion: the prediction minus the one with that piece missing. The terms do not add up: what pieces say together "
    "belongs to none of them.",
    "shapley": "Shapley values: what a piece adds to the prediction, averaged over all orders of arrival. The terms add up.",
}


_OF_SERIES = {  # of linear models, whose errors have a covariance
    "integrated": "The coefficient of each observation in the estimate times its distance from the mean of the series. The terms add up.",
    "control": "The coefficient of each observation in the estimate times the observation, less its offset. The terms add up.",
}


def write_html(explanation: Any, path: str | os.PathLike, overwrite: bool = False) -> str:
    """Write the page to `path`, whole or not at all, and return it."""
    free_place(path, overwrite)
    text = page_text(explanation)
    write_whole(path, text)
    return text


def page_text(explanation: Any) -> str:
    """The HTML text of the page."""
    several = explanation.prior.ndim == 3
    shown = np.asarray(explanation.weights)
    if shown[..., :1].size > _MOST_NUMBERS:
        raise ConfigurationError(
            f"A page holds {_MOST_NUMBERS:,} weights, and one column has {shown[..., :1].size:,}; ask for fewer queries."
        )
    columns = _likeliest(explanation, min(_MOST_COLUMNS, _MOST_NUMBERS // max(shown[..., :1].size, 1)))
    number = len(shown) if several else 1
    parts = [
        _figure(explanation if not several else _alone(explanation, i), columns, f"text-{i}") for i in range(number)
    ]
    heads = [f"Sequence {i}" for i in range(number)] if several else [""]
    warning = (
        "" if explanation.result is None or explanation.result == RESULTS.successful else RESULTS[explanation.result]
    )
    means = _MEANS if explanation.covariance is None else _MEANS | _OF_SERIES
    lead = means[explanation.method] + (f" Do not trust these terms. {warning}" if warning else "")
    facts = [("Method", explanation.method), ("Queries", ", ".join(map(str, np.ravel(explanation.queries)[:20])))]
    title = "Where a prediction comes from"
    return render(title, lead, [Section(head, (), [part]) for head, part in zip(heads, parts, strict=True)], facts)


def _alone(explanation: Any, i: int) -> Any:
    """The explanation of one of several sequences, up to its longest query."""
    T = int(np.max(explanation.queries[i], initial=0))
    cut = lambda x: None if x is None else x[i][:, :T]
    return dataclasses.replace(
        explanation, queries=explanation.queries[i], prior=explanation.prior[i], weights=cut(explanation.weights),
        norms=cut(explanation.norms), controls=None, covariance=None, remainder=explanation.remainder[i],
        errors=cut(explanation.errors), observations=explanation.observations[i][:T],
    )  # fmt: skip


def _likeliest(explanation: Any, number: int) -> list[int]:
    """The columns with the largest predictions at the last query, largest first."""
    last = np.asarray(explanation.prediction).reshape(-1, explanation.prior.shape[-1])[-1]
    return np.argsort(-np.abs(last), kind="stable")[: max(number, 1)].tolist()


def _figure(e: Any, columns: list[int], link: str) -> dict:
    """The text of one sequence."""
    tokens, spans = e.labels, e.spans if e.spans is not None else [(s, s + 1) for s in range(len(e.labels))]
    prior, prediction, weights = (np.asarray(x, float) for x in (e.prior, e.prediction, e.weights))
    names = e.columns or tuple(f"column {j}" for j in range(prior.shape[1]))
    reach = [sum(int(start) < int(q) for start, _ in spans) for q in e.queries]
    errors = None if e.errors is None else np.asarray(e.errors, float)
    rest = prediction - prior - weights.sum(1)

    def note(q: int, j: int) -> str:
        name = f"P({names[j]!r})" if e.columns and e.of_tokens and " − " not in names[j] else names[j]
        text = f"{name} = {prediction[q, j]:.4g} = prior {prior[q, j]:.4g} {_signed(weights[q, :, j].sum())} from {reach[q]} pieces"
        return text + (f" {_signed(rest[q, j])} that none of them has alone" if e.method == "deletion" else "") + "."

    choices = {
        f"{names[j]}": Weighed(
            weights[..., j], [note(q, j) for q in range(len(prior))], None if errors is None else errors[..., j]
        )
        for j in columns
    }
    unit = "of probability" if e.of_tokens else "in the units of the prediction"
    places = [f"position {a}" if b == a + 1 else f"positions {a} to {b - 1}" for a, b in spans]
    queries = [f"After {q} observations:" for q in e.queries]
    left_out = (
        ""
        if len(columns) == len(names)
        else f" Of {len(names)} columns the {len(columns)} largest predictions are here."
    )
    return figures.text(
        "The observations and their weights",
        f"Colours grow with the square root of a weight, on one scale for all queries of a column.{left_out}",
        tokens, choices, unit, "Orange, solid line: raises the prediction. Blue, dotted line: lowers it.", link, queries, reach, places,
        "Prediction of", e.of_characters,
    )  # fmt: skip


def _signed(x: float) -> str:
    return f"{'+' if x >= 0 else '−'} {abs(x):.4g}"
