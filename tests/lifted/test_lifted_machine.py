"""The register machine and class R1 compiled to it, against fractions and against real softmax."""

import json

import numpy as np
import pytest
from lifted_oracles import pool, r1_labels

from steerax import ConfigurationError, DataError
from steerax.lifted import R1, Layer, Readout, Weights, alphabet, tasks
from steerax.lifted.certificate.check import exact_label
from steerax.transformer.quantized import Forget, Local, Pool, QuantizedNetwork


def random_weights(rng, model, depth):
    pick = lambda a: tuple(map(tuple, a.tolist()))
    layers = [Layer(pick(rng.choice(model.matrices)), pick(rng.choice(model.rows, 2))) for _ in range(depth)]
    w = tuple(rng.choice(model.directions).tolist())
    return Weights(tuple(layers), Readout(w, int(rng.integers(-3, 4)), bool(rng.integers(2))))


@pytest.mark.parametrize("table", ["hard", "mean", "softmax", "linear"])
@pytest.mark.parametrize("rounding", ["up", "odd"])
def test_pool_is_the_rounded_integral_against_the_tokens(table, rounding):
    rng = np.random.default_rng(7)
    weights = {
        "hard": alphabet.hard_attention(),
        "mean": alphabet.mean_attention(),
        "softmax": alphabet.softmax_attention(2.0, 8),
        "linear": None,
    }[table]
    for causal in (False, True):
        score = rng.integers(0, 9, (5, 5)) * rng.integers(0, 2, (5, 5))
        step = Pool(0, 1, 0, score, weights, rng.integers(-7, 8, 5), causal, rounding)
        q, k = rng.integers(0, 5, (2, 20, 4))
        z = step.apply([q, k])[-1]
        assert z.tolist() == [pool(step, a, b, a) for a, b in zip(q.tolist(), k.tolist(), strict=True)]


def test_odd_rounding_commutes_with_the_sign_and_half_up_does_not():
    x = np.arange(-3, 4)
    codes = np.array([[a, b] for a in range(7) for b in range(7)])
    for rounding, symmetric in (("odd", True), ("up", False)):
        step = Pool(0, 0, 0, np.zeros((7, 7), int), alphabet.mean_attention(), x, rounding=rounding)
        z, minus = step.apply([codes])[-1] - 3, step.apply([6 - codes])[-1] - 3
        assert bool((z == -minus).all()) is symmetric


def test_softmax_table_is_softmax_up_to_its_bits():
    rng = np.random.default_rng(0)
    for temperature, bits in ((1.0, 16), (3.0, 10)):
        E = alphabet.softmax_attention(temperature, bits)
        s = rng.integers(-20, 20, (50, 6))
        w = E[np.minimum(s.max(1, keepdims=True) - s, len(E) - 1)] / 2.0**bits
        real = np.exp((s - s.max(1, keepdims=True)) / temperature)
        assert np.abs(w - real).max() <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("n", [1, 3, 4, 6])
def test_compiled_networks_equal_fractions(n):
    rng = np.random.default_rng(n)
    model, tokens = R1(n), tasks.all_strings(n)
    for depth in (1, 2, 3):
        weights = random_weights(rng, model, depth)
        network = model.network(weights)
        expected = r1_labels(model, weights, tokens)
        assert (network(tokens) == expected).all()
        assert [exact_label(model, weights, t) for t in tokens.tolist()] == expected.tolist()
        again = QuantizedNetwork.from_dict(json.loads(json.dumps(network.to_dict())))
        assert (again(tokens) == expected).all()


def test_larger_vocabularies_spread_evenly():
    model = R1(3, vocabulary=4)
    assert model.embedding[0, :, 0].tolist() == [-3, -1, 1, 3]
    assert model.embedding[:, 0, 1].tolist() == [-3, 0, 3]


def test_there_are_273_matrices_up_to_scale():
    assert len(alphabet.score_matrices()) == 273
    assert len(alphabet.score_matrices(up_to_scale=False)) > 273


def test_labels_of_the_tasks():
    ones = {name: int(task(4).labels.sum()) for name, task in tasks.TASKS.items()}
    assert ones == {
        "parity": 8, "majority": 5, "palindrome": 4, "sorted": 5, "dyck": 2, "first_last": 8, "contains_11": 8,
        "contains_101": 4, "ones_mod_3": 5, "two_ones": 6, "alternating": 2, "last_is_majority": 11,
    }  # fmt: skip


def test_rejects_malformed_networks_and_data():
    x = np.arange(3)
    with pytest.raises(ConfigurationError, match="looked up"):
        QuantizedNetwork(np.array([[0, 4]]), (Local(0, 0, np.zeros((2, 2), int)),), np.array([0, 1]))
    with pytest.raises(ConfigurationError, match="best token"):
        Pool(0, 0, 0, np.zeros((3, 3), int), np.array([0, 1]), x)
    with pytest.raises(ConfigurationError, match="≥ 0"):
        Pool(0, 0, 0, -np.ones((3, 3), int), None, x)
    with pytest.raises(ConfigurationError, match="codes"):
        Local(0, 0, np.array([[-1]]))
    with pytest.raises(ConfigurationError, match="2\\*\\*50"):
        Pool(0, 0, 0, np.zeros((1, 1), int), np.array([2**40]), np.array([2**20]))
    with pytest.raises(ConfigurationError, match="format 99"):
        QuantizedNetwork.from_dict({"format": 99})
    with pytest.raises(ConfigurationError, match="not an integer network"):
        QuantizedNetwork.from_dict({"format": 1})
    network = QuantizedNetwork(np.array([[0, 1], [0, 1]]), (Forget((0,)),), np.array([0, 1]))
    with pytest.raises(DataError, match="sequences of 2 tokens"):
        network(np.zeros((1, 3), int))
    with pytest.raises(DataError, match=r"tokens 0\.\.1"):
        network(np.full((1, 2), 2))


def test_rejects_impossible_classes_and_tasks():
    with pytest.raises(ConfigurationError, match="levels=1"):
        R1(3, 1, vocabulary=3)
    with pytest.raises(ConfigurationError, match="at least one choice"):
        R1(3, rows=np.zeros((0, 2), int))
    with pytest.raises(ConfigurationError, match="Read-out"):
        R1(3, directions=np.array([[2, 1]]))
    with pytest.raises(ConfigurationError, match="even"):
        tasks.dyck(3)
    with pytest.raises(ConfigurationError, match="pattern"):
        tasks.contains(4, "12")
    with pytest.raises(ConfigurationError, match="number from 1 to 10"):
        tasks.parity(20)
    with pytest.raises(ConfigurationError, match="temperature"):
        alphabet.softmax_attention(0.0)
