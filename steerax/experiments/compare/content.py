"""What the comparison says to a reader: a lead, sections and figures from the numbers, nothing computed."""

import numpy as np

from ...report import figures
from ...report.figures import Dot, Line, Panel
from ...report.page import Section
from .result import Result

TOKEN_NAMES = {"\n": "⏎", " ": "␣", "\t": "⇥"}


def lead(result: Result) -> str:
    """The answer in two or three sentences."""
    gpt, hmm = result.score("GPT"), result.score("HMM filter")
    parts = []
    if result.floor is not None:
        above = 100 * (gpt.value / result.floor - 1)
        parts.append(
            f"The GPT reaches {gpt.value:.4f} ± {gpt.error:.4f} nats per token on held-out sequences, {above:+.1f} % from "
            f"the entropy floor of {result.floor:.4f}."
        )
    else:
        better = "below" if gpt.value < result.score("bigram").value else "above"
        parts.append(
            f"On held-out sequences the GPT reaches {gpt.value:.3f} ± {gpt.error:.3f} nats per token and the hidden "
            f"Markov model {hmm.value:.3f}; the bigram baseline has {result.score('bigram').value:.3f}, so the GPT is "
            f"{better} it and the hidden Markov model is {'below' if hmm.value < result.score('bigram').value else 'above'}."
        )
    parts.append(
        f"The dual filter equals the exact filter to {result.dual_difference:.0e} after {result.layers_needed} of at "
        f"most {result.window.length} layers."
    )
    if result.interrupted:
        parts.append(f"Training was interrupted after {result.steps:,} of {result.config.network()['steps']:,} steps.")
    return " ".join(parts)


def sections(result: Result) -> list[Section]:
    """The parts of the page in reading order."""
    return [
        _predictions(result),
        _layers(result),
        _sources(result),
        _matrices(result),
        _agreement(result),
        _training(result),
    ]


def _predictions(result: Result) -> Section:
    rows = [Dot(s.name, s.value, s.error, s.role) for s in result.scores]
    reference = ("entropy floor", result.floor) if result.floor is not None else None
    below = " No predictor can be below the dashed line except by chance." if reference else ""
    table = [
        [s.name, s.value, s.error, None if result.floor is None else s.value / result.floor - 1] for s in result.scores
    ]
    for row in table:
        row[1:] = [f"{row[1]:.4f}", f"{row[2]:.4f}", "–" if row[3] is None else f"{100 * row[3]:+.2f} %"]
    return Section(
        "How well each one predicts the next token",
        [
            f"Compared on {result.description}. {result.held_out} held-out sequences, {result.scored:,} scored tokens: all "
            "but the first of each sequence, because a GPT needs one token to start from.",
            result.model_text,
        ],
        [
            figures.dots(
                "Cross-entropy on held-out sequences",
                "Smaller is better." + below,
                "nats per token",
                rows,
                reference,
            ),
            figures.table(
                "The same in numbers",
                "Standard errors are over sequences, of the ratio of total loss to total tokens.",
                ["predictor", "nats per token", "standard error", "above the floor"],
                table,
            ),
        ],
    )


def _layers(result: Result) -> Section:
    n = np.arange(len(result.layer_scores))
    excess = np.asarray(result.layer_scores) - result.layer_limit
    return Section(
        "Inference in layers",
        [
            "A dual-filter layer maps a sequence of beliefs about the hidden state to a better one, as a transformer layer "
            "maps embeddings; its fixed point is the exact filter. The first layer starts from what is known without any "
            "token. A layer is causal, so as many layers as tokens always suffice; how many are needed is a property of the "
            "process.",
        ],
        [
            figures.lines(
                "Loss above the exact filter, by number of layers",
                f"The loss falls to that of the exact filter; {result.layers_needed} layers bring the beliefs themselves "
                "within 64 rounding errors of it on the window shown below.",
                "layers",
                "nats per token above the filter",
                [Line("dual filter", n, np.maximum(excess, 0), "dual")],
                log_y=True,
            ),
            figures.lines(
                "Largest change a layer makes to a belief",
                "The change of the last layer is the residual of the fixed point: zero means exact, whatever the start.",
                "layer",
                "sum of absolute changes",
                [Line("residual", n[1:], result.residuals[: len(n) - 1], "dual")],
                log_y=True,
            ),
        ],
    )


def _names(result: Result) -> list[str]:
    symbols = result.vocabulary
    return [("·" if t < 0 else TOKEN_NAMES.get(symbols[t], symbols[t]))[:6] for t in result.window.tokens]


