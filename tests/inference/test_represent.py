"""The nonlinear predictor representation, against means over all strings."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.maths.encoding import mean_and_slope, token_vectors

RNG = np.random.default_rng(0)
V, T = 3, 6
MU, A, C = oracles.sparse_hmm(RNG, 3, V)
HMM = sx.HiddenMarkovModel(MU, A, C)
Z = oracles.draw(RNG, MU, A, C, T)
STRINGS = np.array(list(itertools.product(range(V), repeat=T)), dtype=np.int32)


def odd(tokens):
    """A predictor that no hidden Markov model makes: depends on the first token and on a count."""
    tokens = np.asarray(tokens)
    return np.sin(1.0 + tokens[:, 0]) * (tokens == 1).sum(1) + 0.1 * tokens @ np.arange(T)


def tree_means(S, z, law):
    """S_t and U_t by backward averaging over the whole tree; `law(prefix)` is the reference's next-token law."""
    S = dict(zip(map(tuple, STRINGS), S, strict=True))
    for t in reversed(range(T)):
        for prefix in itertools.product(range(V), repeat=t):
            S[prefix] = sum(p * S[(*prefix, x)] for x, p in enumerate(law(prefix)) if p > 0)
    values = np.array([S[tuple(z[:t])] for t in range(T + 1)])
    U = np.array([[-(S[(*z[:t], x)] - values[t]) for x in range(1, V)] for t in range(T)])
    return values, U


@pytest.mark.parametrize("name", ["own", "odd"])
def test_uniform_weights_are_the_martingale_increments_of_the_tree(name):
    predictor = sx.next_token_predictor(HMM, 2) if name == "own" else odd
    u = sx.represent(predictor, Z, V, "uniform", weights=True)
    values, U = tree_means(predictor(STRINGS), Z, lambda prefix: np.full(V, 1 / V))
    np.testing.assert_allclose(u.values, values, atol=1e-10)
    np.testing.assert_allclose(u.weights, -U, atol=1e-10)
    total = sum(u.weights[t] @ token_vectors(V)[Z[t]] for t in range(T))
    np.testing.assert_allclose(u.values[0] + total, u.values[-1], atol=1e-12)
    assert u.method == ("merged beliefs" if name == "own" else "enumeration")
    assert (u.standard_error == 0).all()


@pytest.mark.parametrize("rare", [1e-4, 1e-8, 1e-10, 1e-14, 1e-100, 1e-300])
def test_rare_tokens_and_lost_states_do_not_spoil_merged_beliefs(rare):
    # a rare token under a uniform reference magnifies the smallest difference of two beliefs without bound
    for seed in range(8):
        rng = np.random.default_rng(seed)
        mu, A, C = oracles.sparse_hmm(rng, 2, V, 0.2)
        A = np.eye(2) if seed % 2 else A
        mu, C = (np.where(rng.random(a.shape) < 0.4, rare * (a > 0), a) for a in (mu, C))
        if not (mu.sum() > 0 and (C.sum(1) > 0).all()):
            continue
        mu, C = (a / a.sum(-1, keepdims=True) for a in (mu, C))
        hmm = sx.HiddenMarkovModel(mu, A, C)
        z = oracles.draw(rng, mu, A, C, T)

        def predict(strings, mu=mu, A=A, C=C):  # in extended precision; forbidden tokens are stepped over
            out = []
            for string in np.asarray(strings):
                belief = mu.astype(np.longdouble)
                for token in string:
                    joint = belief * C[:, token]
                    belief = (joint / joint.sum() if joint.sum() > 0 else belief) @ A
                out.append(float(belief @ C[:, 2]))
            return np.array(out)

        for reference in ("uniform", sx.support(hmm)):
            merged = sx.represent(sx.next_token_predictor(hmm, 2), z, V, reference, weights=True)
            strings = sx.represent(predict, z, V, reference, weights=True)
            assert (merged.method, strings.method) == ("merged beliefs", "enumeration")
            np.testing.assert_allclose(merged.values, strings.values, atol=1e-9)
            np.testing.assert_allclose(merged.weights, strings.weights, atol=1e-9)


