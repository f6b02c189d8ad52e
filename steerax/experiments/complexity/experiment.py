"""What inference costs: time and memory against the length of the sequence and the number of states, with fitted orders."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...inference.hmm.kernels.layers import layer
from ...inference.linear.dual import dual_filter_series
from ...inference.linear.solvers import ClosedLoop
from ...inference.linear.solvers.problem import DualProblem
from ...models import random_hmm
from ...models.linear_gaussian import TimeVaryingLinearGaussianModel
from ...report import figures
from ...report.words import Drawings, Findings, table
from ...transformer.gpt import GPT, GPTConfig
from .costs import in_turns, temporary, traced

KALMAN, PASS, SOLVE = "growing-state Kalman filter", "dual filter, one pass", "dual filter, solved"
HMM, BLOCK = "dual-filter layer of an HMM", "transformer layer"
ROLES = {KALMAN: "filter", PASS: "dual", SOLVE: "dual", HMM: "accent", BLOCK: "transformer"}
# what the theory says of time: exponents of the length and of the number of states (width); None: not one power
THEORY = {KALMAN: (3, 3), PASS: (2, 2), SOLVE: (2, None), HMM: (1, 2), BLOCK: (None, None)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Orders are fitted to the three largest sizes, where the cost of starting a kernel no longer counts. The Kalman
    filter goes up to where it takes seconds. A pass of the dual filter reads its operator of 8 d² T² bytes twice: its
    sizes are those at which that lies in memory, since on the way out of the caches time grows faster than bytes."""

    lengths: tuple[int, ...] = (64, 128, 256, 512)
    states: tuple[int, ...] = (4, 8, 16, 32)
    fixed_length: int = 96  # while the number of states grows
    pass_lengths: tuple[int, ...] = (256, 512, 1024, 2048)
    pass_states: tuple[int, ...] = (2, 4, 8, 16)
    pass_fixed_length: int = 512
    fixed_states: int = 4  # while the length grows
    layer_lengths: tuple[int, ...] = (256, 512, 1024, 2048)  # the two layers are cheap, and longer sequences show more
    layer_states: tuple[int, ...] = (16, 32, 64, 128)
    vocabularies: tuple[int, ...] = (4, 64, 1024)
    repeats: int = 9
    layer_repeats: int = 31  # a layer takes less than a millisecond


QUICK = Config(
    lengths=(32, 64, 128), states=(4, 8, 16), fixed_length=48, pass_lengths=(64, 128, 256), pass_states=(4, 8, 16),
    pass_fixed_length=64, layer_lengths=(128, 256, 512), layer_states=(16, 32, 64), vocabularies=(4, 256), repeats=7,
    layer_repeats=9,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cost:
    """All times of one method at one size, in seconds, and bytes of working memory."""

    times: list[float]
    bytes: int

    @property
    def seconds(self) -> float:
        """What counts."""
        return typical(self.times)


@dataclasses.dataclass(frozen=True)
class Order:
    """A fitted exponent with its 95 % interval, and sizes it was fitted to."""

    exponent: float
    low: float
    high: float
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.exponent:.2f} ({self.low:.2f} to {self.high:.2f})"


def run(config: Config, seed: int) -> Findings:
    """Time every method while the length grows and while the number of states grows."""
    costs: dict[str, dict[str, dict[int, Cost]]] = {"length": {}, "states": {}}
    passes = {}
    for size in config.lengths:
        collect(costs["length"], size, kalman_cost(size, config.fixed_states, config.repeats, seed))
    for size in config.states:
        collect(costs["states"], size, kalman_cost(config.fixed_length, size, config.repeats, seed))
    for size in config.pass_lengths:
        found, passes[str(size)] = dual_costs(size, config.fixed_states, config.repeats, seed)
        collect(costs["length"], size, found)
    for size in config.pass_states:
        found, _ = dual_costs(config.pass_fixed_length, size, config.repeats, seed)
        collect(costs["states"], size, {PASS: found[PASS]})
    for axis, sizes in (("length", config.layer_lengths), ("states", config.layer_states)):
        for size in sizes:
            T, d = (size, config.layer_states[0]) if axis == "length" else (config.layer_lengths[0], size)
            collect(costs[axis], size, layer_costs(T, d, 4, config.layer_repeats, seed))
    words = vocabulary_costs(config, seed)
    orders = {axis: {m: fit(by_size) for m, by_size in found.items()} for axis, found in costs.items()}
    return Findings(numbers(costs, orders, words, passes), drawings(costs, orders))


def collect(table: dict[str, dict[int, Cost]], size: int, found: dict[str, Cost]) -> None:
    """Add the costs of one size."""
    for method, cost in found.items():
        table.setdefault(method, {})[size] = cost