def _sources(result: Result) -> Section:
    window = result.window
    names = _names(result)
    symbols = result.vocabulary
    notes = []
    for q in range(window.length + 1):
        target = symbols[window.targets[q]]
        shown = ", ".join(
            f"{name} {'–' if not np.isfinite(p[q]) else f'{p[q]:.3f}'}" for name, p in window.probability.items()
        )
        notes.append(f"Probability that the token after step {q} is {TOKEN_NAMES.get(target, target)!r}: {shown}.")
    panels = [
        Panel(
            "Control of the dual filter",
            "dual",
            {"size over all states": window.control, "for this token alone": window.control_target},
        ),
        *(
            Panel(
                f"Contribution to the probability, {name}",
                "filter" if name != "GPT" else "transformer",
                {"all": matrix},
            )
            for name, matrix in window.contributions.items()
        ),
        Panel(
            "Attention of the GPT",
            "transformer",
            {"mean of all heads": window.mean_attention(), **window.attention},
        ),
    ]
    certain = window.certain
    highlight = ~certain if certain.any() and not certain.all() else None
    marked = (
        " Shaded steps are those where the exact filter was not certain of the token." if highlight is not None else ""
    )
    return Section(
        "Where a prediction comes from",
        [
            "One held-out window. Move the slider: for the prediction after that many tokens, each panel shows how much every "
            "earlier token matters, by three different measures.",
            "Control: the weight of the dual filter's optimal-control solution; prior plus weights is exactly the prediction. "
            "It uses the whole string up to the query. Contribution: by how much the token at a step changed the expected "
            f"prediction, averaged over continuations ({window.reference}); it uses the past of that step only, and is computed "
            "for filter and GPT on the same continuations. Attention: what the GPT's heads read. None of the three is the "
            "others' definition, so agreement between them is a finding.",
        ],
        [
            figures.profile(
                "Weights of past tokens for one prediction",
                "Tall bars are the tokens the prediction rests on." + marked,
                "step and its token",
                panels,
                names,
                "query",
                notes,
                highlight,
            )
        ],
    )


def _matrices(result: Result) -> Section:
    window = result.window
    axes = ("step", "query")
    figure_list = [
        figures.matrix(
            "Control matrix of the dual filter",
            "Each row is a query, each column a past token: a vertical line is a token that stays important for all later "
            "predictions. Colours grow with the square root of the weight. Click a row to choose it above.",
            *axes,
            "size",
            {"size over all states": window.control, "for the next token alone": np.abs(window.control_target)},
            link="query",
        ),
        figures.matrix(
            "Attention of the GPT",
            "The same axes: the last layer's prediction after a query reads from the columns that are dark.",
            *axes,
            "weight",
            {"mean of all heads": window.mean_attention(), **window.attention},
            link="query",
        ),
        *(
            figures.matrix(
                f"Path contributions, {name}",
                f"By how much each token raised or lowered the expected prediction; {_error_note(window, name)}.",
                *axes,
                "signed",
                {"contribution": matrix},
                diverging=True,
                link="query",
            )
            for name, matrix in window.contributions.items()
        ),
    ]
    for name, matrix in window.steps.items():
        figure_list.append(
            figures.matrix(
                f"Adapted weights U of the last query, {name}",
                "One row per token that could have come, except the first: the change of the expected prediction if it comes, "
                "with the sign of the representation (negative raises the prediction).",
                "step and its token",
                "token",
                "U",
                {"U": matrix},
                diverging=True,
                columns=_names(result),
                row_labels=[TOKEN_NAMES.get(s, s)[:6] for s in result.vocabulary[1:]],
            )
        )
    return Section("The same for all predictions at once", [], figure_list)


def _error_note(window, name: str) -> str:
    largest = np.nanmax(window.errors[name]) if window.errors[name].size else 0.0
    return "exact" if largest == 0 else f"standard errors are at most {largest:.1g}"


def _agreement(result: Result) -> Section:
    rows = [
        [a.one, a.other, f"{a.overlap:.2f}", f"{a.chance:.2f}", f"{a.rank_correlation:.2f}", f"{a.correlation:.2f}"]
        for a in result.agreements
    ]
    k = result.agreements[0].k if result.agreements else 0
    facts = [[name, value] for name, value in result.facts]
    return Section(
        "How far they agree",
        [],
        [
            figures.table(
                "Agreement of the weights in the window",
                f"Overlap: share of the {k} largest weights of a query that both have, mean over queries, next to what two "
                "unrelated rankings would share. Rank correlation: Spearman, mean over queries. Correlation: Pearson over all "
                "entries, with sign.",
                ["one", "other", f"overlap of top {k}", "by chance", "rank correlation", "correlation"],
                rows,
            ),
            figures.table("Agreement of the predictions", "Over all held-out sequences.", ["", "value"], facts),
        ],
    )


def _training(result: Result) -> Section:
    losses = np.asarray(result.losses, dtype=float)
    size = max(1, len(losses) // 200)
    kept = losses[: len(losses) // size * size].reshape(-1, size).mean(1)
    x = (np.arange(len(kept)) + 1) * size
    floor = ("entropy floor", result.floor) if result.floor is not None else ("bigram", result.score("bigram").value)
    return Section(
        "Training of the GPT",
        [result.network_text],
        [
            figures.lines(
                "Training loss",
                f"Mean of {size} steps per point, on fresh windows; logarithmic axes." if size > 1 else "Every step.",
                "step",
                "nats per token",
                [Line("GPT", x, kept, "transformer")],
                floor,
                log_x=True,
                log_y=True,
            )
        ],
    )
