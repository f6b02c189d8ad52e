"""Slower ways to the numbers of the depth room."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from steerax.depth.theory.control import ControlProblem


def continuous_costates(
    problem: ControlProblem, control: Callable[[Array], Array], times: Float[Array, " k"], tolerance: float = 1e-10
) -> Float[Array, "k B n D"]:
    r"""The costates of the limit, $\dot P=-\partial_XH(t,X,P,\theta(t))$ with $P(1)=\nabla_X$ of the mean loss.

    `control` is smooth in depth; `times` increase in [0, 1]. State and costate are integrated together backwards from
    the end of an adaptive forward solve.
    """

    def solve(rate, t0, t1, y, ts):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(rate),
            diffrax.Tsit5(),
            t0,
            t1,
            None,
            y,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=100_000,
        ).ys

    def forward(t, X, args):
        return problem.velocity(t, X, control(t))

    def backward(t, XP, args):
        X, P = XP
        return forward(t, X, args), -jax.grad(problem.hamiltonian, 1)(t, X, P, control(t))

    end = jnp.asarray(solve(forward, 0.0, 1.0, problem.X, jnp.ones(1, times.dtype)))[0]
    found: Any = solve(backward, 1.0, 0.0, (end, jax.grad(problem.terminal)(end)), times[::-1])
    return found[1][::-1]
