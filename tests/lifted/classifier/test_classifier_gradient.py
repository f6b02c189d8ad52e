"""Gradient training of the class gives a network of the class, never better than the proven optimum."""

import numpy as np
import pytest
from test_classifier_search import problem_of, random_problem

from steerax.lifted.classifier.gradient import train
from steerax.lifted.classifier.problem import depth_of
from steerax.lifted.classifier.search import search

SLOW = pytest.mark.slow  # each number of tests compiles anew


@pytest.mark.parametrize("depth", [pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW), 3])
def test_what_training_finds_is_what_it_says_and_not_below_the_optimum(depth):
    for seed in range(2):
        problem = random_problem(np.random.default_rng(100 * depth + seed), depth)
        found, best = train(problem, seed, starts=2, steps=20), search(problem)
        assert found.objective == problem.objective(found.context, found.tree) >= best.upper
        assert depth_of(found.tree) <= depth


@pytest.mark.slow
def test_training_finds_a_rule_of_one_test_and_the_same_one_twice():
    rng = np.random.default_rng(0)
    X = rng.choice(list("abcd"), (200, 8))
    problem = problem_of(X, np.array(["ab" in "".join(row) for row in X]), 2, contexts=["back:1"], tests="auto")
    found = train(problem)
    assert found.objective == search(problem).upper
    assert found == train(problem)
