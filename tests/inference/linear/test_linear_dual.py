"""Every solver of the dual filter against dense conditioning, and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_oracles import (
    condition,
    extended_kalman,
    joint_distribution,
    random_model,
    random_operator,
    spectral_radius,
    with_radius,
)

import steerax as sx
from steerax.inference.linear.solvers.closed_loop import stable_residual
from steerax.inference.linear.solvers.problem import DualProblem

T = 24


SOLVERS = sx.solvers


def problem(model, n):
    return DualProblem(model, jnp.ones((n, model.n_channels), bool), jnp.zeros((n + 1, model.n_states, 1)))


@pytest.mark.parametrize("kind", ["taps", "operator"])
def test_duality_for_arbitrary_controls(kind):
    # E |f'X_T - S|² computed from the joint distribution equals the cost of the costate trajectory, for any control
    model = random_model(1, d=2, p=2, order=4) if kind == "taps" else random_operator(1, 10, 2, 2)
    n = 10
    rng = np.random.default_rng(0)
    u, f = jnp.asarray(rng.normal(size=(n, 2, 1))), jnp.asarray(rng.normal(size=(2, 1)))
    passes = problem(model, n).passes()
    y, u = passes.backward(u, jnp.zeros((n + 1, 2, 1)).at[n].set(f))
    _, cov_X, _, cov_Z, cross = joint_distribution(model, n)
    w, last = np.asarray(u).reshape(-1), slice(n * 2, n * 2 + 2)
    error = f[:, 0] @ cov_X[last, last] @ f[:, 0] + 2 * f[:, 0] @ cross[last] @ w + w @ cov_Z @ w
    np.testing.assert_allclose(problem(model, n).cost(y, u)[0, 0], error, rtol=1e-12)


@pytest.mark.parametrize("kind", ["taps", "operator"])
def test_the_gradient_map_is_the_covariance_of_the_observations(kind):
    model = random_model(2, d=2, p=2, order=4) if kind == "taps" else random_operator(2, 8, 2, 2)
    n = 8
    units = jnp.eye(n * 2).reshape(n, 2, n * 2)
    image = problem(model, n).passes()(units).reshape(n * 2, n * 2)
    np.testing.assert_allclose(image, joint_distribution(model, n)[3], atol=1e-12)


@pytest.mark.parametrize("solver", [SOLVERS.OpenLoop(), SOLVERS.ClosedLoop(lags=3), SOLVERS.Direct(lags=3)])
@pytest.mark.parametrize(("order", "radius"), [(1, 0.9), (4, 1.0), (4, 1.1), (T, 0.95)])
def test_solvers_equal_dense_conditioning(solver, order, radius, key):
    model = random_model(order, d=2, p=2, order=order, radius=radius, offset=True)
    z = np.asarray(model.sample(key, T)[1])
    g = sx.dual_filter(model, z, solver=solver)
    mean, covariance = condition(model, z, T)
    assert g.result == sx.RESULTS.successful
    np.testing.assert_allclose(g.predicted.mean, mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(g.predicted.covariance, covariance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        g.prior - jnp.einsum("tpk,tp->k", g.controls, z - model.observation_offset[None]), g.predicted.mean
    )


@pytest.mark.parametrize("solver", [SOLVERS.ClosedLoop(lags=3), SOLVERS.Direct(lags=3)])
def test_operators_and_gaps_equal_dense_conditioning(solver, key):
    model = random_operator(3, T, d=2, p=2)
    z = np.array(model.sample(key, T)[1])
    z[4, 0], z[10:13] = np.nan, np.nan
    g = sx.dual_filter(model, z, solver=solver)
    mean, covariance = condition(model, z, T)
    assert g.result == sx.RESULTS.successful
    np.testing.assert_allclose(g.predicted.mean, mean, atol=1e-11)
    np.testing.assert_allclose(g.predicted.covariance, covariance, atol=1e-11)


@pytest.mark.parametrize("solver", [SOLVERS.Schur(), SOLVERS.ClosedLoop(lags=2)])
def test_all_predictions_equal_the_kalman_filter(solver, key):
    model = random_model(3, d=3, p=2, order=3, offset=True)
    z = np.asarray(model.sample(key, T)[1])
    g = sx.dual_filter(model, z, queries="all", solver=solver)
    k = sx.filter(model, z)
    np.testing.assert_allclose(g.predicted.mean, k.predicted.mean, atol=1e-11)
    np.testing.assert_allclose(g.predicted.covariance, k.predicted.covariance, atol=1e-11)
    if solver == SOLVERS.Schur():
        np.testing.assert_allclose(g.log_likelihood, k.log_likelihood, rtol=1e-12)


def test_plain_layers_diverge_and_say_so_and_converge_when_the_noise_dominates(key):
    model = random_model(1, d=3, p=2, order=6)
    z = np.asarray(model.sample(key, 30)[1])
    g = sx.dual_filter(model, z, solver=SOLVERS.Picard())
    assert g.result == sx.RESULTS.diverged
    assert g.spectral_radius > 1
    quiet = sx.LinearGaussianModel(
        model.initial_mean,
        model.initial_covariance,
        model.transition,
        model.observation,
        model.process_noise,
        40 * g.spectral_radius * model.observation_noise,
    )
    g = sx.dual_filter(quiet, z, solver=SOLVERS.Picard())
    assert g.result == sx.RESULTS.successful
    assert g.spectral_radius < 1
    np.testing.assert_allclose(g.predicted.mean, condition(quiet, z, 30)[0], atol=1e-10)


def unstable_model(radius, order=6):
    rng = np.random.default_rng(11)
    taps = with_radius(rng.normal(size=(order, 2, 2)) * 0.35, radius)
    return sx.LinearGaussianModel(np.zeros(2), np.eye(2), taps, rng.normal(size=(1, 2)), np.eye(2), np.eye(1))


@pytest.mark.slow
def test_where_plain_conjugate_gradients_report_false_convergence_the_result_is_named_or_right(key):
    model, n = unstable_model(1.06), 300
    z = np.asarray(model.sample(key, n)[1])
    right = sx.dual_filter(model, z)
    assert right.result == sx.RESULTS.successful
    assert right.layers <= 15
    k = sx.filter(model, z)
    np.testing.assert_allclose(right.predicted.mean, k.predicted.mean[-1], rtol=1e-9)
    np.testing.assert_allclose(right.predicted.covariance, k.predicted.covariance[-1], rtol=1e-9)
    plain = sx.dual_filter(model, z, solver=SOLVERS.OpenLoop())
    wrong = float(jnp.abs(plain.predicted.mean / k.predicted.mean[-1] - 1).max())
    assert wrong < 1e-6 or plain.result != sx.RESULTS.successful


def test_unstable_models_equal_a_filter_in_extended_precision(key):
    model = unstable_model(1.1)
    z = np.asarray(model.sample(key, 60)[1])
    mean, covariance = extended_kalman(model, z)
    g = sx.dual_filter(model, z, solver=SOLVERS.ClosedLoop(lags=2))
    np.testing.assert_allclose(g.predicted.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(g.predicted.covariance, covariance, rtol=1e-9)


def test_an_invisible_unstable_mode_is_named_and_the_answer_still_holds(key):
    A = [np.diag([1.02, 0.9])]
    model = sx.LinearGaussianModel(np.zeros(2), np.eye(2), A, [[0.0, 1.0]], np.eye(2), [[1.0]])
    z = np.asarray(model.sample(key, 100)[1])
    g = sx.dual_filter(model, z)
    assert g.result == sx.RESULTS.undetectable
    np.testing.assert_allclose(g.predicted.covariance, condition(model, z, 100)[1], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_the_choice_is_explained(key):
    small = random_model(0, d=2)
    z = np.array(small.sample(key, 200)[1])
    assert sx.dual_filter(small, z[:30]).solver == "Direct"
    assert sx.dual_filter(small, z).solver == "ClosedLoop"
    assert sx.dual_filter(small, z, queries="all").solver == "Schur"
    long_memory = random_model(0, d=2, order=40)
    g = sx.dual_filter(long_memory, z)
    assert g.solver == "OpenLoop"
    assert "time-invariant" in g.reason
    z[5] = np.nan
    g = sx.dual_filter(long_memory, z)
    assert (g.solver, g.reason) == ("ClosedLoop", "observations are missing")


@pytest.mark.slow
@pytest.mark.parametrize("queries", ["last", "all"])
def test_several_sequences_equal_one_at_a_time(queries, key):
    model = random_model(4, d=2, p=1, order=3, offset=True)
    parts = [np.array(z) for z in jax.vmap(lambda k: model.sample(k, 12)[1])(jax.random.split(key, 4))]
    parts[2][4] = np.nan
    parts[3] = parts[3][:9]
    several = sx.dual_filter(model, sx.Sequences.from_arrays(parts), queries)
    assert several.result == sx.RESULTS.successful
    assert several.reason.count("observations are missing") == 1
    for i, z in enumerate(parts):
        mean, covariance = condition(model, z, len(z))
        at = (i, len(z)) if queries == "all" else i
        np.testing.assert_allclose(several.predicted.mean[at], mean, atol=1e-11)
        np.testing.assert_allclose(several.predicted.covariance[at], covariance, atol=1e-11)


def test_conjugate_gradients_that_cannot_start_say_so_and_answer_without_the_data(key):
    model = random_model(2, d=2, p=1, radius=1.4)
    z = np.asarray(model.sample(key, 200)[1])
    g = sx.dual_filter(model, z, solver=SOLVERS.OpenLoop())
    assert g.result == sx.RESULTS.breakdown
    assert g.residuals[-1] > 0.99  # a whole standard deviation
    mean_X, cov_X, *_ = joint_distribution(model, 200)
    np.testing.assert_allclose(g.predicted.mean, mean_X[-2:], rtol=1e-9)
    np.testing.assert_allclose(g.predicted.covariance, cov_X[-2:, -2:], rtol=1e-9)


def test_spectral_radius_of_the_fixture_is_what_it_says():
    assert spectral_radius(np.asarray(unstable_model(1.06).transition)) == pytest.approx(1.06)


def test_dual_filter_rejects_what_cannot_work():
    model = random_model(0)
    z = np.zeros((10, 1))
    gap = z.copy()
    gap[3] = np.nan
    for arguments, message in [
        ({"solver": "newton"}, "newton"),
        ({"queries": "some"}, "some"),
        ({"solver": SOLVERS.Schur()}, "queries='all'"),
        ({"solver": SOLVERS.OpenLoop(), "queries": "all"}, "answers"),
        ({"solver": SOLVERS.ClosedLoop(tolerance=-1.0)}, "above 0"),
        ({"solver": SOLVERS.Direct(lags=0)}, "lags"),
        ({"method": "cg"}, "no option 'method'"),
        ({"target": "weather"}, "weather"),
    ]:
        with pytest.raises(sx.ConfigurationError, match=message):
            sx.dual_filter(model, z, **arguments)
    with pytest.raises(sx.ConfigurationError, match="complete"):
        sx.dual_filter(model, gap, solver=SOLVERS.OpenLoop())
    with pytest.raises(sx.DataError, match="target"):
        sx.dual_filter(model, z, target=np.zeros((3, 1)))
    with pytest.raises(sx.DataError, match="operator describes 5"):
        sx.dual_filter(random_operator(0, 5, 2, 1), z)


def test_the_residual_is_the_excess_cost_also_on_an_unstable_process():
    # with the feedback of all taps J(u) - J* = gᵀS⁻¹g for any control, where the open loop has long lost all digits
    model, n = unstable_model(1.1, order=2), 100
    source = jnp.zeros((n + 1, 2, 1)).at[n].set(jnp.asarray([[1.0], [-0.5]]))
    task = DualProblem(model, jnp.ones((n, 1), bool), source)
    best = SOLVERS.ClosedLoop(lags=2).solve(task)
    assert float(stable_residual(task, best.u, 2)[0]) < 1e-6
    u = best.u.at[-3:].multiply(1.0001)
    y, u = task.passes().backward(u, source)
    J = float(task.cost(y, u)[0, 0])
    np.testing.assert_allclose(float(stable_residual(task, u, 2)[0]) ** 2, 1 - float(best.J[0, 0]) / J, rtol=1e-9)
