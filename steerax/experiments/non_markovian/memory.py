"""Mess3 with memory: a process whose next state is a mixture over the last three states."""

import dataclasses

import jax
import numpy as np

from ...inference.kinds import HMM, Lagged
from ...inference.verbs import fit
from ...models import mess3, order_k, sample_sequences
from ...models.hmm import HiddenMarkovModel
from ...report.words import Findings, table
from ..networks import HeldOut, Recipe, floor, trained


@dataclasses.dataclass(frozen=True)
class Config:
    """Three lags with the weights .5, .1 and .4, the last of them on a rotated transition."""

    weights: tuple[float, ...] = (0.5, 0.1, 0.4)
    seeds: int = 3
    length: int = 64
    training: int = 1200
    restarts: int = 3
    iterations: int = 200
    width: int = 8
    steps: int = 3000


QUICK = Config(seeds=1, length=16, training=60, restarts=1, iterations=10, steps=30)


def process(config: Config) -> HiddenMarkovModel:
    r"""$P(X_{t+1}\mid X_{\le t})=\sum_j\lambda_jA_j(X_{t-j},\cdot)$ on the 27 triples of states, exactly; all $A_j$ are those of Mess3, the
    columns of the last one rotated."""
    chain = mess3()
    A = [np.asarray(chain.transition)] * (len(config.weights) - 1) + [np.roll(np.asarray(chain.transition), 1, 1)]
    m, tensor = len(A), np.zeros((3,) * (len(A) + 1))
    for j, (weight, matrix) in enumerate(zip(config.weights, A, strict=True)):
        shape = [1] * (m + 1)
        shape[m - 1 - j] = shape[m] = 3  # oldest state first
        tensor = tensor + weight * matrix.reshape(shape)
    return order_k(tensor, chain.emission)


def run(config: Config, seed: int) -> Findings:
    """Every kind of model, nats above the exact filter on the same fresh sequences."""
    source, above = process(config), {}
    m = len(config.weights)
    kinds = {
        "HMM": HMM(3),
        f"HMM of order {m}, the true kind": HMM(3, order=m),
        "lags, constant weights": Lagged(3, m, attention=False),
        "lags, attention": Lagged(3, m),
    }
    lowest = floor(source, config.length, jax.random.key(seed))
    for i in range(config.seeds):
        keys = jax.random.split(jax.random.key(1000 * seed + i + 500), 4)
        training = sample_sequences(source, keys[0], config.training, config.length + 1)
        fresh = HeldOut.of(source, config.length, 512, keys[1], lowest)
        options = {"restarts": config.restarts, "max_iterations": config.iterations, "progress": False}
        for name, kind in kinds.items():
            model = fit(kind, training, keys[2], pseudocounts=0.01, **options).model
            above.setdefault(name, []).append(fresh.excess(model).cross_entropy)
        gpt, _ = trained(source, Recipe(config.width, config.length, config.steps), keys[3])
        above.setdefault(f"GPT of width {config.width}", []).append(fresh.excess(gpt).cross_entropy)
    medians = {name: float(np.median(values)) for name, values in above.items()}
    rows = [[name, f"{medians[name]:.4f}", f"{min(v):.4f} to {max(v):.4f}"] for name, v in above.items()]
    numbers = {
        "above": above,
        "medians": medians,
        "floor": lowest,
        "order": m,
        "true_kind": f"HMM of order {m}, the true kind",
        "gpt": f"GPT of width {config.width}",
    }
    return Findings(numbers, {"memory": table(rows)})
