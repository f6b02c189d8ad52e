"""Pontryagin's condition on toys: costates are gradients, the Hamiltonian is conserved, optimal values converge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from depth_oracles import continuous_costates

import steerax as sx
from steerax.depth.theory import control as c
from steerax.depth.theory import hamiltonian as h
from steerax.depth.theory.field import LinearField, TransformerField
from steerax.depth.theory.flow import CosineControl, fitted_order

RESULTS = sx.RESULTS


def regression(X, y):
    return 0.5 * ((X - y) ** 2).sum()


def softmax_readout(X, y):
    return jax.nn.logsumexp(X[-1]) - X[-1] @ y


def lq_problem(key, decay=0.5):
    a, x, y = jax.random.split(key, 3)
    A = 0.8 * jax.random.normal(a, (2, 2))
    X, targets = jax.random.normal(x, (6, 1, 2)), 2 + jax.random.normal(y, (6, 1, 2))
    return c.ControlProblem(LinearField(A), X, targets, regression, decay)


def transformer_problem(key, **regularisers):
    x, y = jax.random.split(key)
    labels = jax.nn.one_hot(jax.random.randint(y, (4,), 0, 2), 2)
    return c.ControlProblem(
        TransformerField(2, 1), jax.random.normal(x, (4, 3, 2)), labels, softmax_readout, **regularisers
    )


def lq_optimum(problem):
    """inf J and the optimal control of the linear-quadratic problem, in closed form.

    Only the mean state is controlled: with r = e^A x̄ - ȳ and the Gramian W, θ(t) = -e^{Aᵀ(1-t)} (λ + W)^{-1} r.
    """
    from scipy.integrate import quad_vec
    from scipy.linalg import expm

    A, lam = np.asarray(problem.field.A), problem.decay
    X, y = np.asarray(problem.X)[:, 0], np.asarray(problem.y)[:, 0]
    W = quad_vec(lambda s: expm(A * s) @ expm(A.T * s), 0, 1, epsabs=1e-13)[0]
    ends = X @ expm(A).T - y
    r = ends.mean(0)
    v = np.linalg.solve(lam * np.eye(2) + W, r)
    spread = 0.5 * ((ends - r) ** 2).sum(1).mean()
    return spread + 0.5 * lam * r @ v, lambda t: -expm(A.T * (1 - t)) @ v


def test_stationarity_is_the_layer_gradient_times_depth(key):
    problem = transformer_problem(key, decay=0.3, smoothness=0.02, motion=0.4)
    theta = 0.5 * jax.random.normal(key, (5, problem.field.size))
    gradient = jax.grad(lambda th: c.objective(problem, th))(theta)
    np.testing.assert_allclose(h.stationarity(problem, theta), 5 * gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_costates_are_gradients_in_the_state(key):
    problem = transformer_problem(key, motion=0.4)
    theta = 0.5 * jax.random.normal(key, (4, problem.field.size))
    P = c.costates(problem, theta)

    def rest(X, l):  # what the remaining network makes of a state
        moved = 0.0
        for k in range(l, 4):
            v = problem.velocity(k / 4, X, theta[k])
            X, moved = X + v / 4, moved + (v**2).sum() / len(X) / 4
        return problem.terminal(X) + problem.motion / 2 * moved

    X = c.states(problem, theta)
    for l in range(5):
        np.testing.assert_allclose(P[l], jax.grad(rest)(X[l], l), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_discrete_costates_converge_to_the_continuous_ones(key):
    problem = transformer_problem(key, motion=0.3)
    control = CosineControl(0.7 * jax.random.normal(key, (3, problem.field.size)))
    layers, errors = (128, 256, 512), []
    reference = continuous_costates(problem, control, jnp.linspace(0, 1, 513))
    for L in layers:
        P = c.costates(problem, jax.vmap(control)(problem.times(L)))
        errors.append(float(jnp.abs(P - reference[:: 512 // L]).max()))
    assert abs(fitted_order(layers, errors).order - 1) < 0.05


@pytest.mark.slow
def test_lq_optimum_matches_the_closed_form_and_conserves_the_hamiltonian(key):
    problem = lq_problem(key)
    value, optimal = lq_optimum(problem)
    layers, drift, gap = (8, 16, 32), [], []
    for L in layers:
        solution = c.optimal_control(problem, L)
        assert solution.result == RESULTS.successful
        assert solution.statistics["steps"] <= 2  # Newton on a quadratic
        H = np.asarray(h.conserved(problem, solution.value))
        drift.append(np.ptp(H))
        gap.append(np.abs(solution.value - np.stack([optimal(l / L) for l in range(L)])).max())
    assert abs(fitted_order(layers, drift).order - 1) < 0.1
    assert abs(fitted_order(layers, gap).order - 1) < 0.1
    values = c.optimal_values(problem, layers, limit=value)
    assert abs(values.convergence.order - 1) < 0.05


@pytest.mark.slow
def test_with_smoothness_the_corrected_hamiltonian_is_conserved_and_the_plain_one_is_not(key):
    problem = transformer_problem(key, decay=0.05, smoothness=0.05)
    start = 0.3 * jnp.ones((8, problem.field.size))
    layers, drift = (8, 16, 32), []
    for L in layers:
        solution = c.optimal_control(problem, L, start[np.arange(L) * start.shape[0] // L])
        assert solution.result == RESULTS.successful
        start = solution.value
        drift.append(float(np.ptp(h.conserved(problem, start)[1:-1])))
    plain = float(np.ptp(h.along_depth(problem, start)))
    assert drift[-1] < 0.2 * plain
    assert fitted_order(layers, drift).order > 0.9


@pytest.mark.slow
def test_optimal_values_extrapolate_and_cell_averages_recover_them(key):
    problem = transformer_problem(key, decay=0.4)
    found = c.optimal_values(problem, (8, 16, 32, 48, 64))
    assert abs(found.convergence.order - 1) < 0.1
    deep = c.optimal_control(problem, 64, 0.1 * jnp.ones((64, problem.field.size))).value
    J = c.objective(problem, deep)
    gaps = [abs(float(c.objective(problem, c.cell_averages(deep, L)) - J)) for L in (8, 16, 32)]
    # |J^ε(averages) - J^{1/64}| = C (ε - 1/64): order one in ε - 1/64
    slope = np.polyfit(np.log([1 / L - 1 / 64 for L in (8, 16, 32)]), np.log(gaps), 1)[0]
    assert abs(slope - 1) < 0.1


@pytest.mark.slow
def test_range_estimates_hold_at_an_optimum_and_say_how_loose_they_are(key):
    problem = transformer_problem(key, decay=0.2)
    theta = c.optimal_control(problem, 8, 0.1 * jnp.ones((8, problem.field.size))).value
    estimate = h.range_estimate(problem, theta)
    assert 0 < estimate.energy <= estimate.energy_bound
    assert (estimate.pointwise <= estimate.pointwise_bound).all()
    overall, each = estimate.looseness
    assert overall >= 1
    assert (each >= 1).all()


@pytest.mark.slow
def test_the_trust_region_finds_no_gap_at_an_optimum_of_a_convex_hamiltonian(key):
    problem = lq_problem(key)
    theta = c.optimal_control(problem, 8).value
    assert float(jnp.abs(h.trust_region_gap(problem, theta, 1.0)).max()) < 1e-12
    away = theta.at[3].add(0.3)
    # H_3 is quadratic: its minimum lies at -ΣP_4/λ, inside the ball, and the gap is λ/2 times the squared distance
    lowest = -c.costates(problem, away)[4].sum((0, 1)) / problem.decay
    exact = 0.5 * problem.decay * float(((away[3] - lowest) ** 2).sum())
    np.testing.assert_allclose(h.trust_region_gap(problem, away, 1.0)[3], exact, rtol=1e-10)
    assert float(h.trust_region_gap(problem, away, 0.01)[3]) < 0.5 * exact


def test_rejects_shapes_that_do_not_fit(key):
    problem = lq_problem(key)
    with pytest.raises(sx.ConfigurationError, match="shape"):
        c.optimal_control(problem, 4, jnp.zeros((3, 2)))
    with pytest.raises(sx.ConfigurationError, match="cells"):
        c.cell_averages(jnp.zeros((8, 2)), 3)
