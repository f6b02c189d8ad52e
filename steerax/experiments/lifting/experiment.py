"""The lifted problem: policies, open loops, and the value as a function of the distribution of the data."""

import dataclasses
from functools import partial

import numpy as np

from ...lifted import Distribution, FiniteProblem, input_dependent_value, solve_dynamic
from ...lifted.bounds.generalisation import generalisation_bound
from ...lifted.problem import alphabet, tasks
from ...lifted.search import classes
from ...lifted.search.census import census, uniform_distribution
from ...report import figures
from ...report.words import Findings


@dataclasses.dataclass(frozen=True)
class Config:
    """Depth 2 on four bits is the largest census; the samples range from one string to far more than there are."""

    depth: int = 2
    samples: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 512)
    draws: int = 200
    segments: int = 4


QUICK = Config(depth=1, samples=(8, 32, 128), draws=50, segments=2)


def run(config: Config, seed: int) -> Findings:
    """Integer equalities on a small problem; pictures of the value from the census."""
    rng = np.random.default_rng(seed)
    numbers = small_findings()
    functions = census(4, config.depth)
    parity = np.array([bin(s).count("1") % 2 for s in range(16)])
    curves, concave, ratio = segments(functions, config.segments, rng)
    excess, width = consistency(functions, parity, config, rng)
    numbers |= {
        "functions": len(functions),
        "smallest_turned_second_difference": concave,
        "largest_quotient": ratio,
        "mean_excess": [float(np.mean(e)) for e in excess],
        "bound": [2 * w for w in width],
        "share_above_the_bound": max(float(np.mean(np.array(e) > 2 * w)) for e, w in zip(excess, width, strict=True)),
    }
    means = figures.Line(
        "mean excess",
        config.samples,
        numbers["mean_excess"],
        "filter",
        [np.quantile(e, 0.05) for e in excess],
        [np.quantile(e, 0.95) for e in excess],
    )
    bound = figures.Line("bound", config.samples, numbers["bound"], "floor")
    return Findings(
        numbers,
        {
            "segments": partial(figures.lines, curves=curves),
            "samples": partial(figures.lines, curves=[means, bound], log_x=True),
        },
    )


def small_findings() -> dict:
    """Policies, open loops and networks on all strings of three bits labelled by parity."""
    tokens = tasks.all_strings(3)
    labels = tokens.sum(1) % 2
    problem = small_problem(tokens, labels)
    policy = solve_dynamic(problem)
    choices = policy.roll_out()
    lists = {tuple(policy.roll_out(problem.initial.part([i, j]))) for i in range(8) for j in range(i)}
    return {
        "value": policy.value(),
        "open_loop": problem.cost(choices),
        "deployed": int(np.sum(policy.network(tokens) != labels)),
        "differing_distributions": int(run_alone(problem, choices) != run_jointly(problem, choices)),
        "input_dependent_value": input_dependent_value(problem),
        "lists": len(lists),
        "pairs": 28,
    }


def small_problem(tokens: np.ndarray, labels: np.ndarray) -> FiniteProblem:
    """One layer of softmax attention and a neuron, read by a threshold."""
    embedding = classes.embed_levels(length=tokens.shape[1], vocabulary=2, levels=2)
    stages = [*classes.attention_stages(2, alphabet.softmax_attention(1.0, 8), heads=1), classes.neuron_stage(2)]
    return FiniteProblem(
        embedding, Distribution.embedded(embedding, tokens, labels), tuple(stages), classes.threshold_readings(2)
    )


def run_jointly(problem: FiniteProblem, choices: list[int]) -> bytes:
    """Key of the distribution after a list of choices, all sequences together."""
    return pushed(problem, problem.initial, choices).key


def run_alone(problem: FiniteProblem, choices: list[int]) -> bytes:
    """Key of the distribution put together from sequences that were each run on their own."""
    parts = [pushed(problem, problem.initial.part([i]), choices) for i in range(len(problem.initial.weights))]
    join = lambda arrays: np.concatenate(list(arrays))
    registers = [join(part.registers[r] for part in parts) for r in range(len(parts[0].registers))]
    return Distribution.of(registers, join(p.labels for p in parts), join(p.weights for p in parts)).key


def pushed(problem: FiniteProblem, distribution: Distribution, choices: list[int]) -> Distribution:
    """The distribution after the choices of every stage."""
    for stage, a in zip(problem.stages, choices, strict=False):
        distribution = distribution.push(stage[a].steps)
    return distribution


def segments(functions, number: int, rng: np.random.Generator):
    """(curves, smallest turned second difference, largest |V - V'| / TV) along segments between random distributions."""
    x = np.linspace(0, 1, 101)
    curves, concave, ratio = [], np.inf, 0.0
    for i in range(number):
        a, b = (uniform_distribution(rng.integers(0, 2, 16)) for _ in range(2))
        values = np.array([functions.value((1 - t) * a + t * b) for t in x])
        distance = np.abs(a - b).sum() / 2
        concave = min(concave, float(-np.diff(values, 2).max()))
        if distance > 0:
            ratio = max(ratio, float(np.abs(np.diff(values)).max() / (distance * (x[1] - x[0]))))
        curves.append(figures.Line(f"segment {i + 1}", x, values, ("filter", "dual", "transformer", "accent")[i % 4]))
    return curves, concave, ratio


def consistency(functions, labels: np.ndarray, config: Config, rng: np.random.Generator):
    """(excess error of the policy of each sample, width of the bound), for each sample size."""
    truth = uniform_distribution(labels)
    best, risks = functions.value(truth), functions.risks(truth)
    excess, width = [], []
    for n in config.samples:
        width.append(generalisation_bound(len(functions), n, 0.05).width.value)
        draws = rng.multinomial(n, np.full(16, 1 / 16), size=config.draws)
        samples = (uniform_distribution(labels) * 16 * counts[:, None] / n for counts in draws)
        excess.append([float(risks[functions.risks(sample).argmin()] - best) for sample in samples])
    return excess, width
