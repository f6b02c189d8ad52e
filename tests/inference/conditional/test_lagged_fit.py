"""Learning models of lags: expected counts over all paths, an ascent that never falls, the attention found, select."""

import concurrent.futures
import itertools

import conditional_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.inference.conditional.kernels import em
from steerax.inference.conditional.select import n_parameters

QUICK = {"progress": False, "restarts": 1}


def counted(model, parts):
    data = sx.Sequences.from_arrays(parts)
    n = model.emission.shape[0] if model.emission_reads_tokens else 0
    contexts = em.contexts_of(data.values.T.astype(np.int32), data.lengths, model.n_lags, n, float)
    return em.expected_counts(model, contexts), contexts


@pytest.mark.slow
@pytest.mark.parametrize("lags", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_expected_counts_are_parameters_times_slopes_of_the_likelihood(lags):
    rng = np.random.default_rng(lags)
    model = oracles.lagged(rng, 3, 2, 3, True, lags, 0.2)
    parts = [np.array(sx.sample(model, n, T)[1]) for n, T in enumerate((7, 4, 1))]
    parts[0][2] = -1
    found, _ = counted(model, [*parts, np.zeros(0, int)])

    def log_likelihood(mu, A, E):  # the last transition of a sequence is not seen, and so not counted
        total = 0.0
        for part in parts:
            one = em.replaced(model, {"initial": mu, "transition": A, "emission": E})
            last = em.replaced(one, {"transition": model.transition})
            K = jnp.concatenate([one.kernels(part)[:-1], last.kernels(part)[-1:]])
            p = mu
            for c, K_t in zip(one.emitted(part), K, strict=True):
                p = (p * c) @ K_t
            total += jnp.log(p.sum())
        return total

    rows = model.initial, model.transition, model.emission
    value, slopes = jax.value_and_grad(log_likelihood, (0, 1, 2))(*rows)
    np.testing.assert_allclose(found.log_likelihood, value, rtol=1e-12)
    for name, row, slope in zip(("initial", "transition", "emission"), rows, slopes, strict=True):
        np.testing.assert_allclose(getattr(found, name), row * slope, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(found.initial.sum(), 3)
    np.testing.assert_allclose(found.transition.sum(), sum(len(part) - 1 for part in parts))
    np.testing.assert_allclose(found.shares.sum(), found.transition.sum())
    np.testing.assert_allclose(found.emission.sum(), sum((part >= 0).sum() for part in parts))


def test_counts_of_one_lag_are_sums_over_all_paths():
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 2, 2, 1, False)
    z = np.array([0, 1, 1, 0, 1], np.int32)
    found, _ = counted(model, [z])
    K, C = (np.asarray(a, float) for a in oracles.steps_by_hand(model, z))
    pairs = np.zeros((2, 2, 2))
    total = 0.0
    for path in np.ndindex(*(2,) * 5):
        p = float(model.initial[path[0]] * np.prod([C[t][path[t], z[t]] for t in range(5)]))
        p *= float(np.prod([K[t][path[t], path[t + 1]] for t in range(4)]))
        total += p
        for t in range(4):
            pairs[z[t], path[t], path[t + 1]] += p
    np.testing.assert_allclose(found.transition[0], pairs / total, atol=1e-12)


def counts_by_paths(model, z):
    """Counts of `transition` and `emission` from the posterior of every path: each lag, and where a step reads means each token, takes
    its share of a step."""
    a, V, T = np.asarray, model.n_tokens, len(z)
    given = lambda w, scores: (a(w), None if scores is None else a(scores))
    steps = oracles.steps_by_hand(model, z)
    K, C = (np.array(part, float) for part in steps)
    A, E = a(model.transition), a(model.emission)
    tables = [
        (A, *given(model.weights, model.attention)),
        (E, *given(model.emission_weights, model.emission_attention)),
    ]

    def add(counts, table, w, scores, codes, entry, p, whole):
        weights = oracles.weights_by_hand(w, scores, codes)
        for j, v in np.ndindex(len(w), V):
            blank = w[j] / V if weights is None else float(weights[j]) * (codes[j] == v)
            counts[(j, v, *entry)] += p * blank * table[(j, v, *entry)] / whole

    moved, emitted, total = np.zeros(A.shape), np.zeros(E.shape), 0.0
    for path in itertools.product(range(model.n_states), repeat=T):
        p = float(a(model.initial)[path[0]])
        p *= np.prod([C[t][path[t], z[t]] if z[t] >= 0 else 1 for t in range(T)])
        p *= np.prod([K[t][path[t], path[t + 1]] for t in range(T - 1)])
        total += p
        for t in range(T - 1):
            codes, entry = oracles.at_lags(z, t, model.n_lags), path[t : t + 2]
            add(moved, *tables[0], codes, entry, p, K[t][entry])
        for t in range(T):
            codes = oracles.at_lags(z, t - 1, len(E))
            if z[t] >= 0:
                add(emitted, *tables[1], codes, (path[t], z[t]), p, C[t][path[t], z[t]])
    return moved / total, emitted / total, np.log(total)


@pytest.mark.parametrize(
    ("weights", "attention"),
    [
        ([0.0, 1.0], True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (([0.0, 1.0], False), ([0.3, 0.7], True))),
    ],
)
def test_counts_are_sums_over_all_paths_where_the_lags_that_are_there_have_no_weight(weights, attention):
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 2, 3, 2, attention, 2)
    model = em.replaced(model, {"weights": jnp.array(weights), "emission_weights": jnp.array(weights)})
    z = np.array([0, 1, -1, 2, 2, 1])  # both the start and the token after the gap have no lag of weight
    found, contexts = counted(model, [z])
    moved, emitted, log_likelihood = counts_by_paths(model, z)
    np.testing.assert_allclose(found.log_likelihood, log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(found.transition, moved, atol=1e-12)
    np.testing.assert_allclose(found.emission, emitted, atol=1e-12)
    np.testing.assert_allclose(found.shares.sum(), 5)
    again = em.expected_counts(model, contexts, scaled=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), again, found)


