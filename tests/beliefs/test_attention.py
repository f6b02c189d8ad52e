"""The report on an attention layer: its parts on constructed data, and its verdict on a network that was trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.beliefs import attention, attention_report, wiener

P = np.array([0.5, 0.3, 0.2])
RNG = np.random.default_rng(0)


def geometric(r, lags=8):
    M = RNG.normal(size=(4, 3))
    return np.concatenate([RNG.normal(size=(1, 4, 3)), r ** np.arange(lags - 1)[:, None, None] * M])


@pytest.mark.parametrize("r", [0.9, 0.4943, 0.05, -0.6])
def test_the_rate_of_a_geometric_sum(r):
    coefficients = geometric(r)
    shifted = coefficients + RNG.normal(size=(8, 4, 1))  # a constant for all tokens says nothing
    assert attention._rate(coefficients, P) == pytest.approx(r, abs=1e-4)
    assert attention._rate(shifted, P) == pytest.approx(r, abs=1e-4)


def test_no_rate_where_nothing_is_read():
    assert np.isnan(attention._rate(np.zeros((8, 4, 3)), P))
    assert np.isnan(attention._rate(geometric(0.5)[:2], P))


def test_means_by_lag_and_token():
    strings = RNG.integers(0, 3, (40, 4))
    written = RNG.normal(size=(40, 4, 2))
    found = attention._by_lag_and_token(written, strings, P)
    for k in range(4):
        means = np.stack([written[strings[:, 3 - k] == z, 3 - k].mean(0) for z in range(3)], 1)
        np.testing.assert_allclose(found[k], means - (means @ P)[:, None], atol=1e-13)
    np.testing.assert_allclose(found @ P, 0, atol=1e-13)


def test_slope_and_share_on_the_controls():
    lags = geometric(0.6)
    centred = lags - (lags @ P)[..., None]
    assert attention._on_controls(1.3 * centred, lags, P) == pytest.approx((1.3, 1.0))
    garbage_at_lag_0 = 1.3 * centred + 100 * (np.arange(8) == 0)[:, None, None]
    assert attention._on_controls(garbage_at_lag_0, lags, P) == pytest.approx((1.3, 1.0))
    noisy = centred + RNG.normal(size=lags.shape)
    x, y = ((a[1:] * np.sqrt(P)).ravel() for a in (centred, noisy))
    slope = np.polyfit(np.append(x, -x), np.append(y, -y), 1)[0]
    assert attention._on_controls(noisy, lags, P) == pytest.approx((slope, np.corrcoef(np.append(x, -x), np.append(y, -y))[0, 1] ** 2))  # fmt: skip
    assert np.isnan(attention._on_controls(0 * centred, lags, P)).all()


def test_the_history_of_a_linear_layer():
    strings = RNG.integers(0, 3, (600, 4))
    seen = np.eye(3)[strings[:, ::-1]] - 1 / 3
    B = RNG.normal(size=(4, 5, 3))
    X = np.einsum("kdv,nkv->nd", B, seen) + 2
    coefficients, r2 = attention._history(X, seen, np.arange(600) % 2 == 0)
    assert r2 == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(coefficients, B - B.mean(-1, keepdims=True), atol=1e-8)
    assert attention._history(RNG.normal(size=(600, 5)), seen, np.arange(600) % 2 == 0)[1] < 0.02


def test_parts_of_a_layer_add_up():
    gpt = sx.GPT(sx.GPTConfig(vocab_size=3, block_size=6, n_layer=1, n_head=2, n_embd=8), key=1)
    strings = RNG.integers(0, 3, (10, 6))
    parts = attention._first_layer(gpt, strings)
    states = np.asarray(jax.jit(jax.vmap(gpt.hidden_states))(jnp.asarray(strings)))[:, :, -1]
    np.testing.assert_allclose(parts["attention"], states[:, 1], atol=1e-6)
    np.testing.assert_allclose(parts["MLP"], states[:, 2], atol=1e-6)
    np.testing.assert_allclose(parts["weights"].sum(-1), 1, atol=1e-6)
    bias = np.asarray(gpt.blocks.out.bias)[0]
    np.testing.assert_allclose(states[:, 0] + parts["written"].sum(1) + bias, states[:, 1], atol=1e-6)


@pytest.mark.slow
def test_outside_and_refusals():
    gpt = sx.GPT(sx.GPTConfig(vocab_size=2, block_size=8, n_layer=1, n_head=1, n_embd=8), key=1)
    model = sx.models.rrxor()
    strings = np.asarray(sx.sample_sequences(model, 0, 300, 8).values)
    report = attention_report(gpt, model, strings)
    assert [row.verdict for row in report.verdict] == ["outside"]
    assert "blind" in report.summary()
    assert report.profile.shape == (1, 8)
    np.testing.assert_allclose(report.profile.sum(1), 1, atol=1e-6)
    with pytest.raises(sx.DataError, match="at least three"):
        attention_report(gpt, model, strings[:, :2])
    with pytest.raises(sx.ConfigurationError, match="network of the house"):
        attention_report(model, model, strings)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_trained_network_is_the_wiener_filter_and_the_rest():
    model = sx.models.mess3(0.05, 0.6)
    gpt = sx.GPT(sx.GPTConfig(vocab_size=3, block_size=16, n_layer=1, n_head=1, n_embd=16), key=0)
    draw = lambda key, step: jax.vmap(lambda k: model.sample(k, 17)[1])(jax.random.split(key, 256))
    trained = sx.train_gpt(gpt, draw, 2000, 0, batch_size=256, learning_rate=5e-3, progress=False).model
    strings = np.asarray(sx.sample_sequences(model, 5, 4000, 16).values)
    report = attention_report(trained, model, strings)
    verdict = {row.name: row.verdict for row in report.verdict}
    assert {verdict[name] for name in ("linear", "wiener", "rate", "contributions")} == {"holds"}, report.summary()
    assert verdict["heads"] == "holds"
    assert abs(report.rate - wiener(model, 16).rate) < 0.08
