"""Slow twins and bounds that only tests use: exact matching of samples, coverings of a ball."""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment


def exact_wasserstein(a, b, p: int = 2) -> float:
    r"""$W_p^p$ between two samples `[n D]` of equal size by an optimal assignment, $O(n^3)$."""
    cost = np.linalg.norm(np.asarray(a)[:, None] - np.asarray(b)[None], axis=-1) ** p
    return float(cost[linear_sum_assignment(cost)].mean())


def log_covering_of_ball(dimension: int, radius: float, eta: float) -> float:
    r"""$\log\mathcal N(\eta)\le p\log(1+2R/\eta)$ for the Euclidean ball of radius $R$ in $\mathbb R^p$."""
    return dimension * math.log1p(2 * radius / eta)
