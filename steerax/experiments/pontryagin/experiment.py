"""Costates, the softmax residual, two exact laws, and what stationarity means in a trained network."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ...depth.measure.costate import costates, half_step_states, token_losses
from ...depth.measure.stationarity import stationarity
from ...depth.theory.control import optimal_control
from ...depth.theory.hamiltonian import conserved
from ...models import sample_batch, two_cycle
from ...report import figures
from ...report.words import Findings
from ...training.gradient import train_gpt
from ...training.optimizer import adamw
from ...transformer.gpt import GPT, GPTConfig
from ..linear_quadratic import linear_quadratic

DEPTHS = (8, 16, 32)  # of the linear-quadratic problem


@dataclasses.dataclass(frozen=True)
class Config:
    """Three layers, so that there is a depth; twenty looks at the gradient during training."""

    layers: int = 3
    width: int = 16
    length: int = 32
    steps: int = 1000
    decisive_steps: int = 1000
    looks: int = 20
    sequences: int = 256


QUICK = Config(layers=2, width=8, steps=100, looks=5, sequences=32, length=16)


def run(config: Config, seed: int) -> Findings:
    """Exact identities on one network, stationarity along a training run, the Hamiltonian of a solvable problem."""
    keys = jax.random.split(jax.random.key(seed), 4)
    gpt, steps, looks, watched = train_and_look(config, keys)
    exact = identities(gpt.astype(jnp.float64), watched[:8])
    drift, order = hamiltonian_drift(keys[3])
    unbiased, error, batch = (
        np.array([sum(entry[name]) for entry in looks]) for name in ("unbiased", "error", "batch")
    )
    fifth = max(1, len(looks) // 5)
    first, last = unbiased[:fifth].mean(), max(float(unbiased[-fifth:].mean()), 0.0)
    fall = float(last / first) if first > 2 * error[:fifth].mean() else float("nan")
    change = float(batch[-fifth:].mean() / batch[:fifth].mean())
    curves = [figures.Line("unbiased", steps, unbiased, "filter"), figures.Line("one batch", steps, batch, "baseline")]
    numbers = {
        "identities": exact,
        "looks": looks,
        "hamiltonian_variation": dict(zip(map(str, DEPTHS), drift, strict=True)),
        "deepest": DEPTHS[-1],
        "order": order,
        "fall_is_known": bool(np.isfinite(fall)),
        "fall_of_the_unbiased_square": fall,
        "change_of_the_batch_square": change,
    }
    return Findings(numbers, {"stationarity": partial(figures.lines, curves=curves, log_y=True)})


def train_and_look(config: Config, keys) -> tuple[GPT, np.ndarray, list[dict[str, list[float]]], jax.Array]:
    """(network, steps of the looks, stationarity of every layer at each, sequences it was measured on)."""
    process = two_cycle()
    model = GPT(GPTConfig(2, config.length, config.layers, 2, config.width), key=keys[0])
    watched = sample_batch(process, keys[1], config.sequences, config.length + 1).astype(jnp.int32)
    looks: list[dict[str, list[float]]] = []
    every = max(1, config.steps // config.looks)

    def look(snapshot) -> None:
        found = stationarity(snapshot.state[0], watched, batches=8)
        looks.append({"unbiased": found.signal.tolist(), "error": found.se.tolist(), "batch": found.batch.tolist()})

    run = train_gpt(
        model,
        lambda key, step: sample_batch(process, key, 64, config.length + 1),
        config.steps,
        keys[2],
        adamw(config.steps, 5e-3, b2=0.95),
        hooks=[look],
        every=every,
        progress=False,
    )
    return run.model, (np.arange(len(looks)) + 1) * every, looks, watched


def hamiltonian_drift(key) -> tuple[list[float], float]:
    """(relative variation of the Hamiltonian along the optimum at each depth, fitted order in the step)."""
    problem, drift = linear_quadratic(key), []
    for depth in DEPTHS:
        H = np.asarray(conserved(problem, optimal_control(problem, depth).value))
        drift.append(float(np.ptp(H) / np.abs(H).max()))
    return drift, float(np.polyfit(np.log(1 / np.array(DEPTHS)), np.log(drift), 1)[0])


def identities(gpt: GPT, tokens) -> dict[str, float]:
    """Largest relative differences of the costate identities on one batch."""
    inputs = tokens[:, :-1]
    targets = tokens[:, 1:]
    found = costates(gpt, inputs, targets)
    states = half_step_states(gpt, inputs)
    number = targets.size

    def rest(X, layer):
        for l in range(layer, gpt.config.n_layer):
            X = jax.vmap(gpt.block(l))(X)
        return token_losses(gpt, X, targets).sum() / number

    differences = []
    for layer in range(gpt.config.n_layer + 1):
        gradient = jax.grad(rest)(states[2 * layer], layer)
        P = found.costates[2 * layer]
        differences.append(float(jnp.abs(P - gradient).max() / jnp.abs(gradient).max()))
    P = found.costates
    terminal = softmax_residual(gpt, states[-1], targets)
    return {
        "costates": max(differences),
        "terminal": float(jnp.abs(P[-1] - terminal).max() / jnp.abs(terminal).max()),
        "zero_sum": float(jnp.abs(P.sum(-1)).max() / jnp.abs(P).max()),
        "ledger": float(found.ledger.relative_defect),
    }


def softmax_residual(gpt: GPT, X, targets):
    """(D LN)ᵀ Wᵀ (softmax - e_y) / N in closed form: with x̂ the normalised state and g = γ ⊙ Wᵀ(softmax - e_y),
    (g - mean g - x̂ mean(g x̂)) / σ."""
    W = gpt.token_embedding if gpt.unembedding is None else gpt.unembedding
    residual = jax.nn.softmax(jax.vmap(gpt.unembed)(X)) - jax.nn.one_hot(targets, W.shape[0])
    g = gpt.ln_final.weight.reshape(1, 1, -1) * (residual @ W) / targets.size
    centred = X - X.mean(-1, keepdims=True)
    sigma = jnp.sqrt((centred**2).mean(-1, keepdims=True) + gpt.ln_final.epsilon)
    normal = centred / sigma
    return (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True)) / sigma