@pytest.mark.slow
def test_a_fit_from_lags_without_weight_never_falls():
    rng = np.random.default_rng(0)
    start = em.replaced(oracles.lagged(rng, 2, 2, 2), {"weights": jnp.array([0.0, 1.0])})
    fitted = sx.fit(start, sx.sample_sequences(start, 0, 60, 3), max_iterations=8, tolerance=0.0, progress=False)
    assert np.diff(fitted.objective).min() > -1e-9
    assert fitted.result == sx.RESULTS.max_steps_reached
    np.testing.assert_array_equal(fitted.model.weights, [0, 1])


# two states that never change: what each emits, the states before the first token, and the tokens
SHARP = {
    "a share that falls to 1e-400 and returns": ([[1 - 1e-4, 1e-4, 0], [1e-4, 1 - 2e-4, 1e-4]], [0.5, 0.5], [0] * 100 + [2]),
    "evidence without bound for a state that cannot be": ([[1 - 1e-4, 1e-4, 0], [1e-4, 1 - 2e-4, 1e-4]], [1, 0], [1] * 100 + [0]),
    "a token rarer than the smallest number": ([[1 - 1e-200, 1e-200, 0], [1 - 2e-200, 1e-200, 1e-200]], [1 - 1e-200, 1e-200], [2, 1]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [n if i == 0 else pytest.param(n, marks=pytest.mark.slow) for i, n in enumerate(SHARP)]
)
def test_no_mass_underflows_for_good(case):
    emission, initial, z = SHARP[case]
    model = sx.LaggedHMM(initial, np.tile(np.eye(2), (2, 3, 1, 1)), emission, [0.5, 0.5])
    state, data = int(2 in z), sx.Sequences.from_arrays([z])
    fitted = sx.fit(model, data, max_iterations=1, progress=False)
    exact = np.log(initial[state]) + np.log(np.array(emission)[state][z]).sum()
    np.testing.assert_allclose(fitted.log_likelihoods[0], exact, rtol=1e-12)
    assert fitted.result == sx.RESULTS.max_steps_reached
    np.testing.assert_allclose(fitted.model.initial, np.eye(2)[state], atol=1e-300)
    wanted = np.bincount(z, minlength=3) / len(z)
    np.testing.assert_allclose(fitted.model.emission[state], wanted, atol=1e-15)


@pytest.mark.slow
def test_a_fit_goes_on_from_its_folder_and_on_workers(tmp_path):
    data = sx.sample_sequences(sx.models.mess3(), 0, 10, 20)
    options = {"progress": False, "restarts": 2, "screening": 2, "tolerance": 0.0}
    kind = sx.Lagged(2, 1, emission_lags=1)
    whole = sx.fit(kind, data, 0, max_iterations=5, **options)
    folder = {"run_folder": tmp_path / "fit"}
    sx.fit(kind, data, 0, max_iterations=3, **options, **folder)
    again = sx.fit(kind, data, 0, max_iterations=5, resume=True, **options, **folder)
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        elsewhere = sx.fit(kind, data, 0, max_iterations=5, executor=executor, **options)
    for other in (again, elsewhere):
        np.testing.assert_array_equal(other.objective, whole.objective)
        np.testing.assert_array_equal(other.restarts, whole.restarts)
        jax.tree.map(np.testing.assert_array_equal, other.model, whole.model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attention", "lags"),
    [pytest.param(True, 0, marks=pytest.mark.slow), (False, 0), pytest.param(True, 2, marks=pytest.mark.slow)],
)
def test_the_objective_never_falls(attention, lags):
    rng = np.random.default_rng(0)
    data = sx.sample_sequences(oracles.lagged(rng, 2, 3, 2, True, 1), 0, 20, 25)
    kind = sx.Lagged(2, 3, attention=attention, emission_lags=lags)
    for pseudocounts in (0.0, 0.1):
        fitted = sx.fit(kind, data, 1, max_iterations=40, tolerance=0.0, pseudocounts=pseudocounts, **QUICK)
        assert len(fitted.objective) == 41
        assert np.diff(fitted.objective).min() > -1e-9
        assert fitted.objective[-1] - fitted.objective[0] > 10
        assert fitted.result == sx.RESULTS.max_steps_reached
        exact = sx.filter(fitted.model, data).log_likelihood.sum()
        np.testing.assert_allclose(fitted.log_likelihood, exact, rtol=1e-12)


@pytest.mark.slow
def test_the_step_of_the_attention_is_the_maximum_of_a_concave_function():
    rng = np.random.default_rng(0)
    model = oracles.lagged(rng, 2, 2, 3)
    counts, contexts = counted(model, [np.array(sx.sample(model, 0, 200)[1])])

    def Q(model):
        weights = em.lag_weights(contexts.codes, model.weights, model.attention)
        return float(jnp.sum(counts.shares * jnp.log(jnp.where(weights > 0, weights, 1))))

    values, climbed = [Q(model)], jax.jit(em._climbed)
    for _ in range(6):
        w, a = climbed(model.weights, model.attention, counts.shares, contexts.codes)
        model = em.replaced(model, {"weights": w, "attention": a})
        values.append(Q(model))
    assert np.diff(values).min() > -1e-12 * abs(values[0])
    slope = jax.grad(
        lambda a: jnp.sum(
            counts.shares * jnp.log(jnp.maximum(em.lag_weights(contexts.codes, model.weights, a), 1e-300))
        )
    )(model.attention)
    assert np.abs(slope).max() < 1e-3 * counts.shares.sum()
    constant, all_there = model.weights, jnp.array([[0, 1, 0]])
    for _ in range(7):  # the weights are the shares themselves
        constant = climbed(constant, None, counts.shares[:1], all_there)[0]
    np.testing.assert_allclose(constant, counts.shares[0] / counts.shares[0].sum(), atol=1e-6)


@pytest.mark.slow
def test_attention_closes_the_gap_that_constant_weights_leave():
    process = sx.models.two_cycle()
    data, fresh = sx.sample_sequences(process, 0, 200, 64), sx.sample_sequences(process, 1, 200, 64)
    score = lambda model: sx.score(model, fresh, on_impossible="skip").cross_entropy
    options = {"progress": False, "pseudocounts": 0.01, "max_iterations": 200}
    floor = score(process)
    attention = score(sx.fit(sx.Lagged(4, 8), data, 0, **options).model)
    constant = score(sx.fit(sx.Lagged(4, 8, attention=False), data, 0, **options).model)
    chain = score(sx.fit(sx.HMM(4), data, 0, **options).model)
    assert attention - floor < 0.06 * floor
    assert constant - floor > 0.15 * floor
    assert chain - floor > 0.8 * floor


@pytest.mark.slow
def test_a_fit_goes_on_from_a_model_keeps_its_zeros_and_names_its_tokens():
    rng = np.random.default_rng(0)
    start = oracles.lagged(rng, 3, 2, 2, True, 0, 0.4)
    data = sx.sample_sequences(start, 0, 10, 20)
    fitted = sx.fit(start, data, max_iterations=5, progress=False)
    assert (np.asarray(fitted.model.transition)[np.asarray(start.transition) == 0] == 0).all()
    assert fitted.log_likelihood >= sx.filter(start, data).log_likelihood.sum()
    seen = []
    named = sx.fit(
        sx.Lagged(2, 1), ["abab", "aabb"], on_iteration=lambda n, value, m: seen.append(n) or "stop", progress=False
    )
    assert named.model.vocabulary is not None
    assert seen == [0, 0, 0]  # every start is measured, and none goes on
    assert len(named.restarts) == 3


@pytest.mark.slow
def test_select_compares_kinds():
    rng = np.random.default_rng(0)
    data = sx.sample_sequences(oracles.lagged(rng, 2, 2, 2), 0, 20, 30)
    best = sx.select(
        [sx.Lagged(2, 1), sx.Lagged(2, 2, attention=False)], data, "held_out", data, max_iterations=5, **QUICK
    )
    assert isinstance(best.model, sx.LaggedHMM)
    assert np.isfinite([c.held_out for c in best.candidates]).all()


def test_free_parameters_are_counted():
    rng = np.random.default_rng(0)
    # 2 states, 3 tokens, 2 lags: 1 + 2·3·2·1 rows, 2·2 emissions, and 2·3 - 1 scores or 2 - 1 weights
    assert n_parameters(oracles.lagged(rng, 2, 3, 2)) == 1 + 12 + 4 + 5
    assert n_parameters(oracles.lagged(rng, 2, 3, 2, False)) == 1 + 12 + 4 + 1
    assert n_parameters(oracles.lagged(rng, 2, 3, 2, False, 1)) == 1 + 12 + 12 + 1 + 2


def test_fit_rejects_what_it_cannot_learn():
    rng = np.random.default_rng(0)
    with pytest.raises(sx.DataError, match="hold none"):
        sx.fit(sx.Lagged(2, 2), sx.Sequences.from_arrays([[-1, -1]]), progress=False)
    still = sx.LaggedHMM([1.0, 0.0], np.tile(np.eye(2), (1, 2, 1, 1)), np.eye(2), [1.0])
    with pytest.raises(sx.ImpossibleTokenError):
        sx.fit(still, [[0, 1]], progress=False)
    _, process = oracles.enumerated(*oracles.law_of_full_memory(rng, 2, 2, 2), 2, 2)
    with pytest.raises(sx.ConfigurationError, match="rows of its own kind"):
        sx.fit(process, [[0, 1]], progress=False)
    for wrong in (
        {"n_states": 0, "lags": 1},
        {"n_states": 1, "lags": 0},
        {"n_states": 1, "lags": 1, "emission_lags": -1},
    ):
        with pytest.raises(sx.ConfigurationError):
            sx.Lagged(**wrong)
    with pytest.raises(sx.ConfigurationError, match="reads="):
        sx.Lagged(2, 2, "words")


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["tokens", "states"])
def test_gradients_lower_the_loss_of_lags_of_either_kind(reads):
    rng = np.random.default_rng(0)
    truth = oracles.lagged(rng, 2, 2, 2)
    data = sx.sample_sequences(truth, 0, 30, 12)
    if reads == "tokens":
        start = oracles.lagged(rng, 2, 2, 2)
    else:
        rows = lambda *shape: rng.dirichlet(np.ones(2), shape)
        start = sx.LaggedHMM(rows(), rows(2, 2), rows(2), [0.5, 0.5], reads="states")
    trained = sx.fit_by_gradient(start, data, 40, batch=30, progress=False)
    score = lambda model: sx.score(model, data).cross_entropy
    np.testing.assert_allclose(trained.losses[0], score(start), rtol=1e-6)
    assert score(trained.model) < score(start) - 0.01
    assert trained.model.reads == reads
