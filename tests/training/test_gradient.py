"""Training makes the steps it says, the same ones however it is cut, stopped, resumed, split or accumulated."""

import os
import re
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import steerax as sx
from steerax._errors import CheckpointError, ConfigurationError, DataError
from steerax.training.batches import TokenFile, Windows
from steerax.training.evaluate import consecutive_windows, evaluate
from steerax.training.loss import loss_and_gradient, negative_log_likelihoods
from steerax.training.optimizer import adamw
from steerax.training.step import Step

CONFIG = sx.GPTConfig(3, 8, 2, 2, 8, dropout=0.1)
KEY = jax.random.key(5)
SGD = optax.sgd(0.1)


def cycle(key, n):
    """0 1 2 0 1 2 … from a random start, with some noise: a process a tiny model learns in a few steps."""
    start, flips = jax.random.randint(key, (8, 1), 0, 3), jax.random.bernoulli(jax.random.fold_in(key, 1), 0.1, (8, 9))
    return (start + jnp.arange(9)[None, :] + flips) % 3


gradient_of = jax.jit(loss_and_gradient, static_argnames=("accumulate", "precision"))
likelihoods_of = jax.jit(negative_log_likelihoods)


@pytest.fixture(scope="module")
def gpt():
    return sx.GPT(CONFIG, key=jax.random.key(1))


@pytest.fixture(scope="module")
def whole(gpt):
    return sx.train_gpt(gpt, cycle, 40, KEY, SGD, every=10)


def data(seed=0):
    rng = np.random.default_rng(seed)
    return sx.Sequences.from_arrays([rng.integers(0, 3, n) for n in (30, 5, 2, 17)])


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.model, b.model)
    np.testing.assert_array_equal(a.losses, b.losses)


def test_a_step_is_gradient_descent(gpt, whole):
    for_data, for_dropout = jax.random.split(KEY)
    model = gpt
    for n in range(2):
        tokens = cycle(jax.random.fold_in(for_data, n), n).astype(jnp.int32)
        loss, gradient = gradient_of(model, tokens, jax.random.fold_in(for_dropout, n))
        model = jax.tree.map(lambda p, g: p - 0.1 * g, model, gradient)
        np.testing.assert_allclose(whole.losses[n], loss, rtol=1e-5)
    assert whole.step == 40
    assert whole.losses.shape == (40,)
    assert whole.result == sx.RESULTS.successful


def test_the_caller_keeps_the_model_as_it_was(gpt, whole):
    fresh = sx.GPT(CONFIG, key=jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, gpt, fresh)


@pytest.mark.slow
def test_a_seed_is_the_key_made_from_it():
    seeded, keyed = (sx.GPT(CONFIG, key=key) for key in (3, jax.random.key(3)))
    jax.tree.map(np.testing.assert_array_equal, seeded, keyed)
    same(*(sx.train_gpt(seeded, cycle, 2, key, SGD) for key in (5, KEY)))
    np.testing.assert_array_equal(*(sx.sample_tokens(seeded, np.array([1]), 9, key) for key in (5, KEY)))
    np.testing.assert_array_equal(*(sx.sample_sequences(sx.models.casino(), key, 2, 5).values for key in (5, KEY)))


def test_resuming_gives_the_same_losses_bit_for_bit(tmp_path, gpt, whole):
    stop = lambda s: {"stop": s.step >= 15}
    options = {"every": 5, "save_every": 7, "run_folder": tmp_path / "run"}
    part = sx.train_gpt(gpt, cycle, 40, KEY, SGD, hooks=[stop], **options)
    assert part.step == 15
    assert part.result == sx.RESULTS.stopped
    same(sx.train_gpt(gpt, cycle, 40, KEY, SGD, resume=True, **options), whole)
    # a finished run resumes to itself
    same(sx.train_gpt(gpt, cycle, 40, KEY, SGD, resume=True, **options), whole)


def test_ctrl_c_is_an_ending_not_an_error(tmp_path, gpt, whole):
    once = lambda s: os.kill(os.getpid(), signal.SIGINT) if s.step == 20 else None
    options = {"every": 10, "run_folder": tmp_path / "run"}
    part = sx.train_gpt(gpt, cycle, 40, KEY, SGD, hooks=[once], **options)
    assert part.result == sx.RESULTS.interrupted
    assert part.step == 20
    same(sx.train_gpt(gpt, cycle, 40, KEY, SGD, resume=True, **options), whole)


@pytest.mark.slow
def test_training_learns_the_process(gpt):
    run = sx.train_gpt(gpt, cycle, 400, KEY, learning_rate=0.02, every=400)
    assert run.losses[:5].mean() > 1.05
    assert run.losses[-20:].mean() < 0.8


