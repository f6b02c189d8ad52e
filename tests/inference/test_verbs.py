"""Every verb takes every kind of model that it can serve, and says which kinds those are."""

import inspect

import conditional_oracles
import jax
import numpy as np
import oracles
import pytest

import steerax as sx
from steerax.inference import verbs
from steerax.models import conditional_entropy, entropy_rate

HMM = sx.models.casino()
TOKENS = np.array([0, 5, -1, 5, 2, 5])
DATA = sx.Sequences.from_arrays([TOKENS, TOKENS[:3]])
VERBS = {
    "filter": lambda model, data: sx.filter(model, data),
    "smooth": lambda model, data: sx.smooth(model, data),
    "dual_filter": lambda model, data: sx.dual_filter(model, data),
    "explain": lambda model, data: sx.explain(model, data),
    "forecast": lambda model, data: sx.forecast(model, data, 2),
}


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("stranger", ["a model", None, np.eye(2), lambda tokens: tokens])
def test_a_verb_says_which_models_it_takes(name, stranger):
    with pytest.raises(
        sx.ConfigurationError, match=f"{name} takes a HiddenMarkovModel .*of numbers.* or a linear-Gaussian model"
    ):
        VERBS[name](stranger, TOKENS)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_refuses_an_option_it_does_not_have(name):
    options = {"steps": 2} if name == "forecast" else {}
    with pytest.raises(sx.ConfigurationError, match="has no option 'flavour'"):
        getattr(sx, name)(HMM, TOKENS, **options, flavour=1)


@pytest.mark.parametrize("name", VERBS)
def test_a_batch_is_each_sequence_alone(name):
    together = VERBS[name](HMM, DATA)
    for i, part in enumerate(DATA):
        alone = VERBS[name](HMM, part)
        fields = [
            f
            for f in ("predicted", "filtered", "smoothed", "prior", "probabilities")
            if getattr(alone, f, None) is not None
        ]
        assert fields
        for field in fields:
            one = np.asarray(getattr(alone, field))
            np.testing.assert_allclose(np.asarray(getattr(together, field))[i][: len(one)], one, atol=1e-13)


def test_filtered_distributions_are_those_given_the_token_itself():
    mu, A, C = (np.asarray(a) for a in HMM.arrays)
    r = sx.filter(HMM, TOKENS)
    for t in range(len(TOKENS)):
        seen = TOKENS[: t + 1]
        joint = oracles.joint_law(mu, np.eye(2), C, [TOKENS[0]]) if t == 0 else None
        before = np.asarray(r.predicted[t])
        by_hand = before * (C[:, seen[-1]] if seen[-1] >= 0 else 1)
        np.testing.assert_allclose(r.filtered[t], by_hand / by_hand.sum(), atol=1e-14)
        if joint is not None:
            np.testing.assert_allclose(r.filtered[0], joint / joint.sum(), atol=1e-14)
    np.testing.assert_allclose(r.filtered @ A, r.predicted[1:], atol=1e-14)


def test_the_next_observation_is_that_after_each_sequences_own_end():
    r = sx.filter(HMM, DATA)
    for i, part in enumerate(DATA):
        alone = sx.filter(HMM, part)
        np.testing.assert_allclose(r.next()[i], alone.next(), atol=1e-14)
        np.testing.assert_allclose(r.next(-2)[i], alone.next_all()[-2], atol=1e-14)
        np.testing.assert_allclose(r.next(1)[i], alone.next(1), atol=1e-14)
    with pytest.raises(sx.ConfigurationError, match="no time 7"):
        r.next(7)


def test_a_sample_takes_seeds_and_keys_and_may_be_several():
    states, tokens = sx.sample(HMM, 3, 20)
    again = sx.sample(HMM, jax.random.key(3), 20)
    np.testing.assert_array_equal(tokens, again[1])
    assert states.shape == tokens.shape == (20,)
    assert sx.sample(HMM, 0, 20, 5)[1].shape == (5, 20)
    with pytest.raises(sx.ConfigurationError, match="takes a model"):
        sx.sample("casino", 0, 3)
    with pytest.raises(sx.ConfigurationError, match="not a random key"):
        sx.sample(HMM, "seed", 3)


