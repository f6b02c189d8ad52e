"""Contributions found by sampling are those found by counting every continuation."""

import itertools

import numpy as np
import pytest

from steerax.experiments.compare.contributions import adapted_weights, hmm_predictor, path_contributions
from steerax.inference.hmm.filter import filter_tokens
from steerax.inference.predictor import next_token_predictor
from steerax.inference.reference import Reference, support
from steerax.inference.represent import continued_strings, latin_table, represent
from steerax.models import HiddenMarkovModel, casino, random_hmm, two_cycle


def predict_after(hmm, string, token) -> float:
    """p(next token | string) by the definition: sum over all hidden paths."""
    a = np.asarray(hmm.initial)
    for z in string:
        a = (a * np.asarray(hmm.emission)[:, z]) @ np.asarray(hmm.transition)
    return float(a @ np.asarray(hmm.emission)[:, token] / a.sum())


def reference_of(kind, hmm):
    return Reference.of({"uniform": "uniform", "support": support(hmm), "hmm": hmm}[kind], hmm.n_tokens)


def weight_of(hmm, prefix, continuation, kind) -> float:
    """Probability of a continuation under a reference, token by token."""
    string, weight = list(prefix), 1.0
    for z in continuation:
        law = np.array([predict_after(hmm, string, v) for v in range(hmm.n_tokens)])
        if kind == "support":
            law = (law > 0) / np.count_nonzero(law > 0)
        if kind == "uniform":
            law = np.full(len(law), 1 / len(law))
        weight *= law[z]
        if weight == 0:
            break
        string.append(z)
    return weight


def mean_prediction(hmm, prefix, q, target, kind) -> float:
    """S_t^q by enumeration of all continuations."""
    total = 0.0
    for rest in itertools.product(range(hmm.n_tokens), repeat=q - len(prefix)):
        weight = weight_of(hmm, prefix, rest, kind)
        if weight > 0:
            total += weight * predict_after(hmm, [*prefix, *rest], target)
    return total


@pytest.mark.parametrize("kind", ["uniform", "hmm"])
def test_sampled_contributions_agree_with_enumeration(kind, key):
    hmm = random_hmm(key, 3, 2)
    tokens, targets = np.array([1, 0, 0, 1]), np.array([1, 0, 1, 1, 0])
    found, errors = path_contributions(
        {"HMM": hmm_predictor(hmm, targets)}, tokens, reference_of(kind, hmm), samples=4096, seed=0
    )
    for q, t in itertools.product(range(5), range(4)):
        before = mean_prediction(hmm, tokens[:t].tolist(), q, targets[q], kind) if t < q else 0.0
        after = mean_prediction(hmm, tokens[: t + 1].tolist(), q, targets[q], kind) if t < q else 0.0
        assert abs(found["HMM"][q, t] - (after - before)) <= 6 * errors["HMM"][q, t] + 1 / 4096
    assert errors["HMM"].max() < 5e-3


@pytest.mark.slow
def test_on_the_support_a_certain_token_contributes_exactly_nothing():
    hmm = two_cycle(5, 2)
    tokens = np.array([1, 0, 0, 1, 0, 0, 0, 0, 1, 0])
    targets = np.ones(11, dtype=int)
    found, _ = path_contributions({"HMM": hmm_predictor(hmm, targets)}, tokens, reference_of("support", hmm), 32, 0)
    p = np.asarray(filter_tokens(hmm, tokens).next_all())[np.arange(10), tokens]
    certain = p > 1 - 1e-12
    assert 0 < certain.sum() < 10
    assert np.abs(found["HMM"][:, certain]).max() == 0
    assert np.abs(found["HMM"][:, ~certain]).max() > 0.1


@pytest.mark.slow
def test_a_query_is_the_mean_prediction_plus_its_contributions(key):
    """With one continuation per step there is nothing to average, so S_0 is known and the sum is exact."""
    hmm = random_hmm(key, 3, 3)
    tokens, targets = np.array([2, 0, 1, 1, 0]), np.array([0, 1, 2, 0, 1, 2])
    reference = reference_of("uniform", hmm)
    predict = hmm_predictor(hmm, targets)
    found, _ = path_contributions({"HMM": predict}, tokens, reference, samples=8, seed=3)
    rng, along = np.random.default_rng(3), reference.along(tokens)
    paths = np.concatenate([continued_strings(tokens, reference, along, latin_table(rng, 1, 5))[0] for _ in range(8)])
    start, end = predict(paths).mean(0), predict(tokens[None])[0]
    np.testing.assert_allclose(start + found["HMM"][1:].sum(1), end, atol=1e-14)


def test_memoryless_tokens_contribute_nothing():
    hmm = HiddenMarkovModel([1.0], [[1.0]], [[0.2, 0.3, 0.5]])
    tokens, targets = np.array([0, 2, 1]), np.array([0, 1, 2, 0])
    found, _ = path_contributions({"HMM": hmm_predictor(hmm, targets)}, tokens, reference_of("hmm", hmm), 16, 0)
    assert np.abs(found["HMM"]).max() < 1e-15


@pytest.mark.parametrize("kind", ["uniform", "support"])
def test_adapted_weights_are_the_change_of_the_mean(kind, key):
    hmm = random_hmm(key, 3, 3)
    tokens, targets = np.array([2, 0, 1]), np.array([0, 0, 0, 1])
    u = adapted_weights({"HMM": hmm_predictor(hmm, targets)}, tokens, reference_of(kind, hmm), 4096, 0)["HMM"]
    assert u.shape == (2, 3)
    for t, z in itertools.product(range(3), (1, 2)):
        prefix = tokens[:t].tolist()
        change = mean_prediction(hmm, [*prefix, z], 3, 1, kind) - mean_prediction(hmm, prefix, 3, 1, kind)
        assert abs(u[z - 1, t] - change) < 3e-3


def test_the_last_query_is_what_represent_gives():
    hmm = casino()
    tokens = np.array([5, 0, 5, 5, 2, 5])
    targets = np.full(7, 5)
    found, errors = path_contributions({"HMM": hmm_predictor(hmm, targets)}, tokens, reference_of("hmm", hmm), 4096, 1)
    exact = represent(next_token_predictor(hmm, 5), tokens, 6, reference=hmm)
    assert exact.method == "merged beliefs"
    np.testing.assert_array_less(np.abs(found["HMM"][-1] - exact.contributions), 6 * errors["HMM"][-1] + 1e-4)
