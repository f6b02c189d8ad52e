"""Probes where the answer is known: images of the belief, the one-hot history, noise, garbage under weight zero."""

import functools

import beliefs_oracles as oracles
import jax
import numpy as np
import process_oracles as processes
import pytest

import steerax as sx
from steerax.beliefs import constrained_belief, picture, probe, wiener
from steerax.beliefs.streams import half_steps
from steerax.report import static

MODEL = sx.models.mess3()
ARRAYS = processes.operators_of(MODEL)
B, T = 400, 8
STRINGS = oracles.draw(*ARRAYS, B, T)
EXACT = oracles.beliefs_along(*ARRAYS, STRINGS)
RNG = np.random.default_rng(0)
IMAGE = EXACT @ RNG.normal(size=(3, 6)) + RNG.normal(size=6)
LAGS = np.arange(T)[:, None] - np.arange(T)  # position, lag -> time
HISTORY = np.where(LAGS[None, :, :, None] >= 0, np.eye(3)[STRINGS[:, np.maximum(LAGS, 0)]], 0).reshape(B, T, -1)
NO_NETWORK = ["wiener", "shuffled", "last_token", "next_token"]
GPT = sx.GPT(sx.GPTConfig(vocab_size=3, block_size=T, n_layer=1, n_head=2, n_embd=8), key=0)


@functools.cache
def base():
    return probe({"image": IMAGE, "history": HISTORY, "noise": RNG.normal(size=(B, T, 700))}, MODEL, STRINGS)


@pytest.mark.slow
def test_an_affine_image_of_the_belief_is_read_exactly():
    found = base()
    np.testing.assert_allclose(found.exact, EXACT, atol=1e-12)
    assert found.r2[0] == pytest.approx(1, abs=1e-9)
    assert found.rmse[0] < 1e-5
    np.testing.assert_allclose(found.r2_by_position[0], 1, atol=1e-9)
    np.testing.assert_allclose(found.predicted[0], EXACT, atol=1e-5)
    for name in NO_NETWORK:
        assert found.nulls[name].shape == (3,)


def test_the_history_explains_what_is_linear_in_it():
    at_end = probe({"history": HISTORY}, MODEL, STRINGS, [], weights=np.arange(T) == T - 1)
    linear = wiener(MODEL, T).belief(STRINGS)[:, 1:]
    np.testing.assert_allclose(base().linear, linear, atol=1e-12)
    last = EXACT[:, -1] - EXACT[:, -1].mean(0)
    ceiling = 1 - ((EXACT - linear)[:, -1] ** 2).sum() / (last**2).sum()
    assert at_end.r2[0] == pytest.approx(ceiling, abs=0.02)
    assert at_end.scores["wiener"][0].r2 == pytest.approx(1, abs=1e-9)
    assert -0.3 < at_end.remainder[0] < 0.05  # 24 numbers are fitted on 200 strings
    assert wiener(MODEL, T).r2 == pytest.approx(ceiling, abs=0.02)


@pytest.mark.slow
def test_noise_of_high_dimension_explains_nothing():
    assert base().r2[2] < 0.0  # fitted and scored on the same strings it would be 700/3200
    flat = RNG.normal(size=(B * T, 700))
    Y = EXACT.reshape(-1, 3) - EXACT.mean((0, 1))
    inside = flat @ np.linalg.lstsq(flat, Y, rcond=None)[0]
    assert 1 - ((inside - Y) ** 2).sum() / (Y**2).sum() > 0.15


def test_nulls_are_what_they_say():
    found = base()
    mean = EXACT.mean((0, 1))
    spread = ((EXACT - mean) ** 2).sum()
    assert found.nulls["wiener"][0] == pytest.approx(1 - ((EXACT - found.linear) ** 2).sum() / spread, abs=1e-12)
    assert abs(found.nulls["shuffled"][0]) < 0.05
    by_token = np.stack([EXACT[z == STRINGS].mean(0) for z in range(3)])[STRINGS]
    assert found.nulls["last_token"][0] == pytest.approx(1 - ((EXACT - by_token) ** 2).sum() / spread, abs=0.01)
    assert found.nulls["next_token"][0] == pytest.approx(1, abs=1e-9)  # mess3: an invertible image of the belief
    assert np.ptp(found.nulls["last_token"]) == 0
    assert found.remainder_nulls["wiener"] == pytest.approx(0, abs=0.01)
    assert abs(found.remainder_nulls["shuffled"][0]) < 0.05


def test_the_wiener_belief_does_not_hold_the_remainder():
    found = probe({"linear": base().linear}, MODEL, STRINGS, [])
    assert abs(found.remainder[0]) < 0.03
    assert found.scores["wiener"][0].r2 == pytest.approx(1, abs=1e-9)
    assert found.r2[0] == pytest.approx(base().nulls["wiener"][0], abs=0.01)


