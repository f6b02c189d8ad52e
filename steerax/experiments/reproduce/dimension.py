"""Too few states: a learned hidden Markov model against a GPT of the same width."""

import dataclasses

import jax
import numpy as np

from ...inference.hmm.em import fit_hmm
from ...inference.hmm.filter import TokenScores, score_tokens
from ...processes import sample_sequences, two_cycle
from ...report import figures
from .networks import Recipe, floor, gpt_scores, held_out, trained
from .outcome import Outcome, at_least, at_most

TITLE = "Embedding dimension: the non-Markovian advantage"


@dataclasses.dataclass(frozen=True)
class Config:
    """Around the true number of states, 8; five seeds, because Baum-Welch and small networks have poor optima."""

    dimensions: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 12)
    seeds: int = 5
    length: int = 64
    steps: int = 2500
    training: int = 400  # sequences for Baum-Welch
    restarts: int = 5


QUICK = Config(dimensions=(2, 4, 8), seeds=2, length=32, steps=800, training=100, restarts=2)


def run(config: Config, seed: int) -> Outcome:
    """Learn both models at every dimension and score them on the same fresh sequences."""
    process = two_cycle()
    lowest = floor(process, config.length)
    above: dict[str, np.ndarray] = {name: np.zeros((len(config.dimensions), config.seeds)) for name in ("HMM", "GPT")}
    for i in range(config.seeds):
        keys = jax.random.split(jax.random.key(1000 * seed + i), 4)
        training = sample_sequences(process, keys[0], config.training, config.length + 1)
        data = held_out(process, config.length, 512, keys[1])
        exact = score_tokens(process, data).log_likelihoods[:, 1:]
        share = lambda found, exact=exact, data=data: (
            TokenScores(found - exact, data.mask[:, 1:]).cross_entropy / lowest
        )
        for j, d in enumerate(config.dimensions):
            fit = fit_hmm(
                training, d, keys[2], restarts=config.restarts, pseudocounts=0.01, max_iterations=300, progress=False
            )
            above["HMM"][j, i] = share(score_tokens(fit.model, data, on_impossible="skip").log_likelihoods[:, 1:])
            gpt, _ = trained(process, Recipe(d, config.length, config.steps), keys[3])
            above["GPT"][j, i] = share(gpt_scores(gpt, data).log_likelihoods)
    medians = {name: np.median(values, axis=1) for name, values in above.items()}
    dimensions = np.array(config.dimensions)
    few, enough = dimensions == 4, dimensions >= 8
    hmm_few, gpt_few = (float(medians[name][few][0]) for name in ("HMM", "GPT"))
    return Outcome(
        TITLE,
        "Fig. 4 and Sec. 4.2 of [KudreChangMehta2026]",
        [
            f"The two-cycle process has 8 hidden states. At each dimension d, a hidden Markov model with d states is learned by "
            f"Baum-Welch ({config.training} sequences, {config.restarts} starts) and used through its exact filter, which the "
            f"dual filter equals, and a GPT of width d is trained for {config.steps:,} steps. Losses are on fresh sequences, as "
            f"a share of the entropy floor above the true filter; {config.seeds} seeds.",
        ],
        [
            at_least(
                "With too few states the hidden Markov model degrades",
                "Sec. 4.2",
                hmm_few,
                0.05,
                f"At d = 4 it is {100 * hmm_few:.0f} % of the floor above the true filter (median)",
            ),
            at_most(
                "With enough states it is near the floor",
                "Sec. 4.2",
                float(medians["HMM"][enough].min()),
                0.02,
                f"Best median for d ≥ 8: {100 * medians['HMM'][enough].min():.1f} %",
                margin=0.05,
            ),
            at_most(
                "The GPT stays near the floor with too few dimensions",
                "Sec. 4.2",
                gpt_few,
                0.05,
                f"At d = 4 it is {100 * gpt_few:.1f} % above (median)",
                margin=0.1,
            ),
            at_least(
                "At the same dimension the GPT is ahead: the non-Markovian advantage",
                "Sec. 4.2",
                hmm_few - gpt_few,
                0.02,
                f"At d = 4: {100 * hmm_few:.0f} % against {100 * gpt_few:.1f} %",
            ),
        ],
        [
            figures.lines(
                "Loss above the true filter",
                "The true process has 8 states. Lines are medians, bands smallest and largest of the seeds.",
                "dimension",
                "share of the entropy floor",
                [
                    figures.Line(name, dimensions, medians[name], role, above[name].min(1), above[name].max(1))
                    for name, role in (("HMM", "dual"), ("GPT", "transformer"))
                ],
                log_y=True,
            )
        ],
        {
            "dimensions": list(config.dimensions),
            "above_the_true_filter": {k: v.tolist() for k, v in above.items()},
            "floor": lowest,
        },
    )
