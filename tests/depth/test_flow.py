"""Toy flows: the network is the Euler scheme of the flow, of order one, and transports the law of its states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steerax import ConfigurationError
from steerax.depth.measure import transport
from steerax.depth.theory.field import LinearField, TransformerField
from steerax.depth.theory.flow import (
    CosineControl,
    Flow,
    euler,
    exact,
    fitted_order,
    gronwall_log10,
    pathwise_error,
)

FIELDS = {
    "causal": TransformerField(3, 4),
    "all-to-all": TransformerField(3, 4, causal=False),
    "normalised": TransformerField(3, 4, normalise=True, epsilon=0.1),
}


def toy_flow(field, key, profile=jnp.ones_like):
    return Flow(field, CosineControl(0.7 * jax.random.normal(key, (3, field.size))), profile)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["causal", *(pytest.param(n, marks=pytest.mark.slow) for n in ("all-to-all", "normalised"))]
)
def test_pathwise_error_is_of_order_one(name, key):
    flow = toy_flow(FIELDS[name], key, lambda t: 1 + 0.5 * jnp.sin(3 * t))
    X = jax.random.normal(jax.random.key(1), (5, 4, 3))
    found = pathwise_error(flow, X)
    assert abs(found.order - 1) < 0.05
    # Grönwall's constant is an upper bound of the measured one, and how loose it is has no bound
    assert gronwall_log10(flow, X) > np.log10(found.constant)


def test_the_reference_flow_is_the_matrix_exponential_of_a_linear_field(key):
    from scipy.linalg import expm

    A = jax.random.normal(key, (3, 3))
    flow = Flow(LinearField(A), lambda t: jnp.zeros(3))
    X = jax.random.normal(jax.random.key(1), (2, 3))
    times = jnp.asarray([0.0, 0.3, 1.0])
    for t, found in zip(times, exact(flow, X, times), strict=True):
        np.testing.assert_allclose(found, X @ expm(np.asarray(A * t)).T, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(euler(flow, X, 5)[-1], X @ np.linalg.matrix_power(np.eye(3) + A / 5, 5).T, rtol=1e-12)


def test_a_causal_token_does_not_see_later_ones(key):
    flow = toy_flow(FIELDS["causal"], key)
    X = jax.random.normal(jax.random.key(1), (4, 3))
    changed = X.at[2].add(1.0)
    np.testing.assert_array_equal(euler(flow, X, 6)[-1][:2], euler(flow, changed, 6)[-1][:2])
    assert (euler(flow, X, 6)[-1][3] != euler(flow, changed, 6)[-1][3]).all()


def test_tokens_without_order_form_a_law(key):
    flow = toy_flow(FIELDS["all-to-all"], key)
    X = jax.random.normal(jax.random.key(1), (4, 3))
    np.testing.assert_allclose(euler(flow, X[::-1], 6)[-1], euler(flow, X, 6)[-1][::-1], rtol=1e-12)


@pytest.mark.slow
def test_continuity_residual_is_first_order_and_exact_for_quadratics(key):
    flow = toy_flow(FIELDS["normalised"], key)
    X = jax.random.normal(jax.random.key(1), (8, 4, 3))
    bump = lambda X: jnp.exp(-0.5 * (X**2).sum()) + jnp.sin(X).sum()
    half_square = lambda X: 0.5 * (X**2).sum()
    layers, sizes = (16, 32, 64, 128), []
    for L in layers:
        states = jax.vmap(lambda X, L=L: euler(flow, X, L), out_axes=1)(X)
        sizes.append(float(jnp.abs(transport.continuity_residual(states, bump)).max()))
        v = L * jnp.diff(states, axis=0)
        np.testing.assert_allclose(
            transport.continuity_residual(states, half_square), (v**2).sum((-1, -2)).mean(1) / (2 * L), rtol=1e-9
        )
    assert abs(fitted_order(layers, sizes).order - 1) < 0.05


def test_shares_of_motion():
    # two steps of four tokens: a common shift, then a doubling of every token
    x = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    shift = jnp.broadcast_to(jnp.asarray([0.0, 3.0]), x.shape)
    np.testing.assert_allclose(transport.kinetic_energy(jnp.stack([x, x + shift])), [9.0])
    np.testing.assert_allclose(transport.mean_shift_share(jnp.stack([x, x + shift, 2 * (x + shift)]))[0], 1.0)
    np.testing.assert_allclose(transport.mean_shift_share(jnp.stack([x, 2 * x])), [0.0], atol=1e-15)
    np.testing.assert_allclose(transport.radial_share(jnp.stack([x, 2 * x])), [1.0])
    np.testing.assert_allclose(transport.radial_share(jnp.stack([x, x + shift])), [0.5])


def test_sliced_path_sees_a_real_shift_and_not_a_shuffle(key):
    x = jax.random.normal(key, (400, 5))
    moved = jnp.stack([x, x[::-1], x[::-1] + 1.0])
    path, floor = transport.sliced_path(moved, jax.random.key(3))
    assert path[0] < 3 * floor.max()
    assert path[1] > 20 * floor.max()
    assert abs(path[1] - 5) < 1.5


@pytest.mark.parametrize(
    "call",
    [
        lambda f, X: euler(f, X[0], 0),
        lambda f, X: pathwise_error(f, X, (3, 4, 8)),
        lambda f, X: fitted_order((1, 2), (0.1, 0.05)),
        lambda f, X: fitted_order((1, 2, 4), (0.1, 0.0, 0.1)),
    ],
)
def test_rejects_depths_that_cannot_be_compared(call, key):
    with pytest.raises(ConfigurationError):
        call(toy_flow(FIELDS["causal"], key), jnp.zeros((2, 4, 3)))
