"""Every verb over all devices of this process, or of two, against the same verb on one device; asserts, and prints "same".

python device_cases.py what [port index folder], what: shares, all, numbers or two
"""

import sys

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 2:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, int(sys.argv[3]))

from jax.experimental.multihost_utils import sync_global_devices  # noqa: E402

import steerax as sx  # noqa: E402
from steerax.inference import devices  # noqa: E402
from steerax.inference.hmm.kernels.em import em_step  # noqa: E402
from steerax.inference.hmm.restarts import Prepared  # noqa: E402
from steerax.inference.linear.kernels.em import Data, expectation  # noqa: E402

HMM = sx.models.random_hmm(jax.random.key(0), 4, 5)
LINEAR = sx.LinearGaussianModel(
    [0.0, 0.0], np.eye(2), [[[0.9, 0.1], [0, 0.5]]], [[1.0, 0.3]], np.eye(2) * 0.5, [[1.0]]
)  # fmt: skip


def tokens(number: int) -> sx.Sequences:
    """Sequences of unlike lengths with gaps."""
    full = sx.sample_sequences(HMM, jax.random.key(1), number, 30).values
    full = np.where(np.random.default_rng(0).random(full.shape) < 0.1, -1, full)
    return sx.Sequences.from_arrays([row[: 30 - i % 7] for i, row in enumerate(full)])


def series(number: int) -> sx.Sequences:
    """The same of numbers."""
    draw = lambda i: np.random.default_rng(i).normal(size=(20 - i % 3, 1)).cumsum(0)
    parts = [draw(i) for i in range(number)]
    parts[0][3] = np.nan
    return sx.Sequences.from_arrays(parts)


def same(alone, found, rtol=1e-12):
    """Two trees of arrays agree to rounding; parts of other processes are fetched."""
    one, other = jax.tree.leaves(alone), jax.tree.leaves(found)
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        if hasattr(a, "shape"):
            np.testing.assert_allclose(devices.on_host(b), np.asarray(a), rtol=rtol, atol=rtol)


def filters(model, data):
    """Every array of a filter."""
    names = "predicted", "filtered", "log_likelihoods", "log_likelihood"
    alone, found = sx.filter(model, data), sx.filter(model, data.over())
    for name in names:
        same(getattr(alone, name), getattr(found, name))
    same(alone.next(), found.next())
    assert bool(found.result == alone.result)


