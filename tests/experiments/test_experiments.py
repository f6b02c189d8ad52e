"""The pieces of single experiments, each against something slower or known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steerax import dual_filter, solvers
from steerax.data.scores import TokenScores
from steerax.data.vocabulary import Vocabulary
from steerax.experiments import networks
from steerax.experiments.adapted import experiment as adapted
from steerax.experiments.complexity import experiment as complexity
from steerax.experiments.optimality import ternary
from steerax.experiments.real_data import experiment as real_data
from steerax.experiments.two_cycle import experiment as two_cycle
from steerax.inference.hmm.filter import filter_tokens
from steerax.lifted import tasks
from steerax.lifted.problem.r1 import Readout
from steerax.models import two_cycle as make_two_cycle

# ---- optimality


def random_networks(depth: int, number: int):
    for i in range(number):
        free = ternary.Free.random(jax.random.key(i), depth)
        yield free._replace(threshold=3 * free.threshold).quantised()


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2])
def test_the_differentiable_network_is_the_integer_network(depth):
    problem = tasks.parity(4)
    x = ternary.Data.of(problem).x
    given = set()
    for free in random_networks(depth, 30):
        integer = problem.model.network(free.weights())(problem.tokens)
        np.testing.assert_array_equal(np.asarray(ternary.labels(free, x, problem.model.levels)), integer == 1)
        given.add(integer.tobytes())
    assert len(given) > 5


@pytest.mark.slow
def test_rounding_passes_derivatives_through():
    exact, smooth = lambda x: jnp.floor(x), lambda x: x**2
    value, slope = jax.value_and_grad(lambda x: ternary._through(exact(x), smooth(x)))(3.7)
    assert (float(value), float(slope)) == (3.0, pytest.approx(7.4))
    many = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    np.testing.assert_array_equal(
        ternary._through(jnp.round(many), jnp.asarray(many)), np.round(many)
    )  # no rounding error
    data = ternary.Data.of(tasks.parity(4))
    slopes = jax.grad(ternary.loss)(ternary.Free.random(jax.random.key(1), 2), data, 2, True)
    assert all(float(jnp.abs(s).max()) > 0 for s in (slopes.Q, slopes.K, slopes.V, slopes.w))


def test_the_best_read_out_is_found_by_trying_all():
    problem = tasks.contains(4, "101")
    reach = 2 * problem.model.levels + 1
    readouts = [
        Readout(tuple(w), t, flipped)
        for w in problem.model.directions.tolist()
        for t in range(-reach, reach + 2)
        for flipped in (False, True)
    ]
    for free in random_networks(1, 3):
        weights = free.weights()
        tried = [problem.errors(problem.model.network(weights._replace(readout=r))(problem.tokens)) for r in readouts]
        assert ternary.best_readout(problem, free) == min(tried)


@pytest.mark.slow
def test_training_and_search_never_lose_what_they_found():
    problem = tasks.sorted(4)
    trained = ternary.train(problem, 1, 20, 0.05, True, jax.random.key(0), 3)
    drawn = ternary.random_search(problem, 1, 50, 3, jax.random.key(0))
    for best, shape in ((trained.best, (3, 21)), (drawn, (3, 50))):
        assert best.shape == shape
        assert (np.diff(best, axis=1) <= 0).all()
        assert (best >= 1).all()  # the proven optimum of this task with one layer
        assert best.max() <= problem.total


# ---- complexity


@pytest.mark.slow
def test_the_growing_filter_and_the_dual_filter_agree():
    model = complexity.operator_model(12, 3, seed=1)
    z = np.asarray(model.sample(jax.random.key(0), 12)[1])
    dual = dual_filter(model, z, solver=solvers.ClosedLoop(lags=8)).predicted.mean
    np.testing.assert_allclose(complexity.growing_kalman(model, z), np.asarray(dual), atol=1e-9)


def test_an_exponent_is_the_slope_of_a_power_law():
    rng = np.random.default_rng(0)
    noisy = {n: [3e-9 * n**2.5 * (1 + 0.02 * e) for e in rng.normal(size=9)] for n in (10, 64, 128, 256)}
    noisy[10] = [1.0] * 9  # the smallest size does not count
    order = complexity.fit({n: complexity.Cost(t, 0) for n, t in noisy.items()})
    assert order.sizes == (64, 128, 256)
    assert order.low <= 2.5 <= order.high
    assert order.exponent == pytest.approx(2.5, abs=0.05)


# ---- adapted weights, processes, data


@pytest.mark.slow
def test_the_network_is_looked_at_when_asked():
    seen = []
    recipe = networks.Recipe(width=2, length=8, steps=30, batch=4)
    process = make_two_cycle(4, 2)
    gpt, losses = networks.trained(
        process,
        recipe,
        jax.random.key(0),
        at=(0, 10, 30),
        look=lambda gpt, step: seen.append((step, np.array(gpt.token_embedding))),
    )
    assert [step for step, _ in seen] == [0, 10, 30]
    assert len(losses) == 30
    embeddings = [embedding for _, embedding in seen]
    assert np.abs(embeddings[0] - embeddings[1]).max() > 0
    np.testing.assert_array_equal(embeddings[2], np.asarray(gpt.token_embedding))


def test_weights_are_compared_by_their_largest_entries():
    a, b = np.array([9.0, 1, 8, 2, 7, 3, 6, 5]), np.array([9.0, 1, 8, 2, 7, 3, 0, 0])
    assert adapted.overlap(a, a) == 1.0
    assert adapted.overlap(a, b) == 3 / 5
    looked = adapted.Look(10, np.stack([b, -b]), 0.0, np.stack([a, a]), 0.5)
    U, strings = np.stack([b, b]), np.stack([b > 5, b > 5]).astype(int)
    found = adapted.measure(looked, U, U, U == 0, strings)
    assert found["correlation_of_U_with_the_filter"] == pytest.approx([0.0, -1.0, 1.0])
    assert found["attention_on_ones"][0] == pytest.approx(a[b > 5].sum() / a.sum())
    assert found["largest_U_where_certain"] == 0.0


def test_the_order_of_a_process_is_that_of_all_its_histories():
    def slow_order(hmm, history):
        laws = {}
        for string in itertools.product((0, 1), repeat=history):
            found = filter_tokens(hmm, np.array(string, np.int32), on_impossible="skip")
            if np.isfinite(found.log_likelihood):
                laws[string] = np.asarray(found.next(-1))
        for k in range(history + 1):
            groups = {}
            for string, law in laws.items():
                groups.setdefault(string[history - k :], []).append(law)
            if all(np.ptp(group, axis=0).max() < 1e-9 for group in groups.values()):
                return k, len(laws)
        return history + 1, len(laws)

    hmm = make_two_cycle(4, 1, 0.5, "stationary")
    assert two_cycle.markov_order(hmm, 7) == slow_order(hmm, 7)


def test_a_program_becomes_its_kinds_of_tokens():
    kinds = real_data.token_kinds("def f(x):  # why\n\n    return x + 1.5\n")
    assert kinds == [
        "def", "NAME", "(", "NAME", ")", ":", "NEWLINE", "INDENT", "return", "NAME", "+", "NUMBER", "NEWLINE", "DEDENT",
    ]  # fmt: skip


def test_training_never_sees_what_is_held_out():
    config = real_data.Config(length=4, windows=7)
    vocabulary = Vocabulary.of_codes(1000)
    source = real_data.windows("n", "d", np.arange(1000), vocabulary, config)
    assert source.training.values.max() < source.held_out.values[source.held_out.mask].min()
    assert (source.held_out.number, source.held_out.max_length) == (7, 5)


def test_a_gain_is_a_difference_of_losses():
    config = real_data.Config(length=4, windows=7)
    source = real_data.windows("n", "d", np.arange(1000), Vocabulary.of_codes(1000), config)
    score = lambda p: TokenScores(np.full((7, 4), np.log(p)), np.ones((7, 4), bool))
    found = real_data.Found(source, {"a": score(0.5), "b": score(0.25)}, {}, 0.0, {})
    assert found.gain("a", "b")[0] == pytest.approx(np.log(2))
    assert found.gain("a", "b")[1] == pytest.approx(0.0)


def test_equal_processes_share_one_compiled_step():
    batches = [networks.Batches(make_two_cycle(4, 2, p), 4, 9) for p in (0.5, 0.5, 0.4)]
    assert batches[0] == batches[1]
    assert hash(batches[0]) == hash(batches[1])
    assert batches[0] != batches[2]
    assert batches[0] != networks.Batches(make_two_cycle(4, 2), 4, 10)
    assert networks.optimiser_of(10, 1e-2, None) is networks.optimiser_of(10, 1e-2, None)