def test_news_is_the_change_of_the_forecast():
    """Under the process itself S_t = π_t A^{T-t} F, so contributions have a closed form."""
    u = sx.represent(sx.next_token_predictor(HMM, 1), Z, V, HMM)
    pi, _ = oracles.loop_filter(MU, A, C, Z)
    forecast = [pi[t] @ np.linalg.matrix_power(A, T - t) @ C[:, 1] for t in range(T + 1)]
    np.testing.assert_allclose(u.values, forecast, atol=1e-10)
    np.testing.assert_allclose(u.contributions, np.diff(forecast), atol=1e-10)
    by_strings = sx.represent(lambda x: sx.next_token_predictor(HMM, 1)(x), Z, V, HMM)
    assert by_strings.method == "enumeration"
    np.testing.assert_allclose(by_strings.values, forecast, atol=1e-12)


def test_on_the_support_a_token_without_alternative_has_no_weight():
    hmm = sx.models.two_cycle(initial="stationary")
    z = np.asarray(hmm.sample(jax.random.key(1), 64)[1])
    u = sx.represent(sx.next_token_predictor(hmm, 1), z, 2, weights=True)
    assert u.method == "merged beliefs"
    alternatives = np.asarray(sx.filter(hmm, z).next_all()[:-1] > 0).sum(1)
    assert (u.weights[alternatives == 1] == 0).all()
    assert (np.abs(u.weights[alternatives == 2, 0]) > 1e-6).any()
    np.testing.assert_allclose(u.contributions, [w @ token_vectors(2)[x] for w, x in zip(u.weights, z, strict=True)])


def test_merging_beliefs_of_two_processes_gives_what_strings_give():
    other = sx.HiddenMarkovModel(*oracles.sparse_hmm(np.random.default_rng(5), 2, V))
    predictor = sx.next_token_predictor(HMM, 0)
    for reference in (sx.support(other), other):
        merged = sx.represent(predictor, Z, V, reference)
        strings = sx.represent(lambda x: predictor(x), Z, V, reference)
        assert (merged.method, strings.method) == ("merged beliefs", "enumeration")
        np.testing.assert_allclose(merged.values, strings.values, atol=1e-10)


def test_sampling_agrees_within_its_standard_errors_and_early_weights_are_precise():
    predictor = sx.next_token_predictor(HMM, 2)
    exact = sx.represent(predictor, Z, V, "uniform", weights=True)
    u = sx.represent(predictor, Z, V, "uniform", samples=600, weights=True, key=jax.random.key(2))
    assert u.method == "sampling"
    assert (np.abs(u.values - exact.values) <= 6 * u.standard_error + 1e-12).all()
    np.testing.assert_allclose(u.weights, exact.weights, atol=3e-3)
    assert np.abs(u.weights - exact.weights)[0].max() < 0.1 * np.abs(exact.weights[0]).max() + 1e-5
    values = sx.represent(predictor, Z, V, "uniform", samples=600, key=jax.random.key(3))
    assert (np.abs(values.values - exact.values) <= 6 * values.standard_error + 1e-12).all()
    np.testing.assert_allclose(values.contributions, np.diff(values.values), atol=1e-15)
    assert values.values[-1] == pytest.approx(exact.values[-1], abs=1e-14)


@pytest.mark.slow
def test_intervals_of_sampling_cover_as_often_as_they_say():
    predictor = sx.next_token_predictor(HMM, 2)
    exact = sx.represent(predictor, Z, V, "uniform").values[:3]
    inside, normal = [], []
    for seed in range(240):
        u = sx.represent(predictor, Z, V, "uniform", samples=48, key=seed)
        low, high = u.interval[:, :3]
        inside.append((low <= exact) & (exact <= high))
        normal.append(np.abs(u.values[:3] - exact) <= 1.96 * u.standard_error[:3])
    assert abs(np.mean(inside) - 0.95) < 0.025  # the share's own standard error is at most .014
    assert np.mean(normal) < 0.925


