"""The page of a classifier: its rule as a picture, its numbers beside others', where it looks, and what else is as good."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._errors import ConfigurationError
from ...report import figures
from ...report.figures import Branch, Weighed
from ...report.page import Section, write
from ...runs.files import free_place
from .alternatives import Alternatives
from .heads import Sight
from .problem import Tree, labels_of, leaf_numbers, leaves_in, tests_in
from .rivals import Contestant
from .words import context_in_words, head_in_words, rule_in_a_line

_MOST_EXAMPLES, _MOST_RULES, _MOST_TOKENS = 8, 8, 400


def write_html(
    model: Any,
    path: str | os.PathLike,
    others: Sequence[Contestant],
    held: tuple[np.ndarray, np.ndarray] | None = None,
    slack: float | int | None = 0,
    overwrite: bool = False,
) -> None:
    """Write the page, whole or not at all. **Raises:** `ConfigurationError` if there is something at `path` and `overwrite` is false.

    **Arguments:** `model`, fitted; `others`, itself first (see `rivals.contestants`); `held`, codes and labels of rows that it was not
    trained on; `slack`, of the alternatives, None for none.
    """
    free_place(path, overwrite)
    p, found = model.certificate_.problem, model.certificate_
    tests = tests_in(model.tree_)
    proof = (
        "No network of its class has a smaller sum of errors and prices."
        if model.status_ == "proven"
        else f"No network of its class has a sum of errors and prices below {model.lower_bound_:.4g}; its own is {model.objective_:.4g}."
    )
    lead = f"A rule of {tests} attention test{'' if tests == 1 else 's'}, {model._wrong} of {len(p.codes)} training rows wrong. {proof}"
    sections = [
        Section("The rule", _context_words(model), [figures.tree("The rule", _TREE, _branch(model, model.tree_))]),
        Section("How good it is", _bounds(model), [_table(model, others, held)]),
        Section("Where it looks", (), _examples(model, held)),
    ]
    if slack is not None:
        sections.append(_others(model, slack))
    facts = [
        ("Class", found.about),
        ("Description", f"{model.bits_:.0f} bits"),
        ("Search", f"{model.seconds_:.2f} s, {model.status_}"),
    ]
    write(path, "The best attention rule for a table", lead, sections, facts)


_TREE = "Every test is one attention head of the read-out token; the next test depends on its outcome. Shares are those of the training rows."


def _context_words(model: Any) -> list[str]:
    if model.context_.kind == "none" or not isinstance(model.tree_, tuple):
        return []
    return [
        f"First, one head gives every token a fact about the others: {context_in_words(model.context_, model.alphabet_)}."
    ]


def _branch(model: Any, tree: Tree, first: int = 0) -> Branch:
    """The picture of a part of the rule, whose leaves are numbered from `first`."""
    p = model.certificate_.problem
    if not isinstance(tree, tuple):
        there = leaf_numbers(model.tree_, Sight(model.context_, p.shape.V, p.codes)) == first
        right = float((model.targets_[there] == tree).mean()) if there.any() else 0.0
        return Branch(
            str(model.classes_[tree]), f"{there.sum()} row{'' if there.sum() == 1 else 's'}, {100 * right:.0f} % right"
        )
    head, yes, no = tree
    below = [("yes", _branch(model, yes, first)), ("no", _branch(model, no, first + leaves_in(yes)))]
    return Branch(f"{head_in_words(head, model.context_, model.alphabet_)}?", "", below)


def _bounds(model: Any) -> list[str]:
    bound = model.generalisation_bound()
    return [
        f"Among new rows from the same source at most {100 * bound:.1f} % are answered wrongly, with 95 % confidence."
        if bound < 1
        else "There are too few rows, for a rule of this length, to bound its error on new rows."
    ]


def _table(model: Any, others: Sequence[Contestant], held: Any) -> dict:
    """One line for each contestant."""
    rows = []
    for one in others:
        of = one.numbers(model, held)
        p, M = of.get("test_accuracy"), of.get("test_rows")
        rows.append(
            [
                one.name,
                f"{of['train_accuracy']:.3f}",
                *([] if p is None else [f"{p:.3f} ± {(p * (1 - p) / (M or 1)) ** 0.5:.3f}"]),
                f"{one.objective:.4g}",
                "–" if one.lower is None else f"{one.lower:.4g}",
                one.status,
                f"{one.bits:.0f}",
            ]
        )
    test = [] if held is None else [f"{len(held[1])} test rows"]
    columns = ["", f"{len(model.targets_)} training rows", *test, "errors + prices", "at least", "status", "bits"]
    caption = (
        "Shares of right answers (± one standard error), the objective, and what no network of the class is below."
    )
    return figures.table(
        f"{others[0].name.capitalize()} beside {' and '.join(o.name for o in others[1:])}", caption, columns, rows
    )


def _examples(model: Any, held: Any) -> list[dict]:
    """One row that is answered rightly for every class, and one that is not, of those held out or else of the training rows."""
    p = model.certificate_.problem
    codes, labels = (p.codes, model.classes_[model.targets_]) if held is None else held
    answers = model.classes_[labels_of(model.tree_, Sight(model.context_, p.shape.V, codes))]
    right, met = answers == labels, (codes != p.shape.V).any(1)
    where = "training" if held is None else "test"
    chosen = [(np.flatnonzero(right & met & (answers == c)), "answered rightly") for c in model.classes_]
    chosen = [*chosen[: _MOST_EXAMPLES - 1], (np.flatnonzero(~right & met), "answered wrongly")]
    drawn = []
    for at, words in chosen:
        if len(at):
            title = f"Row {at[0] + 1} of the {where} rows, {words}"
            drawn.append(_attention(model, codes[at[0]], labels[at[0]], title, f"row-{len(drawn)}"))
    return [one for one in drawn if one is not None]


def _attention(model: Any, row: np.ndarray, label: Any, title: str, link: str) -> dict | None:
    """The tokens of a row, coloured by the attention of every test on its way."""
    a = model.alphabet_
    seen = model.attention_of_codes(row)
    if not seen.tests or len(seen.tokens) > _MOST_TOKENS:
        return None
    silent = lambda t: "" if t.signed.any() else " No token speaks for it or against it."
    notes = [f"{t.test}? {'Yes' if t.holds else 'No'}.{silent(t)}" for t in seen.tests]
    tokens = [token or "␣" for token in seen.tokens]
    places = [a.column(at) for at in range(len(tokens))]
    return figures.text(
        title, f"The answer is {seen.answer}; the label is {label}.", tokens,
        {"attention": Weighed([t.signed for t in seen.tests], [""] * len(notes))},
        "of the largest weight", "Orange, solid line: looked at, and speaks for the test. Blue, dotted line: speaks against it.",
        link, notes, [len(tokens)] * len(notes), places, "Show", False, "Test",
    )  # fmt: skip


def _others(model: Any, slack: float | int) -> Section:
    """Every network that is as good, counted, and the first of them in words."""
    try:
        found: Alternatives = model.alternatives(slack)
    except ConfigurationError as error:
        return Section("What else is as good", [str(error)])
    rules = [[rule] for rule in first_rules(model, found, _MOST_RULES)]
    caption = "The rule above, then others, one for each way to answer the training rows."
    return Section(
        "What else is as good",
        [alternatives_in_words(found, slack)],
        [figures.table("Rules", caption, ["rule"], rules)],
    )


def alternatives_in_words(found: Alternatives, slack: float | int) -> str:
    """How many networks are as good, and on how many rows they agree."""
    within = "as good" if slack == 0 else f"within {slack:g} error{'' if slack == 1 else 's'} of the best"
    functions = f"{'' if found.complete else 'at least '}{found.functions}"
    networks = f"{found.count} network{' is' if found.count == 1 else 's are'} {within}"
    return f"{networks}, {functions} different on the {len(found.agreed)} rows; all agree on {int(found.agreed.sum())} of them."


def first_rules(model: Any, found: Alternatives, number: int) -> list[str]:
    """The rule of the model, then others of those listed, one for each function, each in a line."""
    line = lambda context, tree: rule_in_a_line(tree, context, model.alphabet_, model.classes_)
    listed = (found.networks[place][1:] for place in found.firsts[: number + 1])
    return list(dict.fromkeys([line(model.context_, model.tree_), *(line(*network) for network in listed)]))[:number]
