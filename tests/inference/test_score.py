"""One score for whatever predicts tokens: the same numbers from a model, an object, a function and a network."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.inference.predictor import as_predictor
from steerax.inference.score import difference, next_token_log_probabilities

rng = np.random.default_rng(3)
MU, A, C = oracles.sparse_hmm(rng, 3, 4, zeros=0.0)
HMM = sx.HiddenMarkovModel(MU, A, C)
DATA = sx.Sequences.from_arrays([oracles.draw(rng, MU, A, C, n) for n in (7, 5, 1)])


def log_predictions(tokens):
    """Row t: log p(z | the first t + 1 tokens), by the textbook filter."""
    states, _ = oracles.loop_filter(MU, A, C, np.asarray(tokens))
    return np.log(states[1:] @ C)


class Object:
    def log_probabilities(self, tokens):
        return log_predictions(tokens)


class Network(eqx.Module):
    """The filter as a network: logits up to a constant."""

    hmm: sx.HiddenMarkovModel

    def __call__(self, tokens):
        return jnp.log(sx.filter(self.hmm, tokens, on_impossible="skip").next_all()[1:]) + 3.0


@pytest.mark.parametrize("predictor", [Object(), log_predictions, lambda z: log_predictions(z) - 7.0, Network(HMM)])
def test_anything_that_predicts_has_the_score_of_the_model_on_all_tokens_but_the_first(predictor):
    own, other = sx.score(HMM, DATA), sx.score(predictor, DATA)
    assert own.scored.sum() == DATA.n_observed
    assert other.scored.sum() == DATA.n_observed - 3
    np.testing.assert_allclose(other.log_likelihoods, own.on(other.scored).log_likelihoods, atol=1e-12)


def test_predictions_of_a_model_start_before_the_first_token():
    log_p = next_token_log_probabilities(HMM, DATA.values[:1])
    np.testing.assert_allclose(log_p[0, 0], np.log(MU @ C), atol=1e-14)
    np.testing.assert_allclose(log_p[0, 1:], log_predictions(DATA[0]), atol=1e-13)


def test_predictors_are_compared_on_the_tokens_that_all_of_them_predict():
    other = sx.HiddenMarkovModel(*oracles.sparse_hmm(np.random.default_rng(8), 2, 4, zeros=0.0))
    compared = sx.compare_predictors({"exact": HMM, "object": Object(), "other": other}, DATA)
    assert {scores.scored.sum() for scores in compared.scores.values()} == {DATA.n_observed - 3}
    excess = compared.excess
    assert set(excess) == {"object", "other"}
    assert abs(excess["object"][0]) < 1e-12
    by_hand = compared.scores["other"].cross_entropy - compared.scores["exact"].cross_entropy
    assert excess["other"][0] == pytest.approx(by_hand)
    assert excess["other"][1] > 0


def test_scores_reject_what_cannot_be_scored():
    gaps = sx.Sequences.from_arrays([np.array([0, -1, 2])])
    with pytest.raises(sx.DataError, match="missing"):
        sx.score(log_predictions, gaps)
    with pytest.raises(sx.DataError, match="observations"):
        sx.score(log_predictions, sx.Sequences.from_arrays([np.zeros(3)]))
    with pytest.raises(sx.DataError, match=r"\[T V\] is needed"):
        sx.score(lambda z: np.zeros(4), DATA)
    with pytest.raises(sx.ConfigurationError, match="does not predict tokens"):
        as_predictor(3)
    with pytest.raises(sx.ConfigurationError, match="not among the predictors"):
        sx.compare_predictors({"a": HMM}, DATA, reference="b")
    with pytest.raises(sx.DataError, match="different tokens"):
        difference(sx.score(HMM, DATA), sx.score(log_predictions, DATA))
