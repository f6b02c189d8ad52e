"""The distribution of the hidden states follows a transport equation, up to first order in the step."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ...depth.measure.transport import continuity_residual
from ...depth.theory.field import TransformerField
from ...depth.theory.flow import CosineControl, Flow, euler, fitted_order
from ...report import figures
from ...report.words import Findings


@dataclasses.dataclass(frozen=True)
class Config:
    """An ensemble of sequences stands for the distribution; three test functions, one of them with an exact answer."""

    width: int = 4
    hidden: int = 6
    tokens: int = 5
    ensemble: int = 64
    depths: tuple[int, ...] = (16, 32, 64, 128, 256)


QUICK = Config(depths=(16, 32, 64), ensemble=16)


def residuals_of(config: Config, seed: int) -> tuple[dict[str, list[float]], float]:
    """Largest weak residual by test function and depth, and how far that of half the square is from its closed form."""
    keys = jax.random.split(jax.random.key(seed))
    field = TransformerField(config.width, config.hidden, normalise=True, epsilon=0.1)
    flow = Flow(field, CosineControl(0.7 * jax.random.normal(keys[0], (3, field.size))))
    X0 = jax.random.normal(keys[1], (config.ensemble, config.tokens, config.width))
    functions = {
        "bump": lambda X: jnp.exp(-0.5 * (X**2).sum() / X.size),
        "sine": lambda X: jnp.sin(X).sum(),
        "half the square": lambda X: 0.5 * (X**2).sum(),
    }
    residuals: dict[str, list[float]] = {name: [] for name in functions}
    exact = 0.0
    for depth in config.depths:
        X = jax.jit(jax.vmap(lambda X, L=depth: euler(flow, X, L), out_axes=1))(X0)
        for name, phi in functions.items():
            found = np.asarray(continuity_residual(X, phi))
            residuals[name].append(float(np.abs(found).max()))
            if name == "half the square":
                energy = np.asarray((jnp.diff(X, axis=0) ** 2).sum((-1, -2)).mean(1)) * depth / 2
                exact = max(exact, float(np.abs(found / energy - 1).max()))
    return residuals, exact


def run(config: Config, seed: int) -> Findings:
    """The weak residual of the continuity equation at every depth."""
    residuals, exact = residuals_of(config, seed)
    orders = {name: fitted_order(config.depths, values).order for name, values in residuals.items()}
    numbers = {
        "depths": list(config.depths),
        "residuals": residuals,
        "orders": orders,
        "largest_distance_of_an_order_from_1": max(abs(order - 1) for order in orders.values()),
        "difference_for_half_the_square": exact,
    }
    curves = [
        figures.Line(name, 1 / np.array(config.depths), values, role)
        for (name, values), role in zip(residuals.items(), ("filter", "dual", "transformer"), strict=True)
    ]
    return Findings(numbers, {"residual": partial(figures.lines, curves=curves, log_x=True, log_y=True)})