def fit(by_size: dict[int, Cost]) -> Order:
    """The slope at the three largest sizes, and its interval from resampling the runs of each size."""
    sizes = sorted(by_size)[-3:]
    slope = lambda seconds: float(np.polyfit(np.log(sizes), np.log([seconds[s] for s in sizes]), 1)[0])
    kept = {s: by_size[s] for s in sizes}
    return Order(slope({s: c.seconds for s, c in kept.items()}), *resampled(kept, slope), tuple(sizes))


def typical(times: Any) -> float:
    """The lower quartile: other work on the machine makes runs longer, never shorter."""
    return float(np.quantile(times, 0.25))


def resampled(
    by_size: dict[int, Cost], of: Callable[[dict[int, float]], float], draws: int = 400
) -> tuple[float, float]:
    """Central 95 % of a statistic of the times by size, over resampled runs."""
    rng = np.random.default_rng(0)
    draw = lambda: {s: typical(rng.choice(c.times, len(c.times))) for s, c in by_size.items()}
    low, high = np.quantile([of(draw()) for _ in range(draws)], [0.025, 0.975])
    return float(low), float(high)


def operator_model(T: int, d: int, seed: int) -> TimeVaryingLinearGaussianModel:
    """A dense lower-triangular transition operator whose terms fall with the lag, one channel."""
    rng = np.random.default_rng(seed)
    lag = np.subtract.outer(np.arange(T), np.arange(T))
    weight = np.where(lag >= 0, (1.0 + np.abs(lag)) ** -1.5, 0.0)
    A = 0.4 / np.sqrt(d) * rng.normal(size=(T, T, d, d)) * weight[:, :, None, None]
    return TimeVaryingLinearGaussianModel(np.zeros(d), np.eye(d), A, rng.normal(size=(1, d)), np.eye(d), np.eye(1))


def growing_kalman(model: TimeVaryingLinearGaussianModel, z: np.ndarray) -> np.ndarray:
    """Mean of `X_T` given all observations, with the joint law of all states carried along.

    Step t multiplies one block row `[d td]` by the covariance `[td td]`: O(d³ t²), in all O(d³ T³).
    """
    A, H, Q, R = (
        np.asarray(a) for a in (model.transition, model.observation, model.process_noise, model.observation_noise)
    )
    T, d = len(z), Q.shape[-1]
    P, x = np.zeros(((T + 1) * d,) * 2), np.zeros((T + 1) * d)
    P[:d, :d], x[:d] = model.initial_covariance, model.initial_mean
    for t in range(T):
        n, i = (t + 1) * d, t * d
        PH = P[:n, i:n] @ H.T
        gain = PH @ np.linalg.inv(H @ PH[i:n] + R)
        x[:n] += gain @ (z[t] - H @ x[i:n])
        P[:n, :n] -= gain @ PH.T
        row = A[t, : t + 1].transpose(1, 0, 2).reshape(d, n)
        B = row @ P[:n, :n]
        P[n : n + d, :n], P[:n, n : n + d], P[n : n + d, n : n + d] = B, B.T, B @ row.T + Q
        x[n : n + d] = row @ x[:n]
    return x[-d:]


def operator_problem(T: int, d: int, seed: int) -> tuple[TimeVaryingLinearGaussianModel, np.ndarray]:
    """The model and one series of observations."""
    model = operator_model(T, d, seed)
    return model, np.asarray(model.sample(jax.random.key(seed), T)[1])


def kalman_cost(T: int, d: int, repeats: int, seed: int) -> dict[str, Cost]:
    """Cost of the growing-state Kalman filter at one size."""
    model, z = operator_problem(T, d, seed)
    functions = {KALMAN: lambda: growing_kalman(model, z)}
    return {KALMAN: Cost(in_turns(functions, repeats)[KALMAN], traced(functions[KALMAN]))}


def dual_costs(T: int, d: int, repeats: int, seed: int) -> tuple[dict[str, Cost], int]:
    """Costs of one pass and of the whole solution of the dual filter at one size, and the passes of the solution."""
    model, z = operator_problem(T, d, seed)
    passes = DualProblem(model, jnp.ones((T, 1), bool), jnp.zeros((T + 1, d, 1))).passes()
    v = jnp.ones((T, 1, 1))
    one = jax.jit(lambda passes, v: passes(v)).lower(passes, v).compile()
    solve = lambda: dual_filter_series(model, z, solver=ClosedLoop(lags=8))
    functions = {
        PASS: lambda: jax.block_until_ready(one(passes, v)),
        SOLVE: lambda: jax.block_until_ready(solve().predicted.mean),
    }
    # the solver adds the vectors of the conjugate gradients
    memory = {PASS: temporary(one), SOLVE: temporary(one) + 6 * T * d * 8}
    times = in_turns(functions, repeats)
    return {m: Cost(t, memory[m]) for m, t in times.items()}, solve().layers


