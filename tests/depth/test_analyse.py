"""The report: its numbers are those of independent computations, and its page stands alone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import steerax as sx
from benchmarks import removals
from steerax.depth.analysis import analyse
from steerax.depth.change.resample import take
from steerax.depth.measure import importance as i
from steerax.depth.measure.costate import costates
from steerax.depth.measure.scoring import mean_loss
from steerax.depth.measure.stationarity import stationarity, unbiased_square
from steerax.depth.measure.telemetry import history, telemetry
from steerax.runs.loop import Snapshot


@pytest.fixture(scope="module")
def gpt(make_small_gpt):
    return make_small_gpt(scale=0.25)


TOKENS = np.random.default_rng(8).integers(0, 7, (9, 6))


@pytest.fixture(scope="module")
def report(gpt):
    return analyse(gpt, TOKENS, keep=("costates",), batches=4, sample=6)


@pytest.mark.slow
def test_the_sweep_in_chunks_is_the_batch_at_once(report, gpt):
    targets = np.concatenate([TOKENS[:, 1:], np.full((9, 1), -1)], axis=1)
    whole = costates(gpt, jnp.asarray(TOKENS, jnp.int32), jnp.asarray(targets, jnp.int32))
    np.testing.assert_allclose(report.loss, whole.loss, rtol=1e-12)
    np.testing.assert_allclose(report.loss, mean_loss(gpt, TOKENS), rtol=1e-12)
    np.testing.assert_allclose(report.costates, whole.costates[::2], rtol=1e-9, atol=1e-15)
    norms = np.sqrt((np.asarray(whole.costates[::2]) ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(report.costate_norms, norms, rtol=1e-10)
    np.testing.assert_allclose(report.ledger.heads, whole.ledger.heads, rtol=1e-8, atol=1e-14)
    energy = (jnp.diff(whole.states, axis=0) ** 2).sum(-1).mean((1, 2))
    np.testing.assert_allclose(report.kinetic_energy, energy, rtol=1e-10)


def test_measured_removals_are_networks_without_the_layer(report, gpt):
    base = mean_loss(gpt, TOKENS[:6])
    for l in range(3):
        left = take(gpt, [k for k in range(3) if k != l])
        np.testing.assert_allclose(report.importance.layers[l], mean_loss(left, TOKENS[:6]) - base, rtol=1e-8)


def test_report_reads_as_text_json_and_a_page(report, tmp_path):
    text = report.summary()
    assert "nats per token" in text
    assert "vacuous" in text
    numbers = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert numbers["loss"] == report.loss
    sx.depth.write_html(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "still learning" in page


@pytest.mark.slow
def test_fisher_gates_are_the_gauss_newton_curvature_in_expectation(gpt):
    # one scored token: the expectation over labels is a sum, here estimated by many draws
    tokens = jnp.asarray(TOKENS[:2], jnp.int32)
    targets = jnp.full_like(tokens, -1).at[:, 3].set(2)
    first, fisher = i.removal_effects(gpt, tokens, targets, jax.random.key(1), 400)
    exact = removals.gauss_newton_heads(gpt, tokens, targets)
    np.testing.assert_allclose(
        (first.heads + fisher.heads) / 2, exact, rtol=0.25, atol=0.05 * float(jnp.abs(exact).max())
    )


def test_unbiased_squares_are_unbiased_and_their_error_is_honest():
    rng = np.random.default_rng(0)
    mean, found, errors = np.r_[1.0, np.zeros(9)], [], []
    for _ in range(2000):
        g = mean + rng.standard_normal((6, 10))
        value, error = unbiased_square(g @ g.T)
        found.append(value)
        errors.append(error)
    assert abs(np.mean(found) - 1) < 4 * np.std(found) / np.sqrt(2000)
    assert 0.9 < np.sqrt(np.mean(np.square(errors))) / np.std(found) < 1.5
    assert (
        np.mean([(g.mean(0) ** 2).sum() for g in mean + rng.standard_normal((500, 6, 10))]) > 2
    )  # the plain one is not


def test_stationarity_of_layers_is_the_sum_of_its_groups(gpt):
    found = stationarity(gpt, TOKENS[:8], batches=4)
    np.testing.assert_allclose(sum(group[0] for group in found.groups.values()), found.signal, rtol=1e-9)
    np.testing.assert_allclose(sum(group[1] for group in found.groups.values()), found.batch, rtol=1e-9)


@pytest.mark.slow
def test_telemetry_is_stationarity_and_costates_of_the_probe_and_joins_the_page(gpt, report, tmp_path):
    optimizer, path = optax.sgd(0.1), tmp_path / "depth.jsonl"
    hook = telemetry(TOKENS, optimizer, path, batches=4)  # nine sequences: the last one is left out
    for step in (3, 5, 5):  # the last step was made twice
        record = hook(Snapshot(step, (gpt, optimizer.init(gpt)), {}))
    learning, tokens = stationarity(gpt, TOKENS[:8], batches=4), jnp.asarray(TOKENS[:8], jnp.int32)
    np.testing.assert_allclose(record["signal"], learning.signal, rtol=1e-9)
    np.testing.assert_allclose(record["meter"], learning.meter, rtol=1e-9)
    found = costates(gpt, tokens, jnp.concatenate([tokens[:, 1:], jnp.full((8, 1), -1)], 1))
    norms = jnp.sqrt((found.costates[::2] ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(record["costate_norm"], norms, rtol=1e-9)
    with open(path, "a") as file:
        file.write('{"step": 6, "loss": 1.0}\n{"step": 7, "torn')
    read = history(path)
    assert read["step"].tolist() == [3, 5]
    np.testing.assert_allclose(read["update_ratio"][-1], record["update_ratio"], rtol=1e-15)
    sx.depth.write_html(report, tmp_path / "page.html", telemetry=path)
    assert "While it trained" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda gpt: analyse(gpt, TOKENS[:1]), sx.DataError, "two sequences"),
        (lambda gpt: analyse(gpt, TOKENS, keep=("ledgers",)), sx.ConfigurationError, "keep"),
        (lambda gpt: analyse(gpt, TOKENS, draws=0), sx.ConfigurationError, "draws"),
        (lambda gpt: stationarity(gpt, TOKENS, batches=20), sx.DataError, "20 batches"),
        (lambda gpt: telemetry(TOKENS[:3], optax.sgd(0.1)), sx.DataError, "3 sequences"),
        (lambda gpt: history(__file__), sx.DataError, "no telemetry"),
    ],
)
def test_rejects_what_it_cannot_analyse(call, error, match, gpt):
    with pytest.raises(error, match=match):
        call(gpt)
