"""Distances between samples: closed forms, enumeration of matchings, and limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from maths_oracles import exact_wasserstein

from steerax.maths import wasserstein as w


def test_on_a_line_sorting_is_the_best_of_all_matchings(key):
    a, b = jax.random.normal(key, (2, 5))
    best = min(np.mean(np.abs(np.asarray(a) - np.asarray(b)[list(s)]) ** 2) for s in itertools.permutations(range(5)))
    np.testing.assert_allclose(w.wasserstein_on_line(a, b), best, rtol=1e-14)


def test_exact_distance_is_the_best_of_all_matchings(key):
    a, b = np.asarray(jax.random.normal(key, (2, 6, 3)))
    each = [np.mean(np.linalg.norm(a - b[list(s)], axis=1)) for s in itertools.permutations(range(6))]
    np.testing.assert_allclose(exact_wasserstein(a, b, p=1), min(each), rtol=1e-14)


def test_a_translation_costs_its_squared_length(key):
    a = jax.random.normal(key, (200, 4))
    m = jnp.asarray([1.0, -2.0, 0.5, 3.0])
    theta = w.directions(jax.random.key(1), 4000, 4)
    value, error = w.sliced_wasserstein(a, a + jnp.broadcast_to(m, a.shape), theta)
    assert abs(value - (m**2).sum()) < 4 * error
    np.testing.assert_allclose(exact_wasserstein(a, a + m[None]), (m**2).sum(), rtol=1e-12)


def test_sliced_is_below_exact_times_dimension_and_zero_on_the_diagonal(key):
    a, b = jax.random.normal(key, (2, 50, 3))
    theta = w.directions(jax.random.key(2), 500, 3)
    np.testing.assert_allclose(jnp.linalg.norm(theta, axis=0), 1.0, rtol=1e-14)
    assert w.sliced_wasserstein(a, a[::-1], theta)[0] == 0
    assert w.sliced_wasserstein(a, b, theta)[0] <= 3 * exact_wasserstein(a, b)
