"""Which state of a model of numbers is which: renumberings undone, what an assignment minimises, and what is refused."""

import itertools

import jax
import numpy as np
import pytest
from emission_oracles import NAMES, matrices, random_emission

import steerax as sx
from steerax.inference.densities.select import distances

E = sx.emissions


def renumbered(hmm, order):
    return sx.HiddenMarkovModel(
        hmm.initial[order], hmm.transition[np.ix_(order, order)], hmm.emission.permuted(order), channels=hmm.channels
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_alignment_undoes_a_renumbering(name):
    rng = np.random.default_rng(3)
    emission, _ = random_emission(name, rng, 4)
    names = [f"c{c}" for c in range(emission.n_channels)]
    hmm = sx.HiddenMarkovModel(rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), 4), emission, channels=names)
    mixed = np.array([3, 0, 2, 1])
    aligned, order = sx.align_states(renumbered(hmm, mixed), hmm)
    np.testing.assert_array_equal(mixed[order], np.arange(4))
    assert aligned.channels == hmm.channels
    jax.tree.map(np.testing.assert_array_equal, aligned, hmm)


def test_distances_of_normal_distributions_are_the_root_of_their_divergence():
    rng = np.random.default_rng(0)
    means, S = rng.normal(size=(2, 3, 2)), [matrices(rng, 3, 2) for _ in range(2)]
    one, two = (E.Gaussian(m, s) for m, s in zip(means, S, strict=True))

    def divergence(m, S, n, R):
        """Of one normal distribution from another, in closed form."""
        inverse = np.linalg.inv(R)
        log_det = np.linalg.slogdet(R)[1] - np.linalg.slogdet(S)[1]
        return (np.trace(inverse @ S) + (n - m) @ inverse @ (n - m) - 2 + log_det) / 2

    exact = np.zeros((3, 3))
    for x, y in itertools.product(range(3), repeat=2):
        there = divergence(means[1, x], S[1][x], means[0, y], S[0][y])
        exact[x, y] = (there + divergence(means[0, y], S[0][y], means[1, x], S[1][x])) / 2
    np.testing.assert_allclose(distances(one, two), np.sqrt(exact), rtol=0.15)
    assert (np.diag(distances(one, one)) == 0).all()


def test_states_that_differ_by_a_correlation_only_are_told_apart():
    S = np.array([[[1, 0.8], [0.8, 1]], [[1, -0.8], [-0.8, 1]]])
    hmm = sx.HiddenMarkovModel([0.5, 0.5], np.full((2, 2), 0.5), E.Gaussian(np.zeros((2, 2)), S))
    near = sx.HiddenMarkovModel([0.5, 0.5], np.full((2, 2), 0.5), E.Gaussian(np.full((2, 2), 0.2), 0.9 * S[::-1]))
    assert sx.align_states(near, hmm)[1].tolist() == [1, 0]


def test_states_that_no_observation_confuses_go_to_the_nearest():
    level = np.array([[0.0], [100.0], [200.0]])
    hmm = sx.HiddenMarkovModel(np.ones(3) / 3, np.full((3, 3), 1 / 3), E.Gaussian(level, np.ones((3, 1, 1))))
    near = renumbered(hmm, np.array([2, 0, 1]))
    near = sx.HiddenMarkovModel(*near.parameters[:2], E.Gaussian(near.emission.mean + 30, near.emission.covariance))
    assert sx.align_states(near, hmm)[1].tolist() == [1, 2, 0]


def test_impossible_observations_are_farther_than_all_others():
    hmm = sx.HiddenMarkovModel(np.ones(3) / 3, np.full((3, 3), 1 / 3), E.Poisson([[0.0], [2.0], [50.0]]))
    assert sx.align_states(renumbered(hmm, np.array([1, 2, 0])), hmm)[1].tolist() == [2, 0, 1]


def test_equal_emissions_are_told_apart_by_how_long_states_last():
    A = np.array([[0.9, 0.1], [0.6, 0.4]])
    hmm = sx.HiddenMarkovModel([0.5, 0.5], A, E.Poisson([[2.0], [2.0]]))
    assert sx.align_states(renumbered(hmm, np.array([1, 0])), hmm)[1].tolist() == [1, 0]


GAUSSIAN = sx.HiddenMarkovModel([1.0], [[1.0]], E.Gaussian([[0.0]], [[[1.0]]]))


@pytest.mark.parametrize(
    "other",
    [
        sx.HiddenMarkovModel([1.0], [[1.0]], [[1.0]]),
        sx.HiddenMarkovModel([1.0], [[1.0]], E.Gaussian([[0.0, 0.0]], [np.eye(2)])),
        sx.HiddenMarkovModel([0.5, 0.5], np.eye(2), E.Poisson([[0.0], [1.0]])),
    ],
)
def test_rejects_models_of_other_sizes(other):
    for pair in ((GAUSSIAN, other), (other, GAUSSIAN)):
        with pytest.raises(sx.ConfigurationError, match="States are aligned"):
            sx.align_states(*pair)
