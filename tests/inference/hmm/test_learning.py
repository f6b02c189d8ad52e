"""Gradient learning, streams, model selection, alignment, and networks of dual-filter layers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import steerax as sx
from steerax.inference.hmm.select import n_parameters

PROCESS = sx.HiddenMarkovModel([0.5, 0.5], [[0.95, 0.05], [0.1, 0.9]], [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
DATA = sx.sample_sequences(PROCESS, jax.random.key(0), 40, 12)
START = sx.HiddenMarkovModel([0.5, 0.5], [[0.7, 0.3], [0.4, 0.6]], [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])


def nats(hmm, data=DATA):
    return sx.score(hmm, data).cross_entropy


@pytest.mark.slow
def test_a_network_of_one_model_is_its_dual_filter_and_after_enough_layers_its_filter():
    z = jnp.asarray(DATA.values[:2].T)
    for layers in (3, 12):
        network = sx.DualFilterNetwork.of(PROCESS, layers)
        laws = network.states(z)
        for i in range(2):
            dual = sx.dual_filter(PROCESS, DATA[i], layers=layers).predicted
            np.testing.assert_allclose(laws[:, i], dual, atol=1e-12)
    filtered = sx.filter(PROCESS, DATA)
    np.testing.assert_allclose(sx.score(network, DATA).log_likelihoods, filtered.log_likelihoods, atol=1e-12)
    np.testing.assert_allclose(jax.nn.softmax(network(z[:, 0])), filtered.next_all()[0, 1:], atol=1e-12)


def test_a_network_is_causal_and_ignores_missing_tokens_in_its_loss():
    network = sx.DualFilterNetwork.random(jax.random.key(2), 3, 3, 2)
    z = jnp.asarray(DATA.values[:2].T)
    later = z.at[7:].set((z[7:] + 1) % 3)
    before, after = network.next_all(z), network.next_all(later)
    np.testing.assert_array_equal(before[:8], after[:8])
    assert (jnp.abs(before[8:] - after[8:]) > 1e-9).any()
    np.testing.assert_allclose(before.sum(-1), 1, atol=1e-12)


@pytest.mark.slow
def test_gradient_descent_reaches_what_baum_welch_reaches():
    em = sx.fit(START, DATA, jax.random.key(3), max_iterations=100)
    trained = sx.fit_by_gradient(START, DATA, 200, jax.random.key(4), optimizer=optax.adam(0.05), batch=40)
    assert isinstance(trained.model, sx.HiddenMarkovModel)
    assert len(trained.losses) == 200
    assert abs(nats(trained.model) - nats(em.model)) < 3e-3
    np.testing.assert_allclose(trained.losses[0], nats(START), atol=1e-4)


@pytest.mark.slow
def test_training_a_network_lowers_its_loss_and_is_repeatable():
    network = sx.DualFilterNetwork.random(jax.random.key(5), 2, 3, 2)
    runs = [
        sx.fit_by_gradient(network, DATA, 60, jax.random.key(6), optimizer=optax.adam(0.05), batch=16) for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].losses, runs[1].losses)
    before, after = (sx.score(m, DATA).cross_entropy for m in (network, runs[0].model))
    assert after < before - 0.02
    assert after > nats(PROCESS) - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("start", [START, sx.DualFilterNetwork.of(START, 2)], ids=["model", "network"])
def test_training_that_was_stopped_ends_like_training_that_was_not(tmp_path, start):
    options = {"optimizer": optax.adam(0.05), "batch": 16, "save_every": 4}
    whole = sx.fit_by_gradient(start, DATA, 12, jax.random.key(6), **options)
    stored = options | {"run_folder": tmp_path / "run"}
    sx.fit_by_gradient(start, DATA, 7, jax.random.key(6), **stored)
    with pytest.raises(sx.CheckpointError, match="already holds"):
        sx.fit_by_gradient(start, DATA, 12, jax.random.key(6), **stored)
    with pytest.raises(sx.CheckpointError, match="differs in key"):
        sx.fit_by_gradient(start, DATA, 12, jax.random.key(7), **stored, resume=True)
    resumed = sx.fit_by_gradient(start, DATA, 12, jax.random.key(6), **stored, resume=True)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    for a, b in zip(jax.tree.leaves(resumed.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_stream_teaches_what_the_whole_teaches():
    batches = [DATA.select(range(i, i + 10)) for i in (0, 10, 20, 30)]
    fit = sx.fit_online(START, batches * 20, exponent=0.7, pseudocounts=1e-3)
    assert len(fit.log_likelihoods) == 80
    np.testing.assert_allclose(fit.log_likelihoods[0], -nats(START, batches[0]), rtol=1e-12)
    em = sx.fit(START, DATA, jax.random.key(3), max_iterations=100)
    assert nats(fit.model) < nats(em.model) + 5e-3


def test_one_batch_of_everything_is_one_iteration_of_baum_welch():
    once = sx.fit(START, DATA, jax.random.key(0), max_iterations=1, tolerance=0.0)
    online = sx.fit_online(START, [DATA])
    for a, b in zip(once.model.arrays, online.model.arrays, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)


def test_the_number_of_states_is_found_and_parameters_are_counted():
    kinds = [sx.HMM(1), sx.HMM(2)]
    chosen = sx.select(kinds, DATA, held_out=DATA, key=7, restarts=2, max_iterations=60)
    assert chosen.best.kind == kinds[1]
    assert chosen.model is chosen.best.fitted.model
    one, two = chosen.candidates
    fits = [candidate.fitted for candidate in chosen.candidates]
    assert [fitted.n_parameters for fitted in fits] == [2, 1 + 2 + 4]
    np.testing.assert_allclose(fits[1].bic - fits[1].aic, fits[1].n_parameters * (np.log(480) - 2), rtol=1e-12)
    assert two.held_out < one.held_out
    assert n_parameters(sx.models.random_order_k(jax.random.key(0), 2, 3, 2)) == 3 + 4 + 4


def test_alignment_undoes_a_renumbering():
    hmm = sx.models.random_hmm(jax.random.key(8), 5, 4)
    mixed = np.array([3, 0, 4, 1, 2])
    mu, A, C = (np.asarray(a) for a in hmm.arrays)
    other = sx.HiddenMarkovModel(mu[mixed], A[np.ix_(mixed, mixed)], C[mixed])
    aligned, order = sx.align_states(other, hmm)
    np.testing.assert_array_equal(mixed[order], np.arange(5))
    for a, b in zip(aligned.arrays, hmm.arrays, strict=True):
        np.testing.assert_array_equal(a, b)


def test_learning_rejects_what_cannot_work():
    key = jax.random.key(0)
    empty = sx.Sequences.from_arrays([np.array([-1])])
    with pytest.raises(sx.DataError):
        sx.fit_by_gradient(START, empty, 1, key)
    with pytest.raises(sx.ConfigurationError):
        sx.fit_by_gradient(START, DATA, 0, key)
    with pytest.raises(sx.ConfigurationError):
        sx.DualFilterNetwork.of(START, 0)
    with pytest.raises(sx.ConfigurationError):
        sx.DualFilterNetwork.random(key, 0, 2, 1)
    with pytest.raises(sx.DataError):
        sx.score(sx.DualFilterNetwork.of(START, 1), sx.sample_sequences(sx.models.casino(), key, 1, 30))
    with pytest.raises(sx.ConfigurationError, match="exponent"):
        sx.fit_online(START, [DATA], exponent=0.5)
    with pytest.raises(sx.DataError, match="no token"):
        sx.fit_online(START, [empty])
    with pytest.raises(sx.ConfigurationError, match="criterion"):
        sx.select([sx.HMM(1)], DATA, key=key, criterion="held_out")
    with pytest.raises(sx.ConfigurationError, match="order one"):
        sx.align_states(START, sx.HiddenMarkovModel([1.0], [[1.0]], [[0.5, 0.2, 0.3]]))


def test_a_network_is_saved_and_loaded_whole(tmp_path):
    network = sx.DualFilterNetwork.random(jax.random.key(20), 3, 4, 2)
    sx.save(network, tmp_path / "network")
    loaded = sx.load(tmp_path / "network")
    tokens = jnp.array([0, 3, 1, 2])
    np.testing.assert_array_equal(loaded(tokens), network(tokens))
