"""The class is the lifted Markov decision process, literally: plain dynamic programming over distributions gives the same value."""

import itertools

import attention_twin as twin
import numpy as np
import pytest
from test_classifier_search import problem_of

from steerax.lifted import Choice, Distribution, FiniteProblem, Reading, solve_dynamic
from steerax.lifted.classifier.heads import tests_of as heads_of
from steerax.lifted.classifier.network import _HARD, _MEAN, _Builder, build_network, with_reader
from steerax.lifted.classifier.search import search
from steerax.transformer.quantized import Forget, Local, Pool


def first_stage(context, shape):
    """The head of the context; registers become (state of the reader, token with what it saw)."""
    made = _Builder(shape)
    if context.kind == "last":
        made.measure_ends()
    if context.kind != "none":
        made.look_around(context)
    made.start()
    return made, (*made.steps, Forget((made.state, made.key)))


def layer(made, heads, codes):
    """Every table of tests, one or none for each code c of the reader's register; c ← 2c + bit."""
    for row in itertools.product([None, *heads], repeat=codes):
        steps, count, state = [], 2, 0
        double = np.repeat(2 * np.arange(codes)[:, None], len(made.keys.name), 1)
        steps.append(Local(0, 1, double))
        state, count = count, count + 1
        for c, head in enumerate(row):
            if head is None:
                continue
            mean, key, scores, values, bits = made.tables(head)
            assert key == made.key
            table = np.tile(made.keys.reader.astype(np.int64), (codes, 1)) * (not mean)
            table[c] = scores
            steps.append(Pool(0, 1, 1, table, _MEAN if mean else _HARD, values))
            move = np.repeat(np.arange(2 * codes)[:, None], len(bits), 1)
            move[2 * c] += bits
            steps.append(Local(state, count, move))
            state, count = count + 1, count + 2
        yield row, (*steps, Forget((state, 1)))


def distinct_heads(problem, context):
    """The tests of a context that differ on the rows, the first of each kind."""
    rows, V = [tuple(row) for row in problem.codes.tolist()], problem.shape.V
    found = {}
    for c in dict.fromkeys((problem.contexts[0], context)):
        for head in heads_of(c, problem.shape):
            bits = [bool(twin.bit(head, context, row, V)) for row in rows]
            if len(set(bits)) == 2:
                found.setdefault(tuple(b ^ bits[0] for b in bits), head)
    return list(found.values())


@pytest.mark.parametrize("seed", range(4))
def test_plain_dynamic_programming_gives_the_value_of_the_search(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.integers(0, 2, (5, 3)), rng.integers(0, 2, 5)
    family = ["count"] if seed < 2 else ["selection"]
    problem = problem_of(X, y, 2, 0.04, ["last" if seed % 2 else "repeat"], family)
    shape, price, unit, values = problem.shape, problem.price, int(problem.costs.max()), []
    readings = tuple(
        Reading("", unit * (np.array(labels)[:, None] != np.arange(2)[None, :]).astype(np.int64), np.array(labels))
        for labels in itertools.product(range(2), repeat=4)
    )
    for context in problem.contexts:
        made, steps = first_stage(context, shape)
        heads = distinct_heads(problem, context)
        stages = [(Choice("", steps, price * (context.kind != "none")),)]
        for codes in (1, 2):
            named = ((price * sum(h is not None for h in row), s) for row, s in layer(made, heads, codes))
            stages.append(tuple(Choice("", s, cost) for cost, s in named))
        embedding = build_network(context, 0, shape).embedding
        start = Distribution.embedded(embedding, with_reader(problem.codes, shape.V), y)
        values.append(solve_dynamic(FiniteProblem(embedding, start, tuple(stages), readings)).value())
    assert min(values) == search(problem).upper
