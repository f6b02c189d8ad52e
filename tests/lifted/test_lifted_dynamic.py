"""Facts about the lifted Markov decision process, on general small classes, as equalities of integers."""

import contextlib
import io
import itertools
import math

import numpy as np
import pytest

from steerax import ConfigurationError, DataError
from steerax.lifted import (
    Choice,
    Distribution,
    FiniteProblem,
    alphabet,
    classes,
    input_dependent_value,
    solve_dynamic,
    tasks,
)
from steerax.transformer.quantized import Forget, Pool

TABLES = {
    "hard": alphabet.hard_attention(),
    "mean": alphabet.mean_attention(),
    "softmax": alphabet.softmax_attention(1.0, 8),
    "linear": None,
}


def problem_on(tokens, labels, weights=None, attention="softmax", layers=1, heads=1, mlp=False, cost=0, logits=False):
    C, V = 2, 2
    embedding = classes.embed_levels(tokens.shape[1], V, C)
    stages = []
    for _ in range(layers):
        stages += classes.attention_stages(C, TABLES[attention], heads, cost=cost)
        if mlp:
            stages.append(classes.neuron_stage(C, (0, 1), cost))
    readings = classes.logit_readings(C, (1.0,)) if logits else classes.threshold_readings(C)
    return FiniteProblem(embedding, Distribution.embedded(embedding, tokens, labels, weights), tuple(stages), readings)


def brute_force(problem, distribution=None):
    sizes = [len(stage) for stage in (*problem.stages, problem.readings)]
    return min(problem.cost(choices, distribution) for choices in itertools.product(*map(range, sizes)))


def toolbox_value(problem):
    """V of the initial distribution by pymdptoolbox, on the Markov decision process whose states are (stage, distribution)."""
    mdp = pytest.importorskip("mdptoolbox.mdp")
    stages, end = (*problem.stages, problem.readings), ("end",)
    worst = problem.initial.cost(np.max([r.loss for r in problem.readings], axis=0))
    worst += sum(max(c.cost for c in stage) for stage in stages) + 1
    distributions, moves = {(0, problem.initial.key): problem.initial}, {}
    for t, stage in enumerate(stages):
        for state, distribution in [item for item in distributions.items() if item[0][0] == t]:
            for a, choice in enumerate(stage):
                if t == len(problem.stages):
                    moves[state, a] = end, -(choice.cost + distribution.cost(choice.loss))
                else:
                    after = distribution.push(choice.steps)
                    distributions[t + 1, after.key] = after
                    moves[state, a] = (t + 1, after.key), -choice.cost
    number = {state: i for i, state in enumerate([*distributions, end])}
    actions = max(map(len, stages))
    P, R = np.zeros((actions, len(number), len(number))), np.full((len(number), actions), -float(worst))
    R[number[end]] = 0
    for state, i in number.items():
        for a in range(actions):  # an action that a stage does not have ends it at a price nobody pays
            after, reward = moves.get((state, a), (end, R[i, a]))
            P[a, i, number[after]], R[i, a] = 1, reward
    with contextlib.redirect_stdout(io.StringIO()):
        toolbox = mdp.FiniteHorizon(P, R, 1.0, len(stages))
    toolbox.run()
    return -toolbox.V[0, 0]


def random_data(rng, N=6, n=3):
    return rng.integers(0, 2, (N, n)), rng.integers(0, 2, N), rng.integers(1, 5, N)


@pytest.mark.parametrize("attention", TABLES)
def test_dynamic_programming_equals_brute_force(attention):
    rng = np.random.default_rng(11)
    for options in ({"layers": 2}, {"heads": 2}, {"mlp": True, "cost": 1}, {"logits": True}):
        problem = problem_on(*random_data(rng), attention=attention, **options)
        policy = solve_dynamic(problem)
        assert policy.value() == brute_force(problem) == solve_dynamic(problem, merging=False).value()
        assert problem.cost(policy.roll_out()) == policy.value()


def test_a_toolbox_for_markov_decision_processes_finds_the_same_value():
    rng = np.random.default_rng(12)
    for options in ({}, {"mlp": True, "cost": 1}, {"attention": "hard"}):
        problem = problem_on(*random_data(rng), **options)
        assert toolbox_value(problem) == solve_dynamic(problem).value()


def test_closed_loop_equals_open_loop_and_the_network_reproduces_it():
    rng = np.random.default_rng(5)
    tokens, labels, weights = random_data(rng, 8)
    problem = problem_on(tokens, labels, weights, layers=2)
    policy = solve_dynamic(problem)
    choices = policy.roll_out()  # asked anew in every state
    assert problem.cost(choices) == policy.value()  # the same as the fixed list
    wrong = policy.network(tokens) != labels
    assert weights[wrong].sum() == policy.value()  # and as the deployed network


def test_each_sequence_alone_reproduces_the_joint_run():
    rng = np.random.default_rng(6)
    problem = problem_on(*random_data(rng, 8), layers=2)
    choices = solve_dynamic(problem).roll_out()
    distribution = problem.initial
    alone = [problem.initial.part([i]) for i in range(len(distribution.weights))]
    for stage, a in zip(problem.stages, choices, strict=False):
        distribution, alone = distribution.push(stage[a].steps), [atom.push(stage[a].steps) for atom in alone]
    joined = Distribution.of(
        [np.concatenate([a.registers[0] for a in alone])],
        np.concatenate([a.labels for a in alone]),
        np.concatenate([a.weights for a in alone]),
    )
    assert joined.key == distribution.key


