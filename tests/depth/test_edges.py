"""Edges from heads: predicted and measured removals against a network whose every connection has a gate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steerax.depth.measure import edges as e
from steerax.depth.measure.costate import costates, half_step_states

L, H = 2, 2


@pytest.fixture(scope="module")
def gpt(make_small_gpt):
    return make_small_gpt(n_layer=L, scale=0.3)


@jax.jit
def gated_losses(gpt, tokens, targets, cut):
    """Summed loss of each sequence; `cut` holds the share of each edge that is taken away. Head by head, as written."""

    def one(tokens, targets):
        X, wrote = gpt.embed(tokens), {}
        for l in range(L):
            block = gpt.block(l)
            for h in range(H):
                seen = X - sum(cut.heads[s, g, l, h] * wrote[s, g] for s in range(l) for g in range(H))
                wrote[l, h] = block.head_outputs(seen)[h]
            X = X + sum(wrote[l, h] for h in range(H)) + block.out.bias[None]
            seen = X - sum(cut.mlp[s, g, l] * wrote[s, g] for s in range(l + 1) for g in range(H))
            X = X + block.mlp_increment(seen)
        X = X - sum(cut.readout[s, g] * wrote[s, g] for s in range(L) for g in range(H))
        logits = gpt.unembed(X)
        losses = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, jnp.maximum(targets, 0)[:, None], -1)[:, 0]
        return jnp.where(targets >= 0, losses, 0).sum()

    return jax.vmap(one)(tokens, targets)


NONE = e.Edges(np.zeros((L, H, L, H)), np.zeros((L, H, L)), np.zeros((L, H)))


@pytest.mark.slow
def test_first_order_is_the_derivative_in_the_gate_of_an_edge(gpt, small_batch):
    tokens, targets = small_batch
    N = int((targets >= 0).sum())
    slope = jax.jit(jax.grad(lambda cut: gated_losses(gpt, tokens, targets, cut).sum() / N))(NONE)
    found = e.edge_importance(gpt, tokens, targets, jax.random.key(0), 1)
    for a, b in zip(found.first, slope, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)


def test_edges_split_the_ledger_of_their_head(gpt, small_batch):
    tokens, targets = small_batch
    first = e.edge_importance(gpt, tokens, targets, jax.random.key(0), 1).first
    total = first.heads.sum((2, 3)) + first.mlp.sum(2) + first.readout
    np.testing.assert_allclose(-total, costates(gpt, tokens, targets).ledger.heads.sum((2, 3)), rtol=1e-9, atol=1e-14)


@pytest.mark.slow
def test_fisher_is_the_expected_square_over_labels(gpt, small_batch):
    tokens = small_batch[0]
    targets = jnp.full_like(tokens, -1).at[:, 3].set(2)  # one label a sequence: the expectation is a sum over 7
    probabilities = jax.nn.softmax(jax.vmap(gpt)(tokens)[:, 3])
    slopes = jax.jit(jax.jacobian(lambda cut, y: gated_losses(gpt, tokens, targets.at[:, 3].set(y), cut)))
    squares = lambda p, g: (p @ (g.reshape(3, -1) ** 2)).reshape(g.shape[1:]) / 2 / 3
    exact = NONE
    for y in range(7):
        of_label = jax.tree.map(lambda g, y=y: squares(probabilities[:, y], g), slopes(NONE, y))
        exact = jax.tree.map(jnp.add, exact, of_label)
    found = e.edge_importance(gpt, tokens, targets, jax.random.key(1), 300).fisher
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.3, atol=0.05 * float(b.max()))


def test_measured_removals_are_gates_fully_closed(gpt, small_batch):
    tokens, targets = small_batch
    N = int((targets >= 0).sum())
    loss = lambda cut: float(gated_losses(gpt, tokens, targets, cut).sum()) / N
    found = e.edge_removals(gpt, tokens, targets)
    for name in e.Edges._fields:
        for place in np.ndindex(getattr(NONE, name).shape):
            gates = getattr(NONE, name).copy()
            gates[place] = 1
            expected = loss(NONE._replace(**{name: gates})) - loss(NONE)
            reads = name == "readout" or (place[2] > place[0] if name == "heads" else place[2] >= place[0])
            np.testing.assert_allclose(getattr(found, name)[place], expected if reads else 0, rtol=1e-9, atol=1e-12)


def test_heads_that_read_the_same_state_are_the_block(gpt, small_batch):
    X = half_step_states(gpt, small_batch[0])[0, 0]
    apart = jax.jit(e.heads_reading)(gpt.block(0), jnp.stack([X, X]))
    np.testing.assert_allclose(apart, gpt.block(0).head_outputs(X), rtol=1e-12)


def test_ranking_names_every_edge_once():
    edges = e.Edges(*(np.random.default_rng(0).normal(size=part.shape) for part in NONE))
    found = e.ranked(edges)
    assert len({edge[:3] for edge in found}) == len(found) == 4 + 6 + 4
    assert found[0].value == max(edge.value for edge in found)
    assert any(edge == e.Edge(0, 1, "head 1.0", edges.heads[0, 1, 1, 0]) for edge in found)