@pytest.mark.slow
def test_accumulation_does_not_change_the_gradient(gpt):
    gpt64 = sx.GPT(sx.GPTConfig(3, 8, 2, 2, 8), key=KEY).astype(jnp.float64)
    tokens = cycle(KEY, 0).astype(jnp.int32).at[2, 4:].set(-1)
    whole = gradient_of(gpt64, tokens, KEY)
    parts = gradient_of(gpt64, tokens, KEY, accumulate=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-14), whole, parts)


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters_and_a_near_gradient(gpt):
    tokens = cycle(KEY, 0).astype(jnp.int32)
    plain = sx.GPT(sx.GPTConfig(3, 8, 1, 2, 8), key=KEY)
    exact = gradient_of(plain, tokens, KEY)[1].blocks.qkv.weight
    rounded = gradient_of(plain, tokens, KEY, precision="bfloat16")[1].blocks.qkv.weight
    assert rounded.dtype == jnp.float32
    assert jnp.linalg.norm(exact - rounded) < 0.05 * jnp.linalg.norm(exact)


@pytest.mark.slow
def test_losses_are_log_probabilities_of_the_scored_tokens(gpt):
    tokens = jnp.array([[0, 2, 1, -1]])
    expected = -jax.nn.log_softmax(gpt(tokens[0, :3]), axis=-1)[jnp.arange(2), tokens[0, 1:3]]
    np.testing.assert_allclose(negative_log_likelihoods(gpt, tokens), [[*expected, 0.0]], rtol=1e-6)


def test_windows_are_uniform_over_all_starts_and_stay_inside():
    sequences = data()
    source = Windows(sequences, 4000, 9)
    batch = np.asarray(source.batch(None, KEY, jnp.int32(3), jnp.int32(0)))
    found = {row.tobytes(): n for row, n in zip(*np.unique(batch, axis=0, return_counts=True), strict=True)}
    possible = [s[i : i + 9] for s in sequences for i in range(max(1, len(s) - 8))]
    padded = {np.pad(w, (0, 9 - len(w)), constant_values=-1).astype(np.int32).tobytes() for w in possible}
    assert set(found) == padded
    counts = np.array(list(found.values()))
    assert (np.abs(counts - 4000 / len(possible)) < 6 * (4000 / len(possible)) ** 0.5).all()


def test_a_token_file_is_read_in_windows_that_depend_on_the_step_only(tmp_path):
    tokens = np.arange(1000, dtype=np.uint16)
    np.save(tmp_path / "a.npy", tokens)
    source = TokenFile(np.load(tmp_path / "a.npy", mmap_mode="r"), 4, 9, 1000)
    chunk = source.fetch(KEY, 5, 3)
    assert (np.diff(chunk[:3], axis=-1) == 1).all()
    np.testing.assert_array_equal(chunk[2], source.fetch(KEY, 7, 1)[0])
    assert not np.array_equal(chunk[0], chunk[1])


@pytest.mark.slow
def test_training_from_a_file_equals_training_from_its_array(tmp_path, gpt):
    tokens = np.random.default_rng(0).integers(0, 3, 500)
    tokens.astype(np.uint16).tofile(tmp_path / "a.bin")
    from_file = sx.train_gpt(gpt, tmp_path / "a.bin", 20, KEY, SGD, batch_size=8)
    assert len(from_file.losses) == 20
    same(from_file, sx.train_gpt(gpt, tokens, 20, KEY, SGD, batch_size=8))


def test_evaluation_scores_every_token_but_the_first_once(gpt):
    sequences = data()
    windows = consecutive_windows(sequences, 8)
    assert (windows[:, 1:] >= 0).sum() == sequences.total - 4
    expected = [np.asarray(likelihoods_of(gpt, jnp.asarray(w[None]))) for w in windows]
    mean = np.sum(expected) / (sequences.total - 4)
    np.testing.assert_allclose(evaluate(gpt, sequences, batch_size=3), mean, rtol=1e-6)


@pytest.mark.slow
def test_early_stop_keeps_the_best_model(tmp_path, gpt):
    options = {
        "batch_size": 8,
        "held_out": data(1),
        "patience": 2,
        "every": 5,
        "run_folder": tmp_path / "r",
        "save_every": 5,
    }
    run = sx.train_gpt(gpt, data(), 400, KEY, optax.sgd(0.3), **options)
    assert run.result == sx.RESULTS.stopped
    assert run.step < 400
    best = run.held_out[:, 1].argmin()
    assert best == len(run.held_out) - 3
    np.testing.assert_allclose(evaluate(run.best_model, data(1)), run.held_out[best, 1], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, sx.load(tmp_path / "r" / "best"), run.best_model)


