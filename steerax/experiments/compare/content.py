"""What the comparison says to a reader: a lead, sections and figures made from the numbers; nothing is computed here."""

import numpy as np

from ...report import figures
from ...report.figures import Dot, Line, Panel
from ...report.page import Section
from .result import Result

SHOWN_AS = {"\n": "⏎", " ": "␣", "\t": "⇥"}
MISSING = "·"
ROUNDING = 1e-15  # differences of probabilities below this are rounding


def lead(result: Result) -> str:
    """The answer in two or three sentences."""
    gpt, hmm, bigram = (result.score(name) for name in ("GPT", "HMM filter", "bigram"))
    above, spread = result.excess["GPT"]
    if result.floor is not None:
        first = (
            f"The trained GPT is {difference(above, spread)} nats per token from the exact filter: "
            f"{100 * above / result.floor:+.2g} % of the entropy floor ({result.floor:.4f})."
        )
    else:
        side = lambda s: "beats" if s.value < bigram.value else "does not beat"
        first = (
            f"The GPT ({gpt.value:.3f} nats per token on held-out sequences) {side(gpt)} the bigram baseline "
            f"({bigram.value:.3f}), and the hidden Markov model ({hmm.value:.3f}) {side(hmm)} it."
        )
    second = (
        f"The dual filter reproduces the exact filter to {result.dual_difference:.0e} in {result.layers_needed} layers, for "
        f"{result.window.length} tokens."
    )
    third = ""
    if result.interrupted:
        third = f" Training was interrupted after {result.steps:,} of {result.config.network()['steps']:,} steps."
    return f"{first} {second}{third}"


def sections(result: Result) -> list[Section]:
    """The parts of the page in reading order."""
    parts = (_predictions, _layers, _weights, _matrices, _agreement, _training)
    return [part(result) for part in parts]


def _predictions(result: Result) -> Section:
    rows = [Dot(s.name, s.value, s.error, s.role) for s in result.scores]
    caption = "Smaller is better."
    if result.floor is not None:
        caption += " The dashed line is the smallest loss any predictor of this process can have on average."
    table = []
    for s in result.scores:
        above, spread = result.excess[s.name]
        paired = "–" if s.name == "HMM filter" else difference(above, spread)
        table.append([s.name, f"{s.value:.4f} ± {s.error:.4f}", paired])
    return Section(
        "How well each one predicts the next token",
        [
            f"Compared on {result.description}.",
            result.model_text,
            f"{result.held_out:,} held-out sequences with {result.scored:,} scored tokens: every token but the first of "
            "its sequence, since a GPT needs one token to start from.",
        ],
        [
            figures.dots(
                "Loss on held-out sequences",
                caption,
                "nats per token",
                rows,
                None if result.floor is None else ("entropy floor", result.floor),
            ),
            figures.table(
                "The same in numbers",
                "Nats per token ± one standard error over sequences. The last column compares on the same sequences, which "
                "removes most of the chance in their choice.",
                ["predictor", "loss", "loss above the HMM filter"],
                table,
            ),
        ],
    )


def difference(value: float, error: float) -> str:
    """A signed number with its standard error, to the digits that mean something."""
    if not np.isfinite(value):
        return "infinite"
    if abs(value) < 5e-7:
        return "0"
    decimals = 4 if error == 0 else int(np.clip(1 - np.floor(np.log10(error)), 4, 7))
    return f"{value:+.{decimals}f} ± {error:.{decimals}f}"


def _layers(result: Result) -> Section:
    residuals = np.where(result.residuals > ROUNDING, result.residuals, 0.0)
    shown = int(np.flatnonzero(residuals)[-1]) + 4 if residuals.any() else 4
    n = np.arange(len(result.layer_scores))[:shown]
    excess = np.asarray(result.layer_scores)[:shown] - result.layer_limit
    excess = np.where(excess > ROUNDING, excess, 0.0)
    return Section(
        "Inference in layers",
        [
            "A layer of the dual filter turns a sequence of beliefs about the hidden state into a better one, as a transformer "
            "layer does with embeddings. Its fixed point is the exact filter. The first layer starts from what is known "
            "before any token. Since a layer is causal, as many layers as tokens always suffice; how many are needed tells "
            "something about the process.",
        ],
        [
            figures.lines(
                "Loss above the exact filter",
                "Where the curve leaves the picture the loss is that of the exact filter to all digits.",
                "layers",
                "nats per token",
                [Line("dual filter", n, excess, "dual")],
                log_y=True,
            ),
            figures.lines(
                "Change made by each layer",
                "The largest change of a belief, over all tokens of some held-out sequences. Once it is at rounding level the "
                "result is exact, wherever the first layer started.",
                "layer",
                "sum of absolute changes",
                [Line("residual", n[1:], residuals[: len(n) - 1], "dual")],
                log_y=True,
            ),
        ],
    )