def shares():
    """Every device holds its share of the data and of the results, and counting moves sums only."""
    data = tokens(16).over()
    mesh, n = devices.mesh_of(data), jax.device_count()
    prepared = Prepared.of(data, HMM)
    states = sx.filter(HMM, data).states
    smoothed = sx.smooth(HMM, data).smoothed
    for array, axis in ((prepared.rows, 1), (prepared.lengths, 0), (states, 1), (smoothed, 0)):
        share = tuple(16 // n if i == axis else size for i, size in enumerate(array.shape))
        assert len(array.sharding.device_set) == n
        assert all(part.data.shape == share for part in array.addressable_shards)
    ins, static = (None, None, None, 1, 0, None), (("block", 8), ("per_chunk", 4), ("axis", devices.AXIS))
    counting = devices.mapped(mesh, em_step, ins, None, static)
    program = counting.lower(*HMM.arrays, prepared.rows, prepared.lengths, sx.Pseudocounts()).compile().as_text()
    assert_only_sums(program)


def shares_of_series():
    """The same of linear models."""
    data = series(16).over()
    mesh, n = devices.mesh_of(data), jax.device_count()
    x = sx.filter(LINEAR, data).run.x
    assert all(part.data.shape == (16 // n, *x.shape[1:]) for part in x.addressable_shards)
    z = devices.spread(mesh, np.zeros((16, 20, 1)), 0)
    mask, inside, w = z == 0, z[..., 0] == 0, z[..., :0]
    moments = devices.mapped(mesh, expectation, (None, 0, None), None, (("axis", devices.AXIS),))
    program = moments.lower(LINEAR, Data(z, mask, inside, w), np.zeros((1, 0))).compile().as_text()
    assert_only_sums(program)


def assert_only_sums(program: str):
    assert "all-reduce" in program
    for other in ("all-gather", "all-to-all", "collective-permute"):
        assert other not in program


def fits(number: int):
    """Baum-Welch from random starts, and both ways of fitting a linear model."""
    data = tokens(number)
    options = {"max_iterations": 12, "tolerance": 0.0, "restarts": 2, "screening": 5, "progress": False}
    alone, found = sx.fit(sx.HMM(3), data, 0, **options), sx.fit(sx.HMM(3), data.over(), 0, **options)
    same((alone.model.arrays, alone.log_likelihoods), (found.model.arrays, found.log_likelihoods))
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(found.model.arrays))
    data = series(number)
    options = {"max_iterations": 6, "tolerance": 0.0, "progress": False}
    kind = sx.LinearGaussian(1, start="free")
    alone, found = (sx.fit(kind, each, 0, method="em", **options) for each in (data, data.over()))
    same((alone.model, alone.log_likelihoods), (found.model, found.log_likelihoods))
    alone, found = (sx.fit(sx.LinearGaussian(1), each, 0, **options) for each in (data, data.over()))
    same(alone.log_likelihoods, found.log_likelihoods, 1e-9)  # the metric of its steps is a difference quotient


def shared_run(folder: str):
    """A fit that two processes share is kept by one of them, and both go on from there to what one process finds."""
    data, options = tokens(5), {"tolerance": 0.0, "restarts": 2, "screening": 3, "progress": False}
    alone = sx.fit(sx.HMM(3), data, 0, max_iterations=8, **options)
    half = sx.fit(sx.HMM(3), data.over(), 0, max_iterations=5, run_folder=folder, **options)
    assert len(half.log_likelihoods) == 6
    sync_global_devices("saved")
    found = sx.fit(sx.HMM(3), data.over(), 0, max_iterations=8, run_folder=folder, resume=True, **options)
    same((alone.model.arrays, alone.log_likelihoods), (found.model.arrays, found.log_likelihoods))


def chains(number: int):
    data = tokens(number)
    filters(HMM, data)
    same(sx.smooth(HMM, data).smoothed, sx.smooth(HMM, data.over()).smoothed)
    same(sx.most_likely_states(HMM, data), sx.most_likely_states(HMM, data.over()))
    for options in ({}, {"initial": "prior"}, {"layers": 3, "keep": True}, {"layers": 2}):
        alone, found = sx.dual_filter(HMM, data, **options), sx.dual_filter(HMM, data.over(), **options)
        assert alone.layers == found.layers
        same((alone.predicted, alone.residuals, alone.history), (found.predicted, found.residuals, found.history))
    score(HMM, data)
    same(sx.forecast(HMM, data, 3).probabilities, sx.forecast(HMM, data.over(), 3).probabilities)


def score(model, data):
    alone, found = sx.score(model, data), sx.score(model, data.over())
    same(
        (alone.log_likelihoods, np.asarray(alone.standard_error)),
        (found.log_likelihoods, np.asarray(found.standard_error)),
    )


def underflowing():
    """Beliefs of one sequence fall below the smallest number; of another a token is impossible."""
    model = sx.HiddenMarkovModel(np.full(2, 0.5), np.eye(2), [[0.99, 0.01], [0.01, 0.99]])
    rows = np.random.default_rng(0).integers(0, 2, (8, 900))
    rows[5, :450], rows[5, 450:] = 0, 1
    data = sx.Sequences.from_arrays(list(rows))
    assert sx.filter(model, data).lost_mass
    filters(model, data)
    same(sx.smooth(model, data).smoothed, sx.smooth(model, data.over()).smoothed)
    model = sx.HiddenMarkovModel([1.0, 0.0], np.eye(2), [[1.0, 0.0], [0.0, 1.0]])
    data = sx.Sequences.from_arrays([[0, 0], [0, 1], [0, 0]])
    with pytest.raises(sx.ImpossibleTokenError) as error:
        sx.filter(model, data.over())
    assert (error.value.sequence, error.value.position, error.value.token) == (1, 1, 1)
    alone, found = (sx.filter(model, each, on_impossible="skip") for each in (data, data.over()))
    same((alone.states, alone.log_likelihoods), (found.states, found.log_likelihoods))
    score_skipped = [sx.score(model, each, on_impossible="skip").log_likelihoods for each in (data, data.over())]
    np.testing.assert_array_equal(*score_skipped)


def others(number: int):
    """Linear and generalised models, and a network."""
    data = series(number)
    filters(LINEAR, data)
    same(sx.smooth(LINEAR, data).smoothed, sx.smooth(LINEAR, data.over()).smoothed)
    same(sx.forecast(LINEAR, data, 3).mean, sx.forecast(LINEAR, data.over(), 3).mean)
    same(sx.dual_filter(LINEAR, data).predicted, sx.dual_filter(LINEAR, data.over()).predicted)
    score(LINEAR, data)
    process = sx.models.tom_quantum()
    data = sx.Sequences.from_arrays(list(np.asarray(sx.sample(process, 0, 12, number)[1])))
    same(sx.filter(process, data).predicted, sx.filter(process, data.over()).predicted)
    same(sx.dual_filter(process, data).predicted, sx.dual_filter(process, data.over()).predicted)
    score(process, data)
    gpt = sx.GPT(sx.GPTConfig(vocab_size=4, block_size=16, n_layer=1, n_head=1, n_embd=8), key=jax.random.key(0))
    one, several = (sx.score(gpt, each).log_likelihoods for each in (data, data.over()))
    same(one, several, 1e-6)  # its numbers are single


def numbers(number: int):
    """Chains that emit numbers, some of which are missing, and one that reads the observations before."""
    E, chain = sx.emissions, ([0.6, 0.4], [[0.9, 0.1], [0.2, 0.8]])
    gaussian = E.Gaussian([[0.0], [1.0]], [[[1.0]], [[0.5]]])
    switching = E.Autoregressive([[0.0], [1.0]], [[[[0.9]]], [[[-0.5]]]], [[[0.2]], [[1.0]]])
    whole = sx.Sequences.from_arrays([np.nan_to_num(part) for part in series(number)])
    options = {"max_iterations": 4, "tolerance": 0.0, "restarts": 2, "screening": 2, "progress": False}
    for emission, data in ((gaussian, series(number)), (switching, whole)):
        model = sx.HiddenMarkovModel(*chain, emission)
        one, other = (sx.filter(model, each) for each in (data, data.over()))
        for name in ("predicted", "filtered", "log_likelihoods", "log_likelihood"):
            same(getattr(one, name), getattr(other, name))
        same(one.next().mean, other.next().mean)
        same(sx.smooth(model, data).smoothed, sx.smooth(model, data.over()).smoothed)
        same(sx.most_likely_states(model, data), sx.most_likely_states(model, data.over()))
        same(sx.dual_filter(model, data).predicted, sx.dual_filter(model, data.over()).predicted)
        score(model, data)
        same(sx.forecast(model, data, 1).mean, sx.forecast(model, data.over(), 1).mean)
        alone, found = (sx.fit(model, each, 0, **options) for each in (data, data.over()))
        same((alone.model.parameters, alone.log_likelihoods), (found.model.parameters, found.log_likelihoods), 1e-9)
    alone, found = (sx.fit(sx.HMM(2, emission="gaussian"), each, 0, **options) for each in (data, data.over()))
    same((alone.model.parameters, alone.log_likelihoods), (found.model.parameters, found.log_likelihoods), 1e-9)


if sys.argv[1] == "shares":
    shares()
elif sys.argv[1] == "all":
    shares_of_series()
    for count in (16, 13):  # equal shares, and not
        chains(count)
        others(count)
        fits(count)
    underflowing()
elif sys.argv[1] == "numbers":
    for count in (16, 5):
        numbers(count)
else:
    shares()
    chains(5)
    filters(LINEAR, series(5))
    score(LINEAR, series(5))
    underflowing()
    fits(5)
    shared_run(sys.argv[4])
print("same")