RNG = np.random.default_rng(0)
ROOMS = {
    "chain": sx.models.random_hmm(0, 2, 2),
    "operators": sx.models.rrxor(),
    "lags": conditional_oracles.lagged(RNG, 2, 2, 2),
    "lags of the emission": conditional_oracles.lagged(RNG, 2, 2, 2, True, 2),
    "many tokens": conditional_oracles.lagged(RNG, 2, 70, 2),
    "lags of states": sx.LaggedHMM([0.5, 0.5], RNG.dirichlet(np.ones(2), (2, 2)), np.eye(2), [0.5, 0.5], reads="states"),
}  # fmt: skip
SLOW_ROOMS = ("lags", "many tokens", "lags of states")


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW_ROOMS else ()) for n in ROOMS])
def test_no_tokens_are_explained_and_drawn_like_any_others(name):
    model, nothing = ROOMS[name], np.zeros(0, int)
    exact = sx.filter(model, nothing).next()
    for queries in (-1, "all", [0]):
        found = sx.explain(model, nothing, queries, method="control")
        assert found.weights.shape == (1, 0, model.n_tokens)
        np.testing.assert_allclose(found.prior[0], exact, atol=1e-14)
    assert sx.explain(model, sx.Sequences.from_arrays([nothing] * 2), method="control").prior.shape == (
        2,
        1,
        len(exact),
    )
    for number, shape in ((None, (0,)), (3, (3, 0))):
        states, tokens = sx.sample(model, 0, 0, number)
        assert states.shape[: len(shape)] == tokens.shape == shape


class Own(sx.AbstractConditionalHMM):
    """A user's model."""

    initial: jax.Array
    emission: jax.Array

    def kernels(self, tokens):
        return np.broadcast_to(np.eye(2), (len(tokens), 2, 2))


STRANGERS = {
    "LaggedHMM": ROOMS["lags"],
    "Own": Own(jax.numpy.array([0.5, 0.5]), jax.numpy.eye(2)),
    "GeneralisedHMM": ROOMS["operators"],
    "LinearGaussianModel": sx.LinearGaussianModel([0.0], [[1.0]], [[[0.9]]], [[1.0]], [[0.1]], [[0.1]]),
    "Gaussian": sx.HiddenMarkovModel([1.0], [[1.0]], sx.emissions.Gaussian([[0.0]], [[[1.0]]])),
    "str": "a model",
}
FUNCTIONS = {
    "align_states": (lambda m: sx.align_states(m, HMM), {"Gaussian"}),
    "align_states to": (lambda m: sx.align_states(HMM, m), {"Gaussian"}),
    "fit_by_gradient": (lambda m: sx.fit_by_gradient(m, DATA, 1, progress=False), {"LaggedHMM", "Gaussian"}),
    "entropy_rate": (entropy_rate, {"GeneralisedHMM"}),
    "conditional_entropy": (lambda m: conditional_entropy(m, 2), {"GeneralisedHMM"}),
    "support": (sx.support, {"GeneralisedHMM"}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_few_models_names_them(name):
    function, takes = FUNCTIONS[name]
    for kind in set(STRANGERS) - takes:
        with pytest.raises(sx.ConfigurationError, match=f"{name.split()[0]} takes .*, not a .*{kind}"):
            function(STRANGERS[kind])


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([0, 5], "Token 5 at position 1"),
        ([-3], "Token -3 "),
        ([0.5], "integer codes"),
        ([[0, 1]], "One string .* 1 sequences"),
        (["a", "b"], "nothing says their codes"),
        ("01", "nothing says their codes"),
        ([0, 1, [1]], None),
        (None, None),
    ],
)
def test_a_model_asked_for_its_kernels_says_what_is_no_string_of_tokens(tokens, said):
    for name in ("chain", "lags", "lags of the emission", "lags of states"):
        for method in ("kernels", "lag_weights", "attention_map", "emissions", "emitted", "unseen"):
            if hasattr(ROOMS[name], method):
                with pytest.raises(sx.DataError, match=said) as error:
                    getattr(ROOMS[name], method)(tokens)
                assert "\n" not in str(error.value)


def test_fit_and_select_say_what_they_take():
    with pytest.raises(sx.ConfigurationError, match="HMM\\(n_states\\)"):
        sx.fit("hmm", DATA)
    with pytest.raises(sx.ConfigurationError, match="at least one kind"):
        sx.select([], DATA)
    with pytest.raises(sx.ConfigurationError, match="n_states is 0; it must be a whole number from 1"):
        sx.LinearGaussian(0)


def test_a_fit_takes_one_sequence_a_seed_and_a_model_to_start_from():
    z = np.asarray(sx.sample(HMM, 1, 400)[1])
    by_seed = sx.fit(sx.HMM(2), z, 4, max_iterations=5, progress=False)
    by_key = sx.fit(sx.HMM(2), sx.Sequences.from_arrays([z]), jax.random.key(4), max_iterations=5, progress=False)
    np.testing.assert_array_equal(by_seed.log_likelihoods, by_key.log_likelihoods)
    further = sx.fit(by_seed.model, z, max_iterations=5, progress=False)
    assert further.log_likelihoods[0] == pytest.approx(by_seed.log_likelihood)
    assert "free parameters" in by_seed.summary()


def test_every_verb_of_the_table_is_public():
    public = {
        name for name, value in vars(verbs).items() if inspect.isfunction(value) and value.__module__ == verbs.__name__
    }
    assert {name for name in public if not name.startswith("_")} <= set(sx.__all__)