@pytest.mark.slow
def test_a_diverging_run_says_so(gpt):
    run = sx.train_gpt(gpt, cycle, 60, KEY, optax.sgd(1e30), every=10)
    assert run.result == sx.RESULTS.diverged
    assert run.step < 60


def test_no_float64_appears_in_a_float32_step_under_x64(gpt):
    optimizer = adamw(100, 0.01)
    state = gpt, optimizer.init(gpt)
    step = Step(optimizer, 2, "float32", None)
    jaxpr = jax.make_jaxpr(step)(state, jnp.zeros((2, 9), jnp.int32), KEY)
    # the schedule of the learning rate is a scalar in the default precision; arrays are not
    assert not re.findall(r"f64\[\d", str(jaxpr))
    assert not [a for a in jaxpr.out_avals if a.dtype == np.float64]


@pytest.mark.slow
def test_eight_devices_make_the_steps_of_one():
    code = """
    import jax, numpy as np, optax, steerax as sx
    def cycle(key, n):
        return (jax.random.randint(key, (16, 1), 0, 3) + jax.numpy.arange(9)[None, :]) % 3
    gpt = sx.GPT(sx.GPTConfig(3, 8, 1, 2, 8), key=jax.random.key(1))
    tokens = np.random.default_rng(0).integers(0, 3, 300)
    for data in (cycle, tokens):
        runs = [sx.train_gpt(gpt, data, 10, jax.random.key(0), optax.sgd(0.5), batch_size=16, devices=d)
                for d in (None, jax.devices())]
        assert len(runs[1].model.ln_final.weight.sharding.device_set) == 8
        np.testing.assert_allclose(runs[0].losses, runs[1].losses, rtol=1e-5)
    """
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": sx.Sequences.from_arrays([np.array([0, 3])])}, DataError, "token 3"),
        ({"data": sx.Sequences.from_arrays([np.array([0, -1, 2])])}, DataError, "missing=True"),
        ({"data": sx.Sequences.from_arrays([np.array([0]), np.array([1])])}, DataError, "fewer than two"),
        ({"data": sx.Sequences.from_arrays([np.array([0.5])])}, DataError, "observations"),
        ({"data": np.zeros(5, int)}, DataError, "fewer than one window"),
        ({"data": np.zeros((2, 5))}, DataError, "one row of integers"),
        ({"data": np.full(50, 3)}, DataError, "token 3"),
        ({"data": "absent.npy"}, DataError, "no token file"),
        ({"data": 5}, ConfigurationError, "give Sequences"),
        ({"data": lambda key, n: jnp.zeros((2, 11), int)}, ConfigurationError, "shape"),
        ({"steps": -1}, ConfigurationError, "steps is -1"),
        ({"precision": "float8"}, ConfigurationError, "choose one of"),
        ({"accumulate": 3}, ConfigurationError, "equal parts"),
        ({"learning_rate": -1.0, "optimizer": None}, ConfigurationError, "above 0"),
        ({"held_out": data(), "patience": 0}, ConfigurationError, "patience"),
    ],
)
def test_rejects_what_cannot_be_trained_on(gpt, change, error, message):
    options = {"data": cycle, "steps": 3, "optimizer": SGD} | change
    with pytest.raises(error, match=message):
        sx.train_gpt(gpt, options.pop("data"), options.pop("steps"), KEY, options.pop("optimizer"), **options)


def test_rejects_to_resume_another_run(tmp_path, gpt):
    sx.train_gpt(gpt, cycle, 2, KEY, SGD, run_folder=tmp_path / "run")
    with pytest.raises(CheckpointError, match="differs in batch_size, steps"):
        sx.train_gpt(gpt, cycle, 3, KEY, SGD, run_folder=tmp_path / "run", resume=True, batch_size=3)


def test_a_finished_run_can_be_prolonged(gpt, whole, tmp_path):
    first = sx.train_gpt(gpt, cycle, 25, KEY, SGD, every=10, run_folder=tmp_path / "r")
    more = sx.train_gpt(gpt, cycle, 40, KEY, SGD, every=10, run_folder=tmp_path / "r", resume=True)
    assert (first.step, more.step) == (25, 40)
    np.testing.assert_array_equal(more.losses, whole.losses)
    with pytest.raises(CheckpointError, match="differs in steps"):
        sx.train_gpt(gpt, cycle, 30, KEY, SGD, every=10, run_folder=tmp_path / "r", resume=True)