def test_positions_of_weight_zero_are_left_out():
    garbage = IMAGE.copy()
    garbage[:, :3] = 1e3 * RNG.normal(size=garbage[:, :3].shape)
    weights = np.ones((B, T))
    weights[:, :3] = 0
    garbage[:7], weights[:7] = 55.0, 0
    found = probe({"a": garbage}, MODEL, STRINGS, [], weights=weights)
    clean = probe({"a": IMAGE}, MODEL, STRINGS, [], weights=weights)
    assert found.r2[0] == pytest.approx(1, abs=1e-9)
    assert found.r2[0] == pytest.approx(clean.r2[0], abs=1e-12)
    assert found.rmse[0] == pytest.approx(clean.rmse[0], abs=1e-9)
    per_position = probe({"a": HISTORY}, MODEL, STRINGS, [], weights=np.arange(1, T + 1))
    per_string = probe({"a": HISTORY}, MODEL, STRINGS, [], weights=np.tile(np.arange(1.0, T + 1), (B, 1)))
    assert per_position.r2 == pytest.approx(per_string.r2, abs=1e-12)


def test_calibration():
    (rows,) = probe({"a": IMAGE}, MODEL, STRINGS, []).calibration
    np.testing.assert_allclose(rows[:, 0], rows[:, 1], atol=1e-5)
    assert rows[:, 2].sum() == EXACT.size
    edges = np.clip((EXACT.ravel() * 10).astype(int), 0, 9)
    assert rows[:, 2] == pytest.approx(np.bincount(edges)[np.bincount(edges) > 0], abs=2)


def test_the_constrained_belief_adds_news_that_decay():
    p0, operators, w = ARRAYS
    A, news = operators.sum(0), [p0 @ M / (p0 @ M @ w) - p0 for M in operators]
    found = constrained_belief(sx.models.as_generalised(MODEL), STRINGS[:5])
    for z, along in zip(STRINGS[:5], found, strict=True):
        for t in range(T):
            said = p0 + sum(news[z[s]] @ np.linalg.matrix_power(A, t - s) for s in range(t + 1))
            np.testing.assert_allclose(along[t], said, atol=1e-12)
    assert base().scores["constrained"][1].r2 == pytest.approx(1, abs=1e-9)  # it is linear in the history


def test_files_mappings_and_arrays_give_the_same(tmp_path):
    from safetensors.numpy import save_file

    named = {"embedding": IMAGE, "attention": np.ascontiguousarray(HISTORY[..., :6]), "MLP": 2 * IMAGE}
    np.savez(tmp_path / "a.npz", **named)
    save_file(named, tmp_path / "a.safetensors")
    first = probe(named, MODEL, STRINGS, [], key=3)
    for other in (tmp_path / "a.npz", str(tmp_path / "a.safetensors"), np.stack(list(named.values()))):
        found = probe(other, MODEL, STRINGS, [], key=3)
        order = [found.layers.index(name) for name in first.layers]
        np.testing.assert_allclose(found.r2[order], first.r2, atol=1e-13)


def test_layers_of_a_dual_filter():
    found = sx.dual_filter(MODEL, sx.Sequences.from_arrays(list(STRINGS)), layers=2, keep=True)
    probed = probe(found, MODEL, STRINGS, [])
    assert probed.layers == ("start", "layer 1", "layer 2")
    history = np.asarray(found.history)
    again = probe({f"{n}": layer[:, 1:] for n, layer in enumerate(history)}, MODEL, STRINGS, [])
    np.testing.assert_allclose(probed.r2, again.r2, atol=1e-12)
    assert probed.r2[1] > 0.9
    with pytest.raises(sx.ConfigurationError, match="keep=True"):
        probe(sx.dual_filter(MODEL, sx.Sequences.from_arrays(list(STRINGS)), layers=2), MODEL, STRINGS)


def test_a_network_of_the_house():
    found = probe(GPT, MODEL, STRINGS, ["untrained", "shuffled"])
    assert found.layers == ("embedding", "attention", "MLP")
    states = np.stack([np.asarray(jax.vmap(GPT.hidden_states)(STRINGS))[:, m] for m in range(3)])
    again = probe(states, MODEL, STRINGS, [])
    np.testing.assert_allclose(found.r2, again.r2, atol=1e-6)
    assert found.nulls["untrained"][1] == pytest.approx(found.r2[1], abs=0.1)  # neither is trained
    text = found.summary()
    assert [line.split()[0] for line in text.splitlines()] == ["layer", "embedding", "attention", "MLP"]
    assert "untrained" in text.splitlines()[0]
    assert f"{found.r2[1]:.4f}" in text