def _weights(result: Result) -> Section:
    window, names = result.window, token_names(result)
    panels = [
        Panel(
            "Control of the dual filter",
            "dual",
            {"size over all states": window.control, "for this probability": window.control_target},
        )
    ]
    for name, matrix in window.contributions.items():
        role = "transformer" if name == "GPT" else "filter"
        panels.append(Panel(f"Change of the expected prediction, {name}", role, {"all": matrix}))
    panels.append(
        Panel("Attention of the GPT", "transformer", {"mean of all heads": window.mean_attention(), **window.attention})
    )
    marked = window.certain.any() and not window.certain.all()
    shade = " Shaded: the exact filter was not certain of this token." if marked else ""
    return Section(
        "Where a prediction comes from",
        [
            "One held-out window, three measures of how much each past token matters for one prediction.",
            "Control: the solution of the optimal-control problem, by the dual filter; prior plus weights is exactly the "
            "prediction. It uses the whole string up to the query.",
            "Change of the expected prediction: how much the token changed it when it came, averaged over "
            f"continuations ({window.reference}), the same ones for filter and GPT. These changes also add up to the "
            "prediction, and each uses only the past of its step.",
            "Attention: what the heads of the GPT read. None of the three is defined by another, so where they agree, that is "
            "a finding.",
        ],
        [
            figures.profile(
                "Weights of the past tokens for one prediction",
                f"Choose a prediction with the slider: the tallest bars are the tokens it rests on.{shade}",
                "step and its token",
                panels,
                names,
                "query",
                _notes(result),
                [not certain for certain in window.certain] if marked else None,
            )
        ],
    )


def token_names(result: Result) -> list[str]:
    """The tokens of the window as short labels."""
    symbols = [MISSING if t < 0 else result.vocabulary[t] for t in result.window.tokens]
    return [SHOWN_AS.get(s, s)[:6] for s in symbols]


def _notes(result: Result) -> list[str]:
    """For every query: which probability is explained, and what each predictor says."""
    window, notes = result.window, []
    for q, target in enumerate(window.targets):
        symbol = SHOWN_AS.get(result.vocabulary[target], result.vocabulary[target])
        said = [f"{name} {p[q]:.3f}" for name, p in window.probability.items() if np.isfinite(p[q])]
        notes.append(f"P(next token = {symbol}): {', '.join(said)}")
    return notes


def _matrices(result: Result) -> Section:
    window = result.window
    control = {"size over all states": window.control, "for the next token alone": np.abs(window.control_target)}
    attention = {"mean of all heads": window.mean_attention(), **window.attention}
    shown = [
        figures.matrix(
            "Control of the dual filter",
            "Row: a prediction; column: a past token. A vertical line is a token that stays important.",
            "step",
            "query",
            "size",
            control,
            link="query",
        ),
        figures.matrix(
            "Attention of the GPT",
            "The same axes. Compare which columns are dark.",
            "step",
            "query",
            "weight",
            attention,
            link="query",
        ),
    ]
    for name, matrix in window.contributions.items():
        largest = float(window.errors[name].max(initial=0.0))
        shown.append(
            figures.matrix(
                f"Change of the expected prediction, {name}",
                "Orange raised, blue lowered the prediction when the token came"
                + (f"; standard errors up to {largest:.1g}." if largest else "; exact."),
                "step",
                "query",
                "change",
                {"contribution": matrix},
                diverging=True,
                link="query",
            )
        )
    for name, matrix in window.steps.items():
        shown.append(
            figures.matrix(
                f"Adapted weights of the last prediction, {name}",
                "At each step, one weight for every token but the first that could have come. Zero where only one token was "
                "possible: nothing was learned there.",
                "step and its token",
                "token",
                "weight",
                {"weight": matrix},
                diverging=True,
                columns=token_names(result),
                row_labels=[SHOWN_AS.get(s, s)[:6] for s in result.vocabulary[1:]],
            )
        )
    text = "Colour grows with the square root of the value, so that small weights stay visible. Click a row to choose it above."
    return Section("All predictions of the window at once", [text], shown)


def _agreement(result: Result) -> Section:
    percent = lambda share, chance: f"{100 * share:.0f} % ({100 * chance:.0f} %)"
    rows = [
        [
            a.one,
            a.other,
            percent(a.same_strongest, a.same_by_chance),
            percent(a.overlap, a.overlap_by_chance),
            f"{a.rank_correlation:.2f}",
            f"{a.correlation:.2f}",
        ]
        for a in result.agreements
    ]
    k = result.agreements[0].k
    facts = [[name, value if isinstance(value, str) else f"{value:.4g}"] for name, value in result.facts]
    return Section(
        "How far they agree",
        [],
        [
            figures.table(
                "Weights in the window",
                f"Same strongest: how often both have their largest weight on the same token. Overlap: the share of the {k} "
                "largest weights that both have. In brackets, what two unrelated rankings would share. Rank correlation: "
                "Spearman, of sizes. These are means over predictions. Correlation: Pearson, over all entries, with signs.",
                ["one", "other", "same strongest", f"overlap of {k}", "rank correlation", "correlation"],
                rows,
            ),
            figures.table("Predictions", "On all held-out sequences, unless it says otherwise.", ["", "value"], facts),
        ],
    )


def _training(result: Result) -> Section:
    losses = np.asarray(result.losses, dtype=float)
    size = max(1, len(losses) // 200)
    points = losses[: len(losses) // size * size].reshape(-1, size).mean(1)
    x = (np.arange(len(points)) + 1) * size
    bigram = result.score("bigram").value
    kind = "fresh windows of the process" if result.floor is not None else "random windows of the training data"
    return Section(
        "Training of the GPT",
        [result.network_text],
        [
            figures.lines(
                "Training loss",
                f"On {kind}; a point is the mean of {size} steps." if size > 1 else f"On {kind}, every step.",
                "step",
                "nats per token",
                [Line("GPT", x, points, "transformer")],
                ("entropy floor", result.floor) if result.floor is not None else ("bigram", bigram),
                log_x=True,
                log_y=True,
            )
        ],
    )