def layer_costs(T: int, d: int, V: int, repeats: int, seed: int) -> dict[str, Cost]:
    """Costs of one dual-filter layer and of one transformer layer of the same width."""
    dual, compiled = dual_layer(T, d, V, seed)
    block = GPT(GPTConfig(2, T, 1, 1, d), key=jax.random.key(seed)).block(0)
    x = jax.random.normal(jax.random.key(seed), (T, d), jnp.float32)
    other = jax.jit(lambda block, x: block(x)).lower(block, x).compile()
    times = in_turns({HMM: dual, BLOCK: lambda: jax.block_until_ready(other(block, x))}, repeats)
    memory = {HMM: temporary(compiled), BLOCK: temporary(other)}
    return {m: Cost(t, memory[m]) for m, t in times.items()}


def dual_layer(T: int, d: int, V: int, seed: int) -> tuple[Callable, Any]:
    """(call, compiled function) of one dual-filter layer on a random model."""
    hmm = random_hmm(jax.random.key(seed), d, V)
    tokens = jnp.asarray(np.random.default_rng(seed).integers(V, size=T))
    rho = jnp.full((T + 1, d), 1 / d)
    compiled = jax.jit(layer).lower(rho, *hmm.arrays, tokens).compile()
    return lambda: jax.block_until_ready(compiled(rho, *hmm.arrays, tokens)), compiled


def vocabulary_costs(config: Config, seed: int) -> dict[int, Cost]:
    """Costs of one dual-filter layer at the largest length for every size of the vocabulary, taken in turns."""
    calls = {V: dual_layer(config.layer_lengths[-1], config.layer_states[0], V, seed) for V in config.vocabularies}
    times = in_turns({str(V): call for V, (call, _) in calls.items()}, config.repeats)
    return {V: Cost(times[str(V)], temporary(compiled)) for V, (_, compiled) in calls.items()}


def spread(words: dict[int, Cost]) -> tuple[float, float]:
    """The 95 % interval of the time with the largest vocabulary over that with the smallest."""
    return resampled(words, lambda seconds: seconds[max(words)] / seconds[min(words)])


def drawings(costs: dict, orders: dict[str, dict[str, Order]]) -> Drawings:
    """Times against both sizes, and the tables of exponents and of memory."""
    groups = {"linear": (KALMAN, PASS, SOLVE), "layers": (HMM, BLOCK)}
    drawn = {
        f"{group} by {axis}": partial(
            figures.lines, curves=[curve(m, found[m]) for m in methods if m in found], log_x=True, log_y=True
        )
        for axis, found in costs.items()
        for group, methods in groups.items()
    }
    said = lambda m, axis: str(orders[axis][m]) if m in orders[axis] else "–"
    theory = lambda e: "–" if e is None else str(e)
    rows = [[m, said(m, "length"), theory(THEORY[m][0]), said(m, "states"), theory(THEORY[m][1])] for m in ROLES]
    memory = [
        [m, *(f"{costs['length'][m][s].bytes / 2**20:.3g}" for s in sorted(costs["length"][m])[-3:])] for m in ROLES
    ]
    return {**drawn, "exponents": table(rows), "memory": table(memory)}


def curve(method: str, by_size: dict[int, Cost]) -> figures.Line:
    """Time against size with its quartiles."""
    sizes = sorted(by_size)
    quartile = lambda q: [float(np.quantile(by_size[s].times, q)) for s in sizes]
    return figures.Line(method, sizes, quartile(0.25), ROLES[method], quartile(0.25), quartile(0.75))


def numbers(costs: dict, orders: dict, words: dict[int, Cost], passes: dict[str, int]) -> dict:
    """Everything measured, and the exponents of the theory, as JSON."""
    plain = lambda by_size: {
        str(s): dataclasses.asdict(c) | {"seconds": c.seconds, "mebibytes": c.bytes / 2**20} for s, c in by_size.items()
    }
    return {
        "costs": {axis: {m: plain(c) for m, c in found.items()} for axis, found in costs.items()},
        "exponents": {a: {m: dataclasses.asdict(o) for m, o in found.items()} for a, found in orders.items()},
        "by_vocabulary": plain(words),
        "largest_vocabulary_over_smallest": spread(words),
        "passes": passes,
        "fewest_passes": min(passes.values()),
        "most_passes": max(passes.values()),
        "theory": THEORY,
    }