def test_names_of_half_steps():
    assert half_steps(3) == ["embedding", "attention", "MLP"]
    assert half_steps(5) == ["embedding", "attention 1", "MLP 1", "attention 2", "MLP 2"]
    assert half_steps(1) == ["embedding"]


@pytest.mark.slow
def test_plot_and_beliefs_of_a_quantum_process(tmp_path):
    pytest.importorskip("matplotlib")
    model = sx.models.tom_quantum()
    strings = oracles.draw(*processes.operators_of(model), 40, T)
    exact = oracles.beliefs_along(*processes.operators_of(model), strings)
    found = probe({"a": exact}, model, strings, [])
    assert found.r2[0] == pytest.approx(1, abs=1e-8)
    assert len(found.plot().axes) >= 3
    for n, probed in enumerate((found, base())):
        figure = picture(probed, layers=probed.layers[:1])
        static.export(figure, tmp_path / f"{n}.svg")
        assert (tmp_path / f"{n}.svg").stat().st_size > 10_000


def test_what_is_the_same_everywhere_has_no_share():
    model = sx.models.coin(0.3)
    strings = oracles.draw(*processes.operators_of(model), 50, 4)
    found = probe({"a": RNG.normal(size=(50, 4, 2))}, model, strings, [])
    assert np.isnan(found.r2[0])
    assert np.isnan(found.remainder[0])
    constant = probe({"a": np.ones((B, T, 2))}, MODEL, STRINGS, [])
    assert -0.1 < constant.r2[0] <= 0


GOOD = {"a": IMAGE}
REFUSED = [
    ({"a": IMAGE[:, :-1]}, STRINGS, {}, "have shape"),
    ({"a": IMAGE[:-1]}, STRINGS, {}, "have shape"),
    ({"a": IMAGE[..., 0]}, STRINGS, {}, "have shape"),
    ({"a": np.where(IMAGE[3, 3, 3] == IMAGE, np.nan, IMAGE)}, STRINGS, {}, "not a finite"),
    ({"a": IMAGE + 0j}, STRINGS, {}, "not a finite real"),
    ({"a": np.full(IMAGE.shape, "x")}, STRINGS, {}, "not a finite real"),
    ({}, STRINGS, {}, "no activations"),
    (IMAGE, STRINGS, {}, r"\[layers B T D\]"),
    (GOOD, np.where(STRINGS[0, 0] == STRINGS, -1, STRINGS), {}, "without gaps"),
    (GOOD, [*STRINGS[1:], STRINGS[0][:3]], {}, "one length"),
    (GOOD, STRINGS + 1, {}, "holds? token 3|code 3"),
    (GOOD, STRINGS + 0.5, {}, "tokens|strings"),
    (GOOD, STRINGS[:3], {}, "too few"),
    (GOOD, STRINGS, {"nulls": ["magic"]}, "no null 'magic'"),
    (GOOD, STRINGS, {"nulls": ["untrained"]}, "no configuration"),
    (GOOD, STRINGS, {"weights": np.zeros(T)}, "not all zero"),
    (GOOD, STRINGS, {"weights": -np.ones(T)}, "not negative"),
    (GOOD, STRINGS, {"weights": np.full(T, np.nan)}, "finite"),
    (GOOD, STRINGS, {"weights": np.ones(3)}, "shape"),
    (GOOD, STRINGS, {"cutoff": 0.0}, "cutoff is 0.0"),
    (GOOD, STRINGS, {"cutoff": float("nan")}, "cutoff is nan"),
    (GOOD, STRINGS, {"key": -1}, "seed"),
    ("nowhere.npz", STRINGS, {}, "no file"),
    ("nowhere.safetensors", STRINGS, {}, "nowhere"),
    ("nowhere.pt", STRINGS, {}, "neither"),
]


@pytest.mark.parametrize(("activations", "strings", "given", "said"), REFUSED)
def test_refusals(activations, strings, given, said):
    with pytest.raises(sx.SteeraxError, match=said) as caught:
        probe(activations, MODEL, strings, **given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files_with_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}, 1], dtype=object))
    with pytest.raises(sx.DataError, match="cannot be read"):
        probe(tmp_path / "a.npz", MODEL, STRINGS)
    (tmp_path / "b.npz").write_bytes(b"PK nothing of the kind")
    with pytest.raises(sx.DataError, match="cannot be read"):
        probe(tmp_path / "b.npz", MODEL, STRINGS)
    (tmp_path / "c.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(sx.SteeraxError):
        probe(tmp_path / "c.safetensors", MODEL, STRINGS)


def test_a_probe_is_repeated_by_its_key():
    one, two = (probe(GOOD, MODEL, STRINGS, ["shuffled"], key=5) for _ in range(2))
    np.testing.assert_array_equal(one.predicted, two.predicted)
    np.testing.assert_array_equal(one.nulls["shuffled"], two.nulls["shuffled"])
