"""Tuning: the loss it lowers is the loss of the network, at the number of sub-steps drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steerax as sx
from steerax.depth.change.resample import resample
from steerax.depth.change.tune import batch_loss, tune
from steerax.depth.measure.scoring import mean_loss

ROW = np.random.default_rng(2).integers(0, 7, 7)  # block_size + 1 tokens: the only window there is
DATA = sx.Sequences.from_arrays([ROW])


@pytest.mark.slow
def test_the_loss_of_a_step_is_the_loss_of_the_network_and_it_falls(small_gpt):
    gpt = small_gpt(scale=0.2, dtype="float32")
    made = resample(gpt, 2)
    run = tune(made, DATA, 20, jax.random.key(0), batch_size=2, progress=False)
    np.testing.assert_allclose(run.losses[0], mean_loss(made, ROW[None]), rtol=1e-5)
    assert run.losses[-1] < run.losses[0]
    assert (run.model.method, run.model.groups) == (made.method, made.groups)
    np.testing.assert_allclose(mean_loss(run.model, ROW[None]), run.losses[-1], rtol=0.2)
    assert run.result == sx.RESULTS.successful


@pytest.mark.slow
def test_substeps_are_those_of_the_deeper_network(small_gpt):
    gpt = small_gpt(scale=0.2)
    twice = resample(gpt, 6, method="lie_trotter")
    np.testing.assert_allclose(batch_loss(gpt, jnp.asarray(ROW[None]), 2), mean_loss(twice, ROW[None]), rtol=1e-11)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda gpt: tune(gpt, DATA, 0, jax.random.key(0)), "steps is 0"),
        (lambda gpt: tune(gpt, DATA, 3, jax.random.key(0), substeps=(0, 1)), "sub-steps is 0"),
        (lambda gpt: tune(resample(gpt, 2), DATA, 3, jax.random.key(0), substeps=(1, 2)), "one sub-step"),
    ],
)
def test_rejects_tuning_that_cannot_be(call, match, small_gpt):
    with pytest.raises(sx.ConfigurationError, match=match):
        call(small_gpt())
