"""Fits and selections over executors give what they give without one; what is sent to a worker and back stays what it is."""

import concurrent.futures
import pickle

import jax
import numpy as np
import pytest

import steerax as sx

HMM = sx.models.random_hmm(jax.random.key(0), 3, 4)
DATA = sx.sample_sequences(HMM, jax.random.key(1), 6, 30)
SERIES = np.random.default_rng(0).normal(size=(50, 2)).cumsum(0)
OPTIONS = {"max_iterations": 12, "screening": 5, "tolerance": 0.0, "progress": False}


class Here(concurrent.futures.Executor):
    """Computes when asked, in this thread, but dies at one of the computations."""

    def __init__(self, dies_at=-1):
        self.dies_at, self.number = dies_at, 0

    def submit(self, fn, /, *args, **kwargs):
        future = concurrent.futures.Future()
        if self.number == self.dies_at:
            future.set_exception(concurrent.futures.BrokenExecutor("killed"))
        else:
            future.set_result(fn(*args, **kwargs))
        self.number += 1
        return future


def assert_equal(a, b):
    assert a.log_likelihoods.tolist() == b.log_likelihoods.tolist()
    assert a.restarts.tolist() == b.restarts.tolist()
    assert bool(a.result == b.result)
    for one, other in zip(jax.tree.leaves(a.model), jax.tree.leaves(b.model), strict=True):
        np.testing.assert_array_equal(one, other)


NUMBERS = [SERIES, SERIES[:20]]
COUNTS = [np.abs(series).astype(int) for series in NUMBERS]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (sx.HMM(3), DATA),
        (sx.HMM(2, order=2), DATA),
        (sx.HMM(2, emission="poisson"), COUNTS),
        pytest.param(sx.HMM(2, emission="gaussian"), NUMBERS, marks=pytest.mark.slow),
        pytest.param(sx.HMM(2, emission="student-t"), NUMBERS, marks=pytest.mark.slow),
        pytest.param(sx.HMM(2, emission="autoregressive"), NUMBERS, marks=pytest.mark.slow),
    ],
    ids=["tokens", "order 2", "poisson", "gaussian", "student-t", "autoregressive"],
)
def test_restarts_of_chains_are_the_same_elsewhere(kind, data):
    alone = sx.fit(kind, data, 1, restarts=3, **OPTIONS)
    assert_equal(sx.fit(kind, data, 1, restarts=3, executor=Here(), **OPTIONS), alone)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert_equal(sx.fit(kind, data, 1, restarts=3, executor=pool, **OPTIONS), alone)


@pytest.mark.slow
def test_restarts_of_linear_models_are_the_same_elsewhere():
    few = {"restarts": 2, "max_iterations": 8, "progress": False}
    assert_equal(
        sx.fit(sx.LinearGaussian(1), SERIES, 1, executor=Here(), **few),
        sx.fit(sx.LinearGaussian(1), SERIES, 1, **few),
    )


def test_a_selection_is_the_same_elsewhere_and_in_the_order_of_its_kinds():
    kinds = [sx.HMM(2), HMM]
    alone = sx.select(kinds, DATA, "held_out", DATA, 1, **OPTIONS)
    found = sx.select(kinds, DATA, "held_out", DATA, 1, executor=Here(), **OPTIONS)
    assert [c.held_out for c in found.candidates] == [c.held_out for c in alone.candidates]
    for one, other in zip(found.candidates, alone.candidates, strict=True):
        assert_equal(one.fitted, other.fitted)
    assert found.candidates[0].kind == kinds[0]


def test_restarts_that_were_there_when_a_worker_died_are_kept(tmp_path, monkeypatch):
    alone = sx.fit(sx.HMM(3), DATA, 1, restarts=3, **OPTIONS)
    kept = OPTIONS | {"run_folder": tmp_path / "run"}
    with pytest.raises(sx.WorkerError, match=r"3 results .* the 2 that were ready are in .*run"):
        sx.fit(sx.HMM(3), DATA, 1, restarts=3, executor=Here(dies_at=1), **kept)
    again = Here()
    assert_equal(sx.fit(sx.HMM(3), DATA, 1, restarts=3, executor=again, resume=True, **kept), alone)
    assert again.number == 1


@pytest.mark.parametrize(
    "model",
    [
        HMM,
        sx.fit(sx.HMM(2, order=2), DATA, 0, max_iterations=0, progress=False).model,
        sx.models.tom_quantum(),
        sx.LinearGaussianModel([0.0], [[1.0]], [[[0.5]]], [[1.0]], [[1.0]], [[1.0]]),
        sx.GPT(sx.GPTConfig(vocab_size=4, block_size=8, n_layer=1, n_head=1, n_embd=8), key=jax.random.key(0)),
        sx.start(HMM),
        sx.HMM(3, order=2),
        sx.LinearGaussian(2, inputs=np.ones((3, 1))),
        sx.RESULTS.degenerate_state,
        jax.random.key(7),
    ],
    ids=lambda model: type(model).__name__,
)
def test_models_kinds_results_and_keys_are_what_they_were_after_a_journey(model):
    after = pickle.loads(pickle.dumps(model))
    assert type(after) is type(model)
    assert jax.tree.structure(after) == jax.tree.structure(model)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(model), strict=True):
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
        if jax.dtypes.issubdtype(getattr(one, "dtype", np.float64), jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert np.array_equal(one, other) or one == other


def test_data_and_errors_are_what_they_were_after_a_journey():
    data = pickle.loads(pickle.dumps(sx.Sequences.from_arrays([[0, 1], [1]], names=["a", "b"])))
    assert (data.lengths.tolist(), data.names, data.n_observed) == ([2, 1], ("a", "b"), 3)
    error = pickle.loads(pickle.dumps(sx.ImpossibleTokenError(1, 2, 3)))
    assert (error.sequence, error.position, error.token) == (1, 2, 3)
    for raised in (
        sx.ImpossibleTokenError(1, 2, "0.5, 3", "Observation"),
        sx.WorkerError({0: 5}, 2),
        sx.WorkerError({}, 2, "are in run"),
        sx.CheckpointError("torn"),
    ):
        after = pickle.loads(pickle.dumps(raised))
        assert (type(after), str(after), vars(after)) == (type(raised), str(raised), vars(raised))


@pytest.mark.parametrize("restarts", [1, 3])
def test_rejects_what_is_not_an_executor_before_any_work(restarts):
    for kind, data in ((sx.HMM(3), DATA), (sx.HMM(2, emission="poisson"), COUNTS), (sx.LinearGaussian(1), SERIES)):
        with pytest.raises(sx.ConfigurationError, match="executor=5"):
            sx.fit(kind, data, restarts=restarts, executor=5)
    with pytest.raises(sx.ConfigurationError, match="executor='pool'"):
        sx.select([sx.HMM(2)], DATA, executor="pool")


def test_rejects_an_executor_where_a_verb_takes_none():
    with pytest.raises(sx.ConfigurationError, match="executor"):
        sx.filter(HMM, [0, 1], executor=Here())