def test_sampling_from_a_process_agrees_with_the_news():
    predictor = sx.next_token_predictor(HMM, 2)
    exact, sampled = sx.represent(predictor, Z, V, HMM), sx.represent(predictor, Z, V, HMM, samples=2000)
    assert (np.abs(sampled.values - exact.values) <= 6 * sampled.standard_error + 1e-12).all()


def test_a_missing_token_contributes_nothing():
    z = Z.copy()
    z[[1, 2]] = -1
    for predictor in (sx.next_token_predictor(HMM, 2), lambda x: sx.next_token_predictor(HMM, 2)(x)):
        for samples in (None, 64):
            u = sx.represent(predictor, z, V, "uniform", samples=samples, weights=True)
            assert (u.contributions[[1, 2]] == 0).all()
            assert (u.weights[[1, 2]] == 0).all()
    with pytest.raises(sx.DataError, match="missing token"):
        sx.represent(sx.next_token_predictor(Network(), 1), z, V)


class Network(eqx.Module):
    """Logits from the last two tokens, as a GPT would return them: `[T]` → `[T V]`."""

    def __call__(self, tokens):
        x = jax.nn.one_hot(tokens, V)
        return x @ jnp.arange(9.0).reshape(3, 3) / 9 + jnp.roll(x, 1, axis=0) * 0.3


def test_a_network_is_represented_like_any_predictor():
    predictor = sx.next_token_predictor(Network(), 1)
    direct = np.stack([jax.nn.softmax(Network()(jnp.asarray(s))[-1])[1] for s in STRINGS[:5]])
    np.testing.assert_allclose(predictor(STRINGS[:5]), direct, atol=1e-15)
    u = sx.represent(predictor, Z, V, batch=100)
    values, _ = tree_means(predictor(STRINGS), Z, lambda prefix: np.full(V, 1 / V))
    np.testing.assert_allclose(u.values, values, atol=1e-13)
    assert np.abs(u.contributions[: T - 2]).max() < 1e-13  # it forgets all but the last two tokens


def test_functions_of_a_token_are_unique_sums():
    f = np.random.default_rng(1).normal(size=(4, 5))
    mean, slope = mean_and_slope(f)
    np.testing.assert_allclose(mean[:, None] + slope @ token_vectors(5).T, f, atol=1e-15)
    np.testing.assert_allclose(token_vectors(5).sum(0), 0)


def test_represent_rejects_what_it_cannot_use():
    predictor = sx.next_token_predictor(HMM, 0)
    with pytest.raises(sx.ConfigurationError, match="uniform references only"):
        sx.represent(predictor, Z, V, HMM, weights=True)
    with pytest.raises(sx.ConfigurationError, match="Unknown reference"):
        sx.represent(predictor, Z, V, "bigram")
    with pytest.raises(sx.ConfigurationError, match="must be equal"):
        sx.represent(predictor, Z, V, sx.support(sx.models.casino()))
    with pytest.raises(sx.ConfigurationError, match="samples"):
        sx.represent(predictor, Z, V, samples=0)
    with pytest.raises(sx.DataError, match="codes"):
        sx.represent(predictor, np.array([0, 3]), V)
    with pytest.raises(sx.ImpossibleTokenError):
        sx.represent(predictor, np.array([1, 1]), 2, sx.support(sx.models.two_cycle()))
    with pytest.raises(sx.ConfigurationError, match="tokens 0"):
        sx.next_token_predictor(HMM, 3)
    with pytest.raises(sx.ConfigurationError, match="does not predict tokens"):
        sx.next_token_predictor("gpt", 0)