def test_the_list_depends_on_the_law_and_an_input_dependent_policy_is_strictly_better():
    tokens = tasks.all_strings(3)
    labels = tokens.sum(1) % 2
    problem = problem_on(tokens, labels, layers=1)
    joint = solve_dynamic(problem).value()
    assert input_dependent_value(problem) == 0 < joint  # what no transformer may do
    policy = solve_dynamic(problem)
    lists = {tuple(policy.roll_out(problem.initial.part([i, j]))) for i in range(8) for j in range(i)}
    assert len(lists) > 1


def test_value_is_concave_superadditive_and_homogeneous_in_the_law():
    rng = np.random.default_rng(8)
    tokens = tasks.all_strings(3)
    strict = False
    for _ in range(10):
        labels, a, b = rng.integers(0, 2, 8), rng.integers(1, 6, 8), rng.integers(1, 6, 8)
        V = lambda w, labels=labels: solve_dynamic(problem_on(tokens, labels, w)).value()
        assert V(a + b) >= V(a) + V(b)
        assert V(3 * a) == 3 * V(a)
        strict |= V(a + b) > V(a) + V(b)
    assert strict


def test_costs_of_weights_buy_sparse_networks_and_must_be_split_between_parts():
    rng = np.random.default_rng(4)
    tokens, labels, weights = random_data(rng, 8)
    free = problem_on(tokens, labels, weights)
    dear = problem_on(tokens, labels, weights, cost=10**6)
    choices = solve_dynamic(dear).roll_out()
    assert dear.weight_cost(choices) == 0
    assert dear.cost(choices) >= free.cost(solve_dynamic(free).roll_out())
    halves = [free.initial.part(np.arange(4)), free.initial.part(np.arange(4, len(free.initial.weights)))]
    split = problem_on(tokens, labels, weights, cost=2)  # r = 2 in the whole, 1 in each half
    half = problem_on(tokens, labels, weights, cost=1)
    assert solve_dynamic(split).value() >= sum(solve_dynamic(half).value(part) for part in halves)


def test_a_last_token_and_a_mean_readout_are_pools():
    C = 2
    embedding = classes.embed_levels(3, 2, C, position=False)
    tokens = tasks.all_strings(3)
    mean = Pool(0, 0, 0, np.zeros((5, 5), int), alphabet.mean_attention(), np.arange(-C, C + 1), rounding="odd")
    stage = (Choice("mean", (mean, Forget((1,)))),)
    labels = (tokens.sum(1) >= 2).astype(int)
    problem = FiniteProblem(
        embedding, Distribution.embedded(embedding, tokens, labels), (stage,), classes.threshold_readings(C)
    )
    assert solve_dynamic(problem).value() == 0


def test_position_wise_labels_are_learnt_by_causal_attention():
    """Every token is asked whether there has been a one so far; from its own value alone it cannot know."""
    tokens = tasks.all_strings(2)
    labels = np.maximum.accumulate(tokens, axis=1)
    C, embedding = 2, np.array([[1, 3], [1, 3]])  # the values -1 and 1
    stages = classes.attention_stages(C, TABLES["mean"], causal=True)
    distribution = Distribution.embedded(embedding, tokens, labels)
    problem = FiniteProblem(embedding, distribution, tuple(stages), classes.threshold_readings(C))
    policy = solve_dynamic(problem)
    assert policy.value() == brute_force(problem) == 0
    assert (policy.network(tokens) == labels).all()
    alone = FiniteProblem(embedding, distribution, (), classes.threshold_readings(C))
    assert solve_dynamic(alone).value() == 1


def test_cross_entropy_tables_are_within_half_a_unit():
    logits = np.array([[0.3, -1.2, 2.0], [5.0, 5.0, -5.0]])
    table = classes.cross_entropy_table(logits)
    for row, units in zip(logits, table, strict=True):
        for y, u in enumerate(units):
            exact = math.log(sum(math.exp(v - row[y]) for v in row))
            assert abs(u * classes.CROSS_ENTROPY_UNIT - exact) <= 2.0**-33 * (1 + 1e-6)


def test_merging_finds_fewer_states():
    rng = np.random.default_rng(1)
    problem = problem_on(*random_data(rng, 4), layers=2)
    states = solve_dynamic(problem).states
    assert states[0] == 1
    assert states[-1] < math.prod(len(stage) for stage in problem.stages)


def test_rejects_malformed_problems():
    tokens, labels, weights = random_data(np.random.default_rng(0))
    embedding = classes.embed_levels(3, 2, 2)
    with pytest.raises(DataError, match="Labels"):
        Distribution.embedded(embedding, tokens, -labels - 1)
    with pytest.raises(DataError, match="Weights"):
        Distribution.embedded(embedding, tokens, labels, 0 * weights)
    with pytest.raises(ConfigurationError, match="at least one choice"):
        FiniteProblem(embedding, Distribution.embedded(embedding, tokens, labels), ((),), classes.threshold_readings(2))
    with pytest.raises(ConfigurationError, match="≥ 0"):
        problem_on(tokens, labels, cost=-1)
    with pytest.raises(ConfigurationError, match="input-dependent"):
        input_dependent_value(problem_on(tokens, labels, cost=1))
    with pytest.raises(ConfigurationError, match="heads=0"):
        classes.attention_stages(2, None, heads=0)
    with pytest.raises(ConfigurationError, match="logits"):
        classes.cross_entropy_table(np.array([[0.0, 1e6]]))
