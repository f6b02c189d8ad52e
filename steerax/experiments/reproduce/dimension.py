"""Too few states: a learned hidden Markov model against a GPT of the same width."""

import dataclasses

import jax
import numpy as np

from ...data.scores import TokenScores
from ...inference.hmm.filter import score_tokens
from ...inference.hmm.fit import fit_tokens
from ...inference.kinds import HMM
from ...models import sample_sequences, two_cycle
from ...models.hmm import HiddenMarkovModel
from ...report import figures
from .networks import Recipe, floor, gpt_scores, held_out, trained
from .outcome import Claim, Outcome, at_least, at_most, if_enough, other_values

TITLE = "Embedding dimension: the non-Markovian advantage"


@dataclasses.dataclass(frozen=True)
class Config:
    """Around the true number of states, 8; five seeds, because Baum-Welch and small networks have poor optima.

    The paper's stored text lost the process and the dimensions. `others` (ℓ, n₀) are processes with another number of
    states, tried at half of it.
    """

    dimensions: tuple[int, ...] = (2, 4, 8, 12)
    few: int = 4  # the dimension that the claims are about
    seeds: int = 5
    decisive_seeds: int = 5
    length: int = 64
    steps: int = 5000
    decisive_steps: int = 5000
    starts: int = 2  # of each GPT; at d = 4 the better one ends 0.2 to 37 % above the floor
    training: int = 400  # sequences for Baum-Welch
    restarts: int = 5
    others: tuple[tuple[int, int], ...] = ((7, 3), (9, 4))
    other_seeds: int = 1


QUICK = Config(dimensions=(2, 4, 8), seeds=1, length=32, steps=500, starts=1, training=100, restarts=2, other_seeds=1)
Losses = dict[str, np.ndarray]  # "HMM" and "GPT" -> share of the floor above the true filter [dimensions seeds]


def run(config: Config, seed: int) -> Outcome:
    """Learn both models at every dimension and score them on the same fresh sequences."""
    above = compare(config, two_cycle(), config.dimensions, config.seeds, seed)
    others = {
        f"ℓ = {l}, n₀ = {n}, d = {l // 2}": compare(config, two_cycle(l, n), (l // 2,), config.other_seeds, seed)
        for l, n in config.others
    }
    return Outcome(
        TITLE,
        "Fig. 4 and Sec. 4.2 of [KudreChangMehta2026]",
        [
            f"The two-cycle process has 8 hidden states. At each dimension d, a hidden Markov model with d states is learned by "
            f"Baum-Welch ({config.training} sequences, {config.restarts} starts) and used through its exact filter, which the "
            f"dual filter equals, and a GPT of width d is trained for {config.steps:,} steps (best of {config.starts}). Losses are on fresh sequences, as "
            f"a share of the entropy floor above the true filter; {config.seeds} seed{'s' * (config.seeds > 1)}.",
        ],
        claims(config, above),
        pictures(config, above, others),
        {
            "dimensions": list(config.dimensions),
            "above_the_true_filter": {k: v.tolist() for k, v in above.items()},
            "medians": {k: np.median(v, axis=1).tolist() for k, v in above.items()},
            "other_processes": {
                name: {k: {"all": v.tolist(), "median": float(np.median(v))} for k, v in found.items()}
                for name, found in others.items()
            },
            "floor": floor(two_cycle(), config.length),
        },
    )


def compare(config: Config, process: HiddenMarkovModel, dimensions: tuple[int, ...], seeds: int, seed: int) -> Losses:
    """Both kinds of model at every dimension, every seed."""
    lowest = floor(process, config.length)
    above = {name: np.zeros((len(dimensions), seeds)) for name in ("HMM", "GPT")}
    for i in range(seeds):
        keys = jax.random.split(jax.random.key(1000 * seed + i), 4)
        training = sample_sequences(process, keys[0], config.training, config.length + 1)
        data = held_out(process, config.length, 512, keys[1])
        exact = score_tokens(process, data).log_likelihoods[:, 1:]
        share = lambda found, exact=exact, data=data: (
            TokenScores(found - exact, data.mask[:, 1:]).cross_entropy / lowest
        )
        for j, d in enumerate(dimensions):
            fit = fit_tokens(
                HMM(d),
                training,
                keys[2],
                restarts=config.restarts,
                pseudocounts=0.01,
                max_iterations=300,
                progress=False,
            )
            above["HMM"][j, i] = share(score_tokens(fit.model, data, on_impossible="skip").log_likelihoods[:, 1:])
            gpt, _ = trained(process, Recipe(d, config.length, config.steps, starts=config.starts), keys[3])
            above["GPT"][j, i] = share(gpt_scores(gpt, data).log_likelihoods)
    return above


def claims(config: Config, above: Losses) -> list[Claim]:
    """What the paper says of Fig. 4, as predicates on medians."""
    medians = {name: np.median(values, axis=1) for name, values in above.items()}
    dimensions = np.array(config.dimensions)
    few, enough = dimensions == config.few, dimensions >= 8
    hmm_few, gpt_few = (float(medians[name][few][0]) for name in ("HMM", "GPT"))
    best = float(medians["HMM"][enough].min())
    trained_only = lambda claim: if_enough(claim, config.steps, config.decisive_steps, "training steps")
    return [
        at_least(
            "With too few states the hidden Markov model degrades",
            "Sec. 4.2",
            hmm_few,
            0.05,
            f"At d = {config.few} it is {100 * hmm_few:.0f} % of the floor above the true filter (median)",
        ),
        if_enough(
            at_most(
                "With enough states it is near the floor",
                "Sec. 4.2",
                best,
                0.02,
                f"Best median for d ≥ 8: {100 * best:.1f} %",
                margin=0.05,
            ),
            config.seeds,
            config.decisive_seeds,
            "seeds",
        ),
        trained_only(
            at_most(
                "The GPT stays near the floor with too few dimensions",
                "Sec. 4.2",
                gpt_few,
                0.05,
                f"At d = {config.few} it is {100 * gpt_few:.1f} % above (median)",
                margin=0.1,
            )
        ),
        trained_only(
            at_least(
                "At the same dimension the GPT is ahead: the non-Markovian advantage",
                "Sec. 4.2",
                hmm_few - gpt_few,
                0.02,
                f"At d = {config.few}: {100 * hmm_few:.0f} % against {100 * gpt_few:.1f} %",
            )
        ),
    ]


def pictures(config: Config, above: Losses, others: dict[str, Losses]) -> list[dict]:
    """Loss against dimension, and the other processes."""
    curves = [
        figures.Line(name, config.dimensions, np.median(above[name], 1), role, above[name].min(1), above[name].max(1))
        for name, role in (("HMM", "dual"), ("GPT", "transformer"))
    ]
    chosen = {name: values[[config.dimensions.index(config.few)]] for name, values in above.items()}
    rows = [
        [label, *(f"{100 * np.median(found[name]):.1f} %" for name in ("HMM", "GPT"))]
        for label, found in ({f"ℓ = 8, n₀ = 4, d = {config.few}": chosen} | others).items()
    ]
    return [
        figures.lines(
            "Loss above the true filter",
            "The true process has 8 states. Lines are medians, bands smallest and largest of the seeds.",
            "dimension",
            "share of the entropy floor",
            curves,
            log_y=True,
        ),
        other_values("the process and the dimensions", ["process and dimension", "HMM above", "GPT above"], rows),
    ]
