"""No mass underflows for good: every verb against recursions in log space, on chains where linear space loses it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import steerax as sx
from steerax.cli.explain import _fault
from steerax.inference.hmm.explain import explain_norms
from steerax.inference.hmm.fit import fit_tokens
from steerax.inference.hmm.kernels.counts import expected_counts
from steerax.inference.hmm.kernels.em import counts_of
from steerax.inference.hmm.kernels.layers import layer
from steerax.inference.hmm.kernels.recursions import filter_possible
from steerax.inference.hmm.kernels.scaled import Scaled, filter_traced, layer_scaled, next_log_probabilities
from steerax.inference.score import score_predictor


def log_filter(hmm, z):
    """(log states [T+1 d], log q [T]) in log space; a token that is impossible raises."""
    with np.errstate(divide="ignore"):
        mu, A, C = (np.log(np.asarray(a, np.longdouble)) for a in (hmm.initial, hmm.dense_transition, hmm.emission))
    p, states, log_q = mu, [mu], []
    for token in z:
        joint = p if token < 0 else p + C[:, token]
        if not np.isfinite(joint.max()):
            raise sx.ImpossibleTokenError(0, len(log_q), int(token))
        q = np.longdouble(joint.max()) + np.log(np.exp(joint - joint.max()).sum())
        log_q.append(q)
        terms = (joint - q)[:, None] + A
        top = terms.max(0)
        safe = np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):
            p = np.where(np.isfinite(top), safe + np.log(np.exp(terms - safe).sum(0)), -np.inf)
        states.append(p)
    return np.array(states), np.array(log_q)


def log_smooth(hmm, z, states):
    with np.errstate(divide="ignore"):
        A, C = (np.log(np.asarray(a, np.longdouble)) for a in (hmm.dense_transition, hmm.emission))
    b, found = np.zeros(hmm.n_states, np.longdouble), []
    for t in reversed(range(len(z))):
        emitted = 0 if z[t] < 0 else C[:, z[t]]
        joint = states[t] + emitted + b
        joint = joint - joint.max()
        found.append(np.exp(joint) / np.exp(joint).sum())
        message = emitted + b
        terms = A + message[None]
        top = terms.max(1)
        safe = np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):
            b = np.where(np.isfinite(top), safe + np.log(np.exp(terms - safe[:, None]).sum(1)), -np.inf)
    return np.array(found[::-1])


def rows(rng, *shape, concentration=1.0):
    return rng.dirichlet(np.full(shape[-1], concentration), shape[:-1])


def chain_of(kind, rng, d, V):
    """A model of a kind that loses mass in linear space."""
    mu, A, C = rows(rng, d), rows(rng, d, d), rows(rng, d, V)
    if kind == "closed classes":
        half = d // 2
        A[:half, half:] = A[half:, :half] = 0
    elif kind == "identity":
        A = np.eye(d)
    elif kind == "left-right":
        A = np.triu(A * rng.choice([1, 1e-3], (d, d)))
        mu = np.eye(d)[0]
    elif kind == "absorbing":
        A[-1] = np.eye(d)[-1]
        A[:, -1] *= 1e-6
    elif kind == "tiny":
        A, C = A ** rng.integers(1, 60, A.shape), C ** rng.integers(1, 60, C.shape)
    elif kind == "sparse":
        A, C = A * (rng.random(A.shape) < 0.5) + 1e-9 * np.eye(d), C * (rng.random(C.shape) < 0.7) + 1e-12
    return sx.HiddenMarkovModel(mu / mu.sum(), A / A.sum(-1, keepdims=True), C / C.sum(-1, keepdims=True))


KINDS = ("dense", "closed classes", "identity", "left-right", "absorbing", "tiny", "sparse")


def tokens_that_turn(hmm, rng, length):
    """Runs of likely and of unlikely tokens, so that what was lost comes back; all of positive probability."""
    z, p = [], np.asarray(hmm.initial, float)
    A, C = np.asarray(hmm.dense_transition, float), np.asarray(hmm.emission, float)
    with np.errstate(divide="ignore"):
        log_A, log_C = np.log(A), np.log(C)
        logs = np.log(p)
    token = int(rng.integers(C.shape[1]))
    for _ in range(length):
        if rng.random() < 0.01:
            token = int(rng.integers(C.shape[1]))
        chosen = token if rng.random() < 0.9 else int(rng.integers(C.shape[1]))
        joint = logs + log_C[:, chosen]
        if not np.isfinite(joint.max()):
            z.append(-1)
            joint = logs
        else:
            z.append(chosen)
        logs = logsumexp(joint[:, None] - joint.max() + log_A, axis=0)
    return np.array(z)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(kind, dtype, marks=() if (kind, dtype) == ("tiny", np.float64) else pytest.mark.slow)
        for kind in KINDS
        for dtype in (np.float32, np.float64)
    ],
)  # fmt: skip
def test_every_verb_agrees_with_log_space(kind, dtype):
    explained = 0
    for seed, d in enumerate((2, 6)):
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        exact_model = chain_of(kind, rng, d, 3)
        hmm = sx.HiddenMarkovModel(*(np.asarray(a, dtype) for a in exact_model.arrays))
        z = tokens_that_turn(hmm, rng, 1500)
        log_states, log_q = log_filter(hmm, z)
        states = np.exp(log_states).astype(float)
        room = 2e-4 if dtype == np.float32 else 1e-11
        r = sx.filter(hmm, z)
        np.testing.assert_allclose(r.predicted, states, atol=room)
        np.testing.assert_allclose(r.log_likelihoods, log_q.astype(float), rtol=room, atol=10 * room)
        with np.errstate(divide="ignore"):
            log_C = np.log(np.asarray(hmm.emission, np.longdouble).T)
        filtered = np.exp(log_states[:-1] + np.where(z[:, None] < 0, 0, log_C[z]) - log_q[:, None])
        np.testing.assert_allclose(r.filtered, filtered.astype(float), atol=room)
        np.testing.assert_allclose(sx.smooth(hmm, z).smoothed, log_smooth(hmm, z, log_states).astype(float), atol=room)
        dual = sx.dual_filter(hmm, z)
        np.testing.assert_allclose(dual.predicted, states, atol=10 * room)
        np.testing.assert_allclose(sx.forecast(hmm, z, 2).states[0], states[-1], atol=room)
        e = sx.explain(hmm, z, target="state", method="control")
        balanced = np.abs(e.prior + e.weights.sum(1) - states[-1:]).max()
        assert (balanced < 2 * np.sqrt(np.finfo(dtype).eps)) == bool(e.result == sx.RESULTS.successful)
        explained += bool(e.result == sx.RESULTS.successful)
        jitted = jax.jit(lambda z, hmm=hmm: sx.filter(hmm, z).predicted)(jnp.asarray(z))
        np.testing.assert_allclose(jitted, r.predicted, atol=room)
        smooth = jax.jit(lambda z, hmm=hmm: sx.smooth(hmm, z).smoothed)(jnp.asarray(z))
        np.testing.assert_allclose(smooth, sx.smooth(hmm, z).smoothed, atol=room)
    assert explained >= 1


def test_models_that_lose_nothing_are_filtered_in_linear_space():
    for seed in range(3):
        hmm = sx.models.random_hmm(seed, 6, 5)
        assert not sx.filter(hmm, hmm.sample(seed, 20_000)[1]).lost_mass
    for process in (sx.models.two_cycle(), sx.models.casino()):  # structural zeros, and a sticky chain
        assert not sx.filter(process, process.sample(0, 20_000)[1]).lost_mass
    left_right = sx.HiddenMarkovModel([1.0, 0, 0], np.array([[0.9, 0.1, 0], [0, 0.9, 0.1], [0, 0, 1]]), np.eye(3))
    assert not sx.filter(left_right, np.repeat([0, 1, 2], 100)).lost_mass


@pytest.mark.slow
def test_scores_and_slopes_are_right_where_mass_would_be_lost():
    h = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[0.7, 0.3, 0.0], [0.3, 0.6, 0.1]])
    z = np.r_[np.zeros(1000, int), np.ones(100, int), [2], np.ones(2000, int)]
    exact = log_filter(h, z)[1].astype(float)
    assert sx.filter(h, z).lost_mass
    logs = np.asarray(next_log_probabilities(*h.arrays, z))
    np.testing.assert_allclose(logs[np.arange(len(z)), z], exact, rtol=1e-10)
    data = sx.Sequences.from_arrays([z, z[:50]])
    np.testing.assert_allclose(score_predictor(h, data).log_likelihoods[0], exact, rtol=1e-10)
    np.testing.assert_allclose(sx.score(h, data).log_likelihoods[0], exact, rtol=1e-10)

    def log_likelihood(a):  # only the second class survives: 1000 tokens of .3, 2100 of a, one of .7 - a
        C = jnp.array([[0.7, 0.3, 0.0], [0.3, a, 0.7 - a]])
        return filter_traced(h.initial, h.transition, C, jnp.asarray(z))[1].sum()

    np.testing.assert_allclose(jax.grad(log_likelihood)(0.6), 2100 / 0.6 - 1 / 0.1, rtol=1e-9)


def test_slopes_are_finite_beside_an_impossible_token():
    hmm = chain_of("dense", np.random.default_rng(0), 10, 3)
    before = lambda C: filter_possible(hmm.initial, hmm.transition, C, jnp.array([0, 1, 2]))[1][:2].sum()
    assert np.isfinite(jax.grad(before)(hmm.emission.at[:, 2].set(0))).all()


def test_a_token_that_no_state_emits_changes_nothing_in_a_layer():
    mu, A = jnp.array([0.4, 0.6]), jnp.array([[0.9, 0.1], [0.2, 0.8]])
    C, z = jnp.array([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0]]), jnp.array([0, 2, 1])
    rho = jnp.full((4, 2), 0.5)
    expected = layer(rho, mu, A, C, z.at[1].set(-1))
    np.testing.assert_array_equal(layer(rho, mu, A, C, z), expected)
    np.testing.assert_allclose(layer_scaled(Scaled.of(rho), mu, A, C, z).linear, expected, rtol=1e-14)


def test_an_explanation_whose_terms_are_too_large_says_so():
    rng = np.random.default_rng([1, KINDS.index("tiny")])
    hmm = chain_of("tiny", rng, int(rng.choice([2, 3, 6, 12])), 3)
    for length, result in ((3, sx.RESULTS.successful), (1500, sx.RESULTS.breakdown)):
        z = tokens_that_turn(hmm, rng, length)
        for found in (sx.explain(hmm, z, target="state", method="control"), explain_norms(hmm, z)):
            assert found.result == result
    assert "breakdown" in _fault(found)


def test_the_case_of_the_review():
    h = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[0.7, 0.3], [0.3, 0.7]])
    z = np.r_[np.zeros(1000, int), np.ones(2500, int)]
    r = sx.filter(h, z)
    np.testing.assert_allclose(r.predicted[-1], [0, 1], atol=1e-12)
    assert float(r.log_likelihood) == pytest.approx(-2096.35, abs=0.01)
    np.testing.assert_allclose(sx.smooth(h, z).smoothed, np.tile([0.0, 1.0], (3500, 1)), atol=1e-12)
    np.testing.assert_allclose(sx.forecast(h, z, 1).probabilities[0], [0.3, 0.7], atol=1e-12)
    e = 1e-154
    s = sx.smooth(
        sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[1 - e, e], [e, 1 - e]]), np.array([0, 0, 1, 1])
    ).smoothed
    np.testing.assert_allclose(s, 0.5, atol=1e-9)


@pytest.mark.parametrize(("dtype", "small"), [(np.float32, 1e-24), (np.float64, 1e-190)])
def test_a_token_is_not_impossible_because_a_product_of_positive_numbers_is_zero(dtype, small):
    """No state is zero, none is small enough to be suspicious, and only the product of two of them underflows."""
    A = np.array([[1 - small, small], [1 - small, small]], dtype)
    hmm = sx.HiddenMarkovModel(A[0], A, np.array([[1, 0], [1 - small, small]], dtype))
    z = np.array([0, 0, 1, 0])
    for found in (sx.filter(hmm, z), jax.jit(lambda z: sx.filter(hmm, z))(jnp.asarray(z))):
        np.testing.assert_allclose(found.log_likelihoods[2], 2 * np.log(small), rtol=1e-5)
        np.testing.assert_allclose(found.filtered[2], [0, 1])


@pytest.mark.slow
def test_mass_that_grows_back_over_a_thousand_tokens_is_counted():
    """A share that one token makes 1e-300 grows by less than a factor of 2 a token, and by 1e300 over the sequence."""
    e = 1e-200
    h = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[1 - e - 0.3, 0.3, e], [0.4 - 1e-8, 0.6, 1e-8]])
    other = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[0.7, 0.3, 0.0], [0.4, 0.6, 0.0]])
    turned = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[0.7, 0.3], [0.3, 0.7]])
    for model, z in (
        (h, np.r_[[2], np.zeros(400, int)]),
        (other, np.r_[np.ones(1200, int), np.zeros(1600, int)]),
        (turned, np.r_[np.zeros(890, int), np.ones(900, int)]),
    ):
        exact = np.exp(log_filter(model, z)[0]).astype(float)
        np.testing.assert_allclose(sx.filter(model, z).predicted, exact, atol=1e-9)
        fit = fit_tokens(model, sx.Sequences.from_arrays([z]), 0, max_iterations=1, progress=False)
        assert fit.log_likelihoods[0] == pytest.approx(float(log_filter(model, z)[1].sum()), rel=1e-10)


@pytest.mark.parametrize(
    ("C", "z"),
    [([[0.7, 0.3], [0.3, 0.7]], np.r_[np.zeros(130), np.ones(130)]), ([[1, 1e-36], [1 - 1e-30, 1e-30]], [0, 1, 0, 1])],
    ids=["slow growth", "one rare token"],
)
def test_counts_of_single_precision_are_exact_or_doubtful(C, z):
    """Either kind of growth is enough for doubt."""
    hmm = sx.HiddenMarkovModel(*(np.asarray(a, np.float32) for a in ([0.5, 0.5], np.eye(2), C)))
    rows = jnp.asarray(np.asarray(z, int)[:, None] + 1)
    assert expected_counts(*hmm.arrays, rows, jnp.array([len(z)]), 1, len(z)).doubtful


def test_layers_from_the_prior_end_at_the_filter_when_tokens_are_rare():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        hmm = chain_of("tiny" if seed % 2 else "sparse", rng, int(rng.choice([2, 3, 9])), 3)
        z = tokens_that_turn(hmm, rng, 12)
        z = np.where(rng.random(12) < 0.3, rng.integers(3, size=12), z)
        try:
            exact = np.exp(log_filter(hmm, z)[0]).astype(float)
            found = sx.dual_filter(hmm, z, layers=13).predicted
        except sx.ImpossibleTokenError:
            continue
        np.testing.assert_allclose(found, exact, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_counts_are_the_expected_counts(kind):
    rng = np.random.default_rng(3)
    hmm = chain_of(kind, rng, 4, 3)
    data = sx.sample_sequences(hmm, 0, 5, 30)
    z = np.where(rng.random((30, 5)) < 0.1, -1, np.asarray(data.values).T)
    lengths = jnp.array([30, 7, 1, 0, 22])
    z = np.where(np.arange(30)[:, None] < np.asarray(lengths), z, -1)
    arguments = (*hmm.arrays, jnp.asarray(z + 1), lengths)
    one, two = expected_counts(*arguments, 1, 40), counts_of(*arguments, 0, 0)
    for a, b in zip(one[:4], two[:4], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_learning_finds_the_class_that_later_tokens_decide_for():
    h = sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), [[0.7, 0.3], [0.3, 0.7]])
    data = sx.Sequences.from_arrays([np.r_[np.zeros(1000, int), np.ones(2500, int)]])
    fit = fit_tokens(h, data, 0, max_iterations=1, progress=False)
    assert fit.log_likelihoods[0] == pytest.approx(float(sx.filter(h, data).log_likelihood[0]), rel=1e-12)
    np.testing.assert_allclose(fit.model.emission[1], [1000 / 3500, 2500 / 3500], rtol=1e-9)
    online = sx.fit_online(h, [data])
    assert online.log_likelihoods[0] * 3500 == pytest.approx(fit.log_likelihoods[0])


def many_chains(rng, number, d, V, length):
    """Arrays `[N d]`, `[N d d]`, `[N d V]` of every kind, entries down to 1e-300, and tokens `[N T]`."""
    models = [chain_of(KINDS[i % len(KINDS)], rng, d, V) for i in range(number)]
    mu, A, C = (np.stack([np.asarray(a) for a in arrays]) for arrays in zip(*(m.arrays for m in models), strict=True))
    rare = rng.random(number) < 0.3
    C[rare, 0, 0] = 10.0 ** -rng.uniform(1, 300, rare.sum())
    A[rare, 0, 1] = 10.0 ** -rng.uniform(1, 300, rare.sum())
    A, C = A / A.sum(-1, keepdims=True), C / C.sum(-1, keepdims=True)
    runs = rng.integers(-1, V, (number, length // 10 + 1)).repeat(10, 1)[:, :length]
    return mu, A, C, np.where(rng.random(runs.shape) < 0.9, runs, rng.integers(V, size=runs.shape))


def check_many(number, dtype, seed):
    rng = np.random.default_rng(seed)
    mu, A, C, z = many_chains(rng, number, 3, 3, 60)
    mu, A, C = (np.where(a < np.finfo(dtype).tiny, 0, a).astype(dtype) for a in (mu, A, C))
    found, log_q, _ = (np.asarray(a) for a in jax.jit(jax.vmap(filter_traced))(mu, A, C, z))
    of_all = jax.jit(
        jax.vmap(lambda mu, A, C, z: expected_counts(mu, A, C, z[:, None] + 1, jnp.array([z.size]), 4, 15))
    )
    counted, exact = of_all(mu, A, C, jnp.asarray(z)), np.zeros(number)
    wide = np.longdouble
    with np.errstate(divide="ignore"):
        p, log_A, log_C = np.log(mu.astype(wide)), np.log(A.astype(wide)), np.log(C.astype(wide))
    room, alive = (2e-5 if dtype == np.float32 else 1e-12), np.ones(number, bool)
    for t in range(z.shape[1]):
        difference = np.abs(found[:, t] - np.exp(p))[alive]
        assert difference.max() < room, difference.max()
        joint = p + np.where(
            z[:, t, None] < 0, 0, np.take_along_axis(log_C, np.maximum(z[:, t], 0)[:, None, None], 2)[..., 0]
        )
        top = joint.max(1)
        alive &= np.isfinite(top)
        assert np.isneginf(log_q[:, t][~np.isfinite(top) & np.isfinite(p).any(1)]).all()
        top = np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):
            q = top + np.log(np.exp(joint - top[:, None]).sum(1))
            np.testing.assert_allclose(log_q[alive, t], q[alive].astype(float), rtol=room, atol=20 * room)
            exact += np.where(alive & (z[:, t] >= 0), q, 0).astype(float)
            terms = np.where(alive[:, None], joint - np.where(alive, q, 0)[:, None], 0)[:, :, None] + log_A
            best = np.where(np.isfinite(terms.max(1)), terms.max(1), 0)
            p = best + np.log(np.exp(terms - best[:, None]).sum(1))
    trusted = alive & ~np.asarray(counted.doubtful) & (np.asarray(counted.smallest_mass) > 0)
    assert trusted.mean() > 0.2
    np.testing.assert_allclose(
        np.asarray(counted.log_likelihood)[trusted], exact[trusted], rtol=50 * room, atol=1e3 * room
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_chains_agree_with_log_space(dtype):
    check_many(700, dtype, 0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_random_chains_agree_with_log_space(dtype):
    for seed in range(1, 11):
        check_many(5000, dtype, seed)
